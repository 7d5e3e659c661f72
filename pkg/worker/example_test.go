package worker_test

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"time"

	"github.com/masterd/masterd/pkg/worker"
)

// A whole program: it runs under masterd, under systemd, and alone.
func Example() {
	mux := http.NewServeMux()
	mux.HandleFunc("/ping", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "pong") })

	w := worker.New(worker.Options{})
	w.Handle("http", mux, worker.Address("127.0.0.1:8080"))
	w.OnActive(func(ctx context.Context) { // never in two versions at one time
		for tick := time.Tick(time.Minute); ; {
			select {
			case <-tick:
				fmt.Println("cleaning up")
			case <-ctx.Done():
				return
			}
		}
	})
	if err := w.Run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// A stream of events that says goodbye when the worker is parked or drained, so
// that its client comes back to the version that has the traffic.
func ExampleLeaving() {
	_ = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		for tick := time.Tick(time.Second); ; {
			select {
			case now := <-tick:
				fmt.Fprintf(w, "data: %v\n\n", now)
				w.(http.Flusher).Flush()
			case <-worker.Leaving(r.Context()):
				return
			case <-r.Context().Done():
				return
			}
		}
	})
}

// More listeners, one of them with TLS whose files may be renewed at any time.
func ExampleWorker_Handle() {
	app, metrics := http.NewServeMux(), http.NewServeMux()
	w := worker.New(worker.Options{})
	w.Handle("https", app, worker.Address(":443"), worker.TLS("cert.pem", "key.pem"))
	w.Handle("metrics", metrics, worker.Address("127.0.0.1:9090"),
		worker.Server(func(s *http.Server) { s.WriteTimeout = 10 * time.Second }))
}
