//go:build linux

package worker

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/serve"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// A thousand clients that send a byte now and then are all ended, and one that uploads
// beside them, at no great speed, is not.
func TestAThousandSlowBodies(t *testing.T) {
	const attackers, grace, tick = 1000, 3 * time.Second, 300 * time.Millisecond
	s := newSlot(t, "http")
	var tooSlow atomic.Int64
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			n, err := io.Copy(io.Discard, r.Body)
			if errors.Is(err, ErrSlowBody) {
				tooSlow.Add(1)
				http.Error(rw, err.Error(), http.StatusRequestTimeout)
				return
			}
			fmt.Fprint(rw, n)
		}), MinBodyRate(1000, grace))
	})
	k.activate(s)

	var all []net.Conn
	for range attackers {
		c := workertest.Dial(t, s.addr).Conn
		fmt.Fprint(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nx")
		all = append(all, c)
	}
	stop := make(chan struct{})
	var dribble, ends tasks.Group
	defer dribble.Wait()
	defer close(stop)
	dribble.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(tick):
			}
			for _, c := range all {
				c.Write([]byte("x"))
			}
		}
	})
	var ended atomic.Int64
	for _, c := range all {
		ends.Go(func() {
			io.Copy(io.Discard, c)
			ended.Add(1)
		})
	}

	// The honest one: a hundred times what it owes, until all others are gone.
	honest, sent := workertest.Dial(t, s.addr), 0
	honest.Conn.SetDeadline(time.Now().Add(3 * workertest.Patience))
	fmt.Fprint(honest.Conn, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	for begun := time.Now(); ended.Load() < attackers; {
		if time.Since(begun) > workertest.Patience+grace {
			t.Fatalf("%d of %d slow clients were ended: %+v", ended.Load(), attackers, w.Stats())
		}
		n, err := fmt.Fprintf(honest.Conn, "3e8\r\n%s\r\n", strings.Repeat("y", 1000))
		if err != nil {
			t.Fatalf("the honest upload was ended after %d bytes: %v", sent, err)
		}
		sent += n - 7
		k.hear()
		time.Sleep(10 * time.Millisecond)
	}
	ends.Wait()
	fmt.Fprint(honest.Conn, "0\r\n\r\n")
	if body, closing, err := honest.Read(); err != nil || closing || body != fmt.Sprint(sent) {
		t.Errorf("the honest upload of %d bytes: %q, close %v, %v", sent, body, closing, err)
	}
	k.wait("one connection left", func(n Stats) bool { return n.Open == 1 && n.InFlight == 0 && n.SlowBodies == attackers })
	if tooSlow.Load() != attackers {
		t.Errorf("%d handlers have read ErrSlowBody", tooSlow.Load())
	}
}

// leavesBodies are handlers that read a body, or leave it to net/http in each of the
// ways in which that reads it.
var leavesBodies = map[string]http.HandlerFunc{
	"reads":      func(w http.ResponseWriter, r *http.Request) { io.Copy(io.Discard, r.Body) },
	"looks away": func(w http.ResponseWriter, r *http.Request) {},
	"answers long": func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, strings.Repeat("x", serve.HeadersLeave))
		io.WriteString(w, "x")
	},
	"copies long": func(w http.ResponseWriter, r *http.Request) {
		io.Copy(w, strings.NewReader(strings.Repeat("x", serve.HeadersLeave+1)))
	},
	"flushes": func(w http.ResponseWriter, r *http.Request) { w.(http.Flusher).Flush() },
	"closes":  func(w http.ResponseWriter, r *http.Request) { r.Body.Close() },
	"ends it": func(w http.ResponseWriter, r *http.Request) { w.Header().Set("Connection", "close") },
	"panics":  func(w http.ResponseWriter, r *http.Request) { panic(http.ErrAbortHandler) },
	"full duplex": func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.(http.Flusher).Flush()
	},
}

