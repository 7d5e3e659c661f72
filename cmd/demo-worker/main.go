// Demo-worker is a Gin application on pkg/worker: the SDK's living example,
// and the program that masterd's own tests roll over, break and roll back.
//
// It runs by itself (then it listens on -addr), under systemd socket
// activation, and under masterd. What it answers:
//
//	GET  /ping            pong
//	GET  /healthz         200 ok, or what the switches below make of it
//	GET  /readyz          what load balancers ask: 200 ready, or 503 before a stop
//	GET  /version         version, process, state, what the background job did
//	GET  /job             the background job alone
//	GET  /slow?d=2s       an answer that takes its time (at most 10m)
//	GET  /drip?n=1&d=30s  n bytes of numbered lines, spread over d
//	POST /upload          the size and SHA-256 of the body
//	GET  /stream?every=1s Server-Sent Events, until either side leaves
//	GET  /ws              WebSocket echo
//	GET  /table           with -table: a large table that the versions share
//	GET  /list            a list that outlives this process; POST adds the body as an item
//	POST /crash           with DEMO_CRASH=1: the end of this process
//
// How a connection moves to the next version is in test/programs/chat: a room whose
// members stay connected.
//
// Every answer carries X-Worker-Version and X-Worker-Pid. Environment switches
// make it fail in every way that a deployment can; "demo-worker -h" lists them,
// and fault.go is where they are read.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
	"github.com/masterd/masterd/pkg/worker/ginworker"
)

func main() {
	code, err := run(os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo-worker:", err)
	}
	os.Exit(code)
}

// names splits a list at its commas; an empty one has none: a worker that only
// does its background job.
func names(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}

// run is the whole program; what it returns is the exit code.
func run(args []string) (int, error) {
	var o options
	if err := o.parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return 0, nil
		}
		return 2, err
	}
	f, err := readFaults(os.Getenv)
	if err != nil {
		return 2, err
	}
	if f.exit != 0 {
		return f.exit, errors.New(f.exitMessage)
	}

	w := worker.New(worker.Options{IgnoreSignals: f.ignoreTerm, Announce: o.announce})
	v := resolveVersion(w.Info().Label)
	if o.version {
		fmt.Println("demo-worker", v)
		return 0, nil
	}

	j := newJob(o.jobFile)
	r := ginworker.New()
	if o.accessLog {
		r.Use(gin.LoggerWithConfig(gin.LoggerConfig{SkipPaths: []string{"/healthz", "/readyz"}}))
	}
	r.Use(ginworker.Identify(v))
	f.install(r)
	var keep []worker.KeepOption
	if o.persist {
		keep = append(keep, worker.Persist())
	}
	tab := newTable(w, o.table)
	routes(r, w, v, j, newList(w, keep...), tab)

	for i, name := range names(o.listeners) {
		var opts []worker.ListenerOption
		if o.h2c {
			opts = append(opts, worker.H2C())
		}
		if i == 0 {
			opts = append(opts, worker.Address(o.address))
		}
		w.Handle(name, r, opts...)
	}
	if o.cert != "" {
		w.Handle("https", r, worker.Address(o.tlsAddress), worker.TLS(o.cert, o.key))
	}
	w.BeforeReady(f.beforeReady)
	w.BeforeReady(tab.load)
	w.OnActive(j.run)

	err = w.Run(context.Background())
	tab.close()
	f.beforeExit()
	if err != nil {
		return 1, err
	}
	return 0, nil
}
