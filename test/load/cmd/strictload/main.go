// Strictload puts a load on an HTTP/1.1 server and forgives nothing: see
// package load. It exits 1 when a request failed.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/masterd/masterd/test/load"
)

const reportEvery = time.Second

func main() {
	var plan load.Plan
	flag.StringVar(&plan.Addr, "addr", "127.0.0.1:8080", "host:port, or the path of a Unix socket")
	flag.IntVar(&plan.Rate, "rate", 1000, "requests a second in all; 0: as fast as answers come")
	flag.IntVar(&plan.Kept, "kept", 16, "workers that keep their connection")
	flag.IntVar(&plan.Fresh, "new", 16, "workers that make a new connection for each request")
	flag.StringVar(&plan.Method, "method", "", "default GET, POST with a body")
	flag.StringVar(&plan.Path, "path", "/", "what is asked for")
	flag.IntVar(&plan.Body, "body", 0, "bytes in each request's body")
	flag.DurationVar(&plan.Timeout, "timeout", 10*time.Second, "for one request")
	flag.IntVar(&plan.Sources, "sources", 0, "how many loopback addresses to come from")
	status := flag.Int("status", 200, "the status wanted")
	duration := flag.Duration("duration", 10*time.Second, "how long; 0: until interrupted")
	asJSON := flag.Bool("json", false, "the result as JSON")
	quiet := flag.Bool("quiet", false, "no line each second")
	flag.Parse()
	if flag.NArg() > 0 {
		fmt.Fprintf(os.Stderr, "strictload: unexpected argument %q\n", flag.Arg(0))
		os.Exit(2)
	}
	plan.Check = func(got int, _ load.Header, _ []byte) error {
		if got != *status {
			return fmt.Errorf("status %d", got)
		}
		return nil
	}

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if *duration > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, *duration)
		defer cancel()
	}
	running := load.Start(ctx, plan)
	if !*quiet {
		follow(ctx, running)
	}
	result := running.Wait()
	if *asJSON {
		_ = json.NewEncoder(os.Stdout).Encode(result.Summary())
	} else {
		fmt.Print(result)
	}
	if result.Failed() > 0 {
		os.Exit(1)
	}
}

// follow prints a line each second until ctx is done.
func follow(ctx context.Context, running *load.Load) {
	ticker := time.NewTicker(reportEvery)
	defer ticker.Stop()
	var before uint64
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			r := running.Snapshot()
			fmt.Fprintf(os.Stderr, "%6.1fs %7d/s  failed %d\n", r.Elapsed.Seconds(), r.Requests-before, r.Failed())
			before = r.Requests
		}
	}
}