// slowBegins are what attackers begin a body with that they never end.
var slowBegins = map[string]string{
	"length":  "Content-Length: 100000\r\n\r\n",
	"large":   "Content-Length: 100000000\r\n\r\n",
	"chunked": "Transfer-Encoding: chunked\r\n\r\n186a0\r\n",
	"expect":  "Content-Length: 100000\r\nExpect: 100-continue\r\n\r\n",
	"much":    "Transfer-Encoding: chunked\r\n\r\n493e0\r\n" + strings.Repeat("y", serve.MaxDiscard+100),
}

// Whatever a handler does, and however the body began: a client that sends nothing
// more holds no connection.
func TestSlowBodiesThatNobodyReads(t *testing.T) {
	mux := http.NewServeMux()
	for how, h := range leavesBodies {
		mux.HandleFunc("/"+strings.ReplaceAll(how, " ", "-"), h)
	}
	for _, kind := range []string{"plain", "tls"} {
		t.Run(kind, func(t *testing.T) {
			s := newSlot(t, "http")
			opts := []ListenerOption{MinBodyRate(1000, 100*time.Millisecond)}
			if kind == "tls" {
				opts = append(opts, TLS(workertest.WriteCertificate(t, t.TempDir(), 1)))
			}
			_, k := managed(t, func(w *Worker) { w.Handle("http", mux, opts...) })
			k.activate(s)
			var all tasks.Group
			for how := range leavesBodies {
				for what, begin := range slowBegins {
					c := workertest.Dial(t, s.addr).Conn
					if kind == "tls" {
						c = tls.Client(c, &tls.Config{InsecureSkipVerify: true})
					}
					all.Go(func() {
						fmt.Fprintf(c, "POST /%s HTTP/1.1\r\nHost: x\r\n%s", strings.ReplaceAll(how, " ", "-"), begin)
						_, err := io.Copy(io.Discard, c)
						var n net.Error
						if errors.As(err, &n) && n.Timeout() {
							t.Errorf("%s, %s: the connection is still open", how, what)
						}
					})
				}
			}
			all.Wait()
			k.wait("no connection", func(n Stats) bool { return n.Open == 0 && n.InFlight == 0 })
		})
	}
}

// Who refuses a body and ends the connection answers at once, whatever is still to come.
func TestARefusedBodyIsNotWaitedFor(t *testing.T) {
	s := newSlot(t, "http")
	_, k := managed(t, func(w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			rw.Header().Set("Connection", "close")
			io.WriteString(rw, r.URL.Path)
			if r.URL.Path == "/flushes" {
				rw.(http.Flusher).Flush()
			}
		}), MinBodyRate(1000, time.Hour))
	})
	k.activate(s)
	for _, path := range []string{"/returns", "/flushes"} {
		c := workertest.Dial(t, s.addr)
		fmt.Fprintf(c.Conn, "POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nbegins", path)
		if got, closing, err := c.Read(); strings.TrimSpace(got) != path || !closing || err != nil {
			t.Errorf("%s: %q, close %v, %v", path, got, closing, err)
		}
		c.Conn.Close()
	}
}

