package worker

import (
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// counted is all that a master would be told, by route of the listener "http", once no request
// runs.
func counted(t *testing.T, w *running) (ipc.ListenerCounts, map[string]ipc.RouteCounts) {
	t.Helper()
	workertest.Eventually(t, "no request runs", func() bool { return w.Stats().InFlight == 0 })
	report := w.core.Traffic.Counts.Report(measures, 0)
	routes := make(map[string]ipc.RouteCounts)
	for more := true; more; {
		var c *ipc.Counts
		if c, more = report.Next(); len(c.Listeners) != 1 || c.Listeners[0].Listener != "http" {
			t.Fatalf("listeners %+v", c.Listeners)
		}
		for _, r := range c.Routes {
			routes[r.Route] = r
		}
		if !more {
			return c.Listeners[0], routes
		}
	}
	panic("unreachable")
}

// latencies is how many requests have one.
func latencies(r ipc.RouteCounts) (n uint64) {
	for i := 1; i < len(r.Latency); i += 2 {
		n += r.Latency[i]
	}
	return n
}

// shop answers in every way.
func shop() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /items/{id}", func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "item "+r.PathValue("id")) })
	mux.HandleFunc("POST /orders", func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		w.WriteHeader(http.StatusCreated)
		w.WriteHeader(http.StatusInternalServerError) // which net/http ignores, and so is not counted
		io.Copy(w, strings.NewReader(string(b)))
		w.Write(b)
	})
	mux.HandleFunc("/empty", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("/hints", func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(http.StatusNoContent)
	})
	mux.Handle("/old", http.RedirectHandler("/empty", http.StatusFound))
	mux.HandleFunc("/fail", func(w http.ResponseWriter, r *http.Request) { http.Error(w, "no", http.StatusServiceUnavailable) })
	mux.HandleFunc("/odd", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(799) })
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	mux.HandleFunc("/late-panic", func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, "half")
		http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	return mux
}

