package main

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"time"
)

// options are the command line's.
type options struct {
	address    string
	listeners  string
	tlsAddress string
	cert, key  string
	jobFile    string
	accessLog  bool
	h2c        bool
	persist    bool
	table      int
	version    bool
	announce   time.Duration
}

func (o *options) parse(args []string) error {
	fs := flag.NewFlagSet("demo-worker", flag.ContinueOnError)
	fs.StringVar(&o.address, "addr", cmp.Or(os.Getenv("DEMO_ADDR"), "127.0.0.1:8080"), "listen on `host:port` when nobody hands over a socket")
	fs.StringVar(&o.listeners, "listeners", cmp.Or(os.Getenv("DEMO_LISTENERS"), "http"), "serve the listeners with these `names`, separated by commas")
	fs.StringVar(&o.tlsAddress, "tls-addr", "127.0.0.1:8443", "listen on `host:port` for https when nobody hands over a socket")
	fs.StringVar(&o.cert, "cert", os.Getenv("DEMO_CERT"), "serve the listener https too, with the certificate in this PEM `file`")
	fs.StringVar(&o.key, "key", os.Getenv("DEMO_KEY"), "PEM `file` with the key of -cert")
	fs.StringVar(&o.jobFile, "job-file", os.Getenv("DEMO_JOB_FILE"), "append each start and stop of the background job to this `file`")
	fs.BoolVar(&o.accessLog, "access-log", os.Getenv("DEMO_ACCESS_LOG") != "", "log each request, save those for /healthz and /readyz")
	fs.BoolVar(&o.h2c, "h2c", os.Getenv("DEMO_H2C") != "", "take HTTP/2 without TLS too")
	fs.DurationVar(&o.announce, "announce", 0, "without a master: after TERM, serve on for so `long` with /readyz answering 503, then drain")
	fs.BoolVar(&o.persist, "persist", os.Getenv("DEMO_PERSIST") != "", "have the master keep the list across a stop of the service")
	fs.IntVar(&o.table, "table", 0, "share a table of so many `MiB` with the other version")
	fs.BoolVar(&o.version, "version", false, "print the version and exit")
	fs.Usage = func() {
		fmt.Fprintf(fs.Output(), "usage: demo-worker [flags]\n\nA small Gin service that runs alone, under systemd and under masterd.\n\n")
		fs.PrintDefaults()
		fmt.Fprintf(fs.Output(), "\nIn the environment the same is set by DEMO_ADDR, DEMO_LISTENERS, DEMO_CERT, DEMO_KEY,\nDEMO_JOB_FILE, DEMO_ACCESS_LOG=1, DEMO_H2C=1, DEMO_PERSIST=1 and DEMO_TABLE.\n\nSwitches in the environment, to make it fail:\n\n%s", faultTable())
	}
	if v := os.Getenv("DEMO_TABLE"); v != "" {
		if err := fs.Set("table", v); err != nil {
			return fmt.Errorf("DEMO_TABLE=%q: %w", v, err)
		}
	}
	if err := fs.Parse(args); err != nil {
		return err
	}
	if o.table < 0 || o.table > maxTable {
		return fmt.Errorf("-table is 0 to %d MiB", maxTable)
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("%q is no flag; see demo-worker -h", fs.Arg(0))
	}
	return nil
}
