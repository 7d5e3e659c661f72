// Resilience is a small service that calls another one: with a time-out for each call, and a
// circuit breaker that stops calling after five failures in a row. Its background work keeps
// a connection to something else, and makes it again when it breaks.
//
//	GET /price    what the other service says, or 503 at once while it is down
//	GET /healthz  ok, whatever the other service does
package main

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/sony/gobreaker/v2"

	"github.com/masterd/masterd/pkg/worker"
)

const (
	perCall  = 2 * time.Second  // for one call, with its answer
	failures = 5                // in a row, until nothing is called any more
	pause    = 10 * time.Second // until one call is tried again
	maxBody  = 1 << 20          // bytes of an answer
)

// prices asks the service behind url.
type prices struct {
	url     string
	client  http.Client
	breaker *gobreaker.CircuitBreaker[[]byte]
}

func newPrices(url string, pause time.Duration) *prices {
	return &prices{url: url, client: http.Client{Timeout: perCall}, breaker: gobreaker.NewCircuitBreaker[[]byte](gobreaker.Settings{
		Name:        "prices",
		Timeout:     pause,
		ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= failures },
		// A client of ours that has gone away is no fault of theirs.
		IsSuccessful: func(err error) bool { return err == nil || errors.Is(err, context.Canceled) },
	})}
}

// get is one call. It does not retry: a retry of each client's request is what keeps a
// service down that has just come up.
func (p *prices) get(ctx context.Context) ([]byte, error) {
	return p.breaker.Execute(func() ([]byte, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.url, nil)
		if err != nil {
			return nil, err
		}
		resp, err := p.client.Do(req)
		if err != nil {
			return nil, err
		}
		defer resp.Body.Close()
		if resp.StatusCode >= http.StatusInternalServerError {
			return nil, fmt.Errorf("the price service answered %s", resp.Status)
		}
		return io.ReadAll(io.LimitReader(resp.Body, maxBody))
	})
}

func routes(p *prices) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /price", func(w http.ResponseWriter, r *http.Request) {
		price, err := p.get(r.Context())
		if err != nil {
			w.Header().Set("Retry-After", "10")
			http.Error(w, "no price at the moment: "+err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write(price)
	})
	return mux
}

// listen is one session with whatever sends news about prices: here any server that keeps a
// connection open and says something on it, in real life a broker.
func listen(ctx context.Context) error {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", cmp.Or(os.Getenv("NEWS_ADDRESS"), "127.0.0.1:9001"))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	defer conn.Close()
	for news := bufio.NewScanner(conn); ; {
		if !news.Scan() {
			return cmp.Or(news.Err(), io.EOF)
		}
		log.Print("resilience: news: ", news.Text())
	}
}

func main() {
	p := newPrices(cmp.Or(os.Getenv("PRICES_URL"), "http://127.0.0.1:9000/price"), pause)
	w := worker.New(worker.Options{})
	w.Handle("http", routes(p), worker.Address("127.0.0.1:8080"))
	w.OnActive(func(ctx context.Context) {
		again(ctx, listen, func(err error) { log.Print("resilience: connecting again: ", err) })
	})
	if err := w.Run(context.Background()); err != nil {
		log.Fatal("resilience: ", err)
	}
}