// Requests of all kinds, by all protocols, many at a time.
func TestRequestsAreCounted(t *testing.T) {
	cert, key := workertest.WriteCertificate(t, t.TempDir(), 1)
	for name, kind := range map[string]struct {
		opts       []ListenerOption
		secure, h2 bool
	}{
		"HTTP/1":                  {},
		"HTTP/1 with slow bodies": {opts: []ListenerOption{MinBodyRate(1000, time.Minute)}},
		"h2c":                     {opts: []ListenerOption{H2C()}, h2: true},
		"h2c with slow bodies":    {opts: []ListenerOption{H2C(), MinBodyRate(1000, time.Minute)}, h2: true},
		"HTTP/1 over TLS":         {opts: []ListenerOption{TLS(cert, key)}, secure: true},
		"HTTP/2":                  {opts: []ListenerOption{TLS(cert, key)}, secure: true, h2: true},
	} {
		t.Run(name, func(t *testing.T) {
			w, addr := alone(t, shop(), kind.opts...)
			p := new(http.Protocols)
			p.SetHTTP1(!kind.h2)
			p.SetHTTP2(kind.h2 && kind.secure)
			p.SetUnencryptedHTTP2(kind.h2 && !kind.secure)
			tr := &http.Transport{Protocols: p, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
			defer tr.CloseIdleConnections()
			url := "http://" + addr
			if kind.secure {
				url = "https://" + addr
			}
			const clients, rounds = 8, 2
			var wg sync.WaitGroup
			for range clients {
				wg.Add(1)
				go func() {
					defer wg.Done()
					for range rounds {
						for _, ask := range []string{"GET /items/17", "HEAD /items/4", "POST /orders", "GET /empty", "GET /hints",
							"GET /old", "GET /fail", "GET /odd", "GET /nowhere", "DELETE /orders", "GET /late-panic", "POST /panic"} { // not GET, which net/http's client sends again
							method, path, _ := strings.Cut(ask, " ")
							var body io.Reader
							if method == "POST" {
								body = strings.NewReader("one of it")
							}
							req, err := http.NewRequest(method, url+path, body)
							if err != nil {
								t.Error(err)
								return
							}
							resp, err := tr.RoundTrip(req)
							if path == "/panic" {
								if err == nil {
									t.Error("a panic was swallowed")
								}
								continue
							} else if err != nil {
								t.Error(ask, err)
								return
							}
							if _, err = io.Copy(io.Discard, resp.Body); (err != nil) != (path == "/late-panic") {
								t.Error(ask, err)
							}
							resp.Body.Close()
						}
					}
				}()
			}
			wg.Wait()
			l, routes := counted(t, w)
			const n = clients * rounds
			for route, want := range map[string]ipc.RouteCounts{
				"GET /items/{id}": {Status: [5]uint64{0, 2 * n}, BytesOut: n * 7},
				"POST /orders":    {Status: [5]uint64{0, n}, BytesIn: n * 9, BytesOut: n * 18},
				"/empty":          {Status: [5]uint64{0, n}},
				"/hints":          {Status: [5]uint64{0, n}},
				"/old":            {Status: [5]uint64{0, 0, n}, BytesOut: n * 29},
				"/fail":           {Status: [5]uint64{0, 0, 0, 0, n}, BytesOut: n * 3},
				"/odd":            {Status: [5]uint64{0, 0, 0, 0, n}},
				"/panic":          {Status: [5]uint64{0, 0, 0, 0, n}, BytesIn: n * 9},
				"/late-panic":     {Status: [5]uint64{0, 0, 0, 0, n}, BytesOut: n * 4},
				"other":           {Status: [5]uint64{0, 0, 0, 2 * n}, BytesOut: n * uint64(len("404 page not found\n")+len("Method Not Allowed\n"))},
			} {
				got := routes[route]
				if got.Status != want.Status || got.BytesIn != want.BytesIn || got.BytesOut != want.BytesOut {
					t.Errorf("%s: %+v, wanted %+v", route, got, want)
				}
				if sum := got.Status[1] + got.Status[2] + got.Status[3] + got.Status[4]; latencies(got) != sum || got.NS == 0 {
					t.Errorf("%s: %d latencies, %d ns", route, latencies(got), got.NS)
				}
				delete(routes, route)
			}
			if len(routes) != 0 {
				t.Errorf("there are %+v too", routes)
			}
			if s := w.Stats(); l.InFlight != 0 || l.Accepted != s.Accepted || l.Accepted == 0 || s.Requests != 12*n {
				t.Errorf("%+v, %+v", l, s)
			}
			tr.CloseIdleConnections()
			workertest.Eventually(t, "no connection is open", func() bool { l, _ := counted(t, w); return l.Open == 0 })
		})
	}
}

// What has become another protocol is a request of the first class, and has no latency.
func TestSwitchedProtocolsAreCounted(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/said", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Connection", "Upgrade")
		w.Header().Set("Upgrade", "x")
		w.WriteHeader(http.StatusSwitchingProtocols)
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		c.Close()
	})
	mux.HandleFunc("/written", func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		w.Write([]byte("which net/http refuses"))
		c.Close()
	})
	mux.HandleFunc("/panics", func(w http.ResponseWriter, r *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		c.Close()
		panic(http.ErrAbortHandler)
	})
	w, addr := alone(t, mux)
	for _, path := range []string{"/said", "/written", "/panics"} {
		c := workertest.Dial(t, addr)
		if err := c.Write("GET", path, ""); err != nil {
			t.Fatal(err)
		}
		if resp, err := http.ReadResponse(c.Reader, nil); err != nil || resp.StatusCode != 101 {
			t.Fatal(path, resp, err)
		}
		c.WantEnd(t)
	}
	_, routes := counted(t, w)
	for path, want := range map[string][5]uint64{"/said": {1}, "/written": {1}, "/panics": {4: 1}} {
		if r := routes[path]; r.Status != want || latencies(r) != 0 || r.NS != 0 || r.BytesOut != 0 {
			t.Errorf("%s: %+v", path, r)
		}
	}
}

// What runs is in flight on its listener, and health checks are not counted.
func TestInFlightIsOfAListener(t *testing.T) {
	entered, goOn := make(chan struct{}), make(chan struct{})
	w, addr := alone(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-goOn
	}))
	for range 3 {
		c := workertest.Dial(t, addr)
		if err := c.Write("GET", "/", ""); err != nil {
			t.Fatal(err)
		}
		workertest.Comes(t, entered)
	}
	c, _ := w.core.Traffic.Counts.Report(measures, 0).Next()
	if l := c.Listeners[0]; l != (ipc.ListenerCounts{Listener: "http", InFlight: 3, Open: 3, Accepted: 3}) || len(c.Routes) != 0 {
		t.Errorf("%+v, %+v", l, c.Routes)
	}
	close(goOn)
	if _, routes := counted(t, w); routes["other"].Status[1] != 3 {
		t.Errorf("%+v", routes)
	}
}

// A program with more routes than are told apart has the rest in one.
func TestRoutesOfARouterAreBounded(t *testing.T) {
	const routes = 1000
	mux := http.NewServeMux()
	for n := range routes {
		mux.HandleFunc(fmt.Sprintf("GET /r%d/{id}", n), func(http.ResponseWriter, *http.Request) {})
	}
	w, addr := alone(t, mux)
	c := workertest.Dial(t, addr)
	for n := range routes {
		c.Want(t, fmt.Sprintf("/r%d/x", n), "", false)
	}
	_, got := counted(t, w)
	if len(got) != ipc.MaxRoutes+1 || got["other"].Status[1] != routes-ipc.MaxRoutes || got["GET /r63/{id}"].Status[1] != 1 {
		t.Errorf("%d routes, of other %+v", len(got), got["other"])
	}
}