// What is read slowly by the handler, or left to net/http and comes, costs the client
// neither its answer nor its connection, which still moves when it is idle.
func TestHonestBodiesKeepTheirConnections(t *testing.T) {
	const grace = 200 * time.Millisecond
	c := newCouple(t, func(name string, w *Worker) {
		mux := http.NewServeMux()
		for how, h := range leavesBodies {
			mux.HandleFunc("/"+strings.ReplaceAll(how, " ", "-"), h)
		}
		mux.HandleFunc("/late", func(rw http.ResponseWriter, r *http.Request) {
			time.Sleep(3 * grace)
			var b [1]byte
			io.ReadFull(r.Body, b[:])
			time.Sleep(3 * grace)
			n, err := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(rw, "%d%v", n, err)
		})
		mux.HandleFunc("/trailer", func(rw http.ResponseWriter, r *http.Request) {
			io.Copy(io.Discard, r.Body)
			fmt.Fprint(rw, r.Trailer.Get("After"))
		})
		mux.HandleFunc("/stream", func(rw http.ResponseWriter, r *http.Request) {
			rw.(http.Flusher).Flush()
			time.Sleep(3 * grace) // whose client is silent meanwhile, as it may be
			fmt.Fprint(rw, r.Context().Err())
		})
		mux.HandleFunc("/hijack", func(rw http.ResponseWriter, r *http.Request) {
			nc, buf, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			go func() {
				defer nc.Close()
				body, _ := io.ReadAll(io.LimitReader(buf, 3))
				time.Sleep(3 * grace)
				more, _ := bufio.NewReader(nc).ReadString('\n')
				fmt.Fprintf(nc, "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n%s%s", body, more)
			}()
		})
		mux.HandleFunc("/", func(rw http.ResponseWriter, r *http.Request) { io.WriteString(rw, name) })
		w.Handle("http", mux, MinBodyRate(1<<20, grace))
	})
	k := workertest.Dial(t, c.slot.addr)
	body := strings.Repeat("b", 20_000) // that a socket takes at once
	for _, path := range []string{"/reads", "/looks-away", "/answers-long", "/copies-long", "/flushes", "/closes", "/full-duplex"} {
		if got, closing, err := k.Do("POST", path, body); err != nil || closing {
			t.Errorf("%s: %d bytes, close %v, %v", path, len(got), closing, err)
		}
	}
	if got, closing, err := k.Do("POST", "/late", body); got != "19999<nil>" || closing || err != nil {
		t.Errorf("a handler that reads late: %q, close %v, %v", got, closing, err)
	}
	if got, _, err := k.Do("POST", "/stream", body); got != "<nil>" || err != nil {
		t.Errorf("a handler that streams has context %q, %v", got, err)
	}
	fmt.Fprint(k.Conn, "POST /trailer HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: After\r\n\r\n1\r\nx\r\n0\r\nAfter: all\r\n\r\n")
	if got, _, err := k.Read(); got != "all" || err != nil {
		t.Errorf("a trailer: %q, %v", got, err)
	}
	c.switchOver()
	workertest.Eventually(t, "the connection has moved", func() bool { return c.old.Stats().Open == 0 && c.new.Stats().Open == 1 })
	k.Want(t, "/", "new", false)

	h := workertest.Dial(t, c.slot.addr) // its worker is parked and has a way
	h.Write("POST", "/hijack", "abc")
	time.Sleep(2 * grace)
	io.WriteString(h.Conn, "def\n")
	if got, _, err := h.Read(); got != "abcdef\n" || err != nil {
		t.Errorf("hijacked: %q, %v", got, err)
	}
	if n := c.old.Stats().SlowBodies + c.new.Stats().SlowBodies; n != 0 {
		t.Errorf("%d bodies were too slow", n)
	}
}

// On HTTP/2 the slow request ends, and the connection's others go on.
func TestSlowBodiesOverHTTP2(t *testing.T) {
	for _, kind := range []string{"h2c", "tls"} {
		t.Run(kind, func(t *testing.T) {
			s := newSlot(t, "http")
			opt, connect := H2C(), func() *h2client { return h2On(t, workertest.Dial(t, s.addr).Conn) }
			if kind == "tls" {
				opt, connect = TLS(workertest.WriteCertificate(t, t.TempDir(), 1)), func() *h2client { return h2TLS(t, s.addr) }
			}
			w, k := managed(t, func(w *Worker) {
				w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					if _, err := io.Copy(io.Discard, r.Body); errors.Is(err, ErrSlowBody) {
						http.Error(rw, err.Error(), http.StatusRequestTimeout)
					}
				}), opt, MinBodyRate(1000, 100*time.Millisecond))
			})
			k.activate(s)
			c := connect()
			c.request(1, "/up", true)
			c.answered(1)
			c.request(3, "/", false)
			for !c.ended[3] {
				if err := c.next(); err != nil && !strings.Contains(err.Error(), fmt.Sprintf("stream 1 was reset: %d", workertest.NoError)) {
					t.Fatal(err)
				}
			}
			if n := w.Stats().SlowBodies; n != 1 {
				t.Errorf("%d bodies were too slow", n)
			}
			c.c.Close()
			finish(t, w, k)
		})
	}
}
