package probe

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
)

// dialTo reaches a test server and counts what is not closed again.
type dialTo struct {
	addr string
	open atomic.Int64
	made atomic.Int64
}

func (d *dialTo) dial(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", d.addr)
	if err != nil {
		return nil, err
	}
	d.open.Add(1)
	d.made.Add(1)
	return &counted{Conn: conn, d: d}, nil
}

type counted struct {
	net.Conn
	d    *dialTo
	once sync.Once
}

func (c *counted) CloseWrite() error { return c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

func (c *counted) Close() error {
	c.once.Do(func() { c.d.open.Add(-1) })
	return c.Conn.Close()
}

func httpCheck() *config.HTTPCheck {
	return &config.HTTPCheck{Listener: "http", Scheme: "http", Method: "GET", Path: "/healthz", Status: []config.StatusRange{{From: 200, To: 299}}}
}

// within is a context for one check.
func within(t *testing.T, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), d)
	t.Cleanup(cancel)
	return ctx
}

// enough is a time that no check in these tests needs, however slow the machine.
const enough = 30 * time.Second

// check makes one check of a server and sees that its connection is closed.
func check(t *testing.T, h *config.HTTPCheck, addr string) error {
	t.Helper()
	d := &dialTo{addr: addr}
	err := New(config.Health{HTTP: h}).Check(within(t, enough), Worker{ID: 1}, d.dial)
	if d.open.Load() != 0 || d.made.Load() > 1 {
		t.Errorf("%d of %d connections left open", d.open.Load(), d.made.Load())
	}
	return err
}

// handler answers by path in all the ways that matter.
func handler(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/healthz":
		fmt.Fprintf(w, "ok")
	case "/echo":
		if r.URL.RawQuery != "a=b" || r.Host != "shop.example" || r.Method != "POST" || r.Header.Get("X-Check") != "yes" || r.UserAgent() != "masterd-check" {
			w.WriteHeader(400)
		}
	case "/500":
		w.WriteHeader(500)
		fmt.Fprint(w, "database\r\n  is\x00 gone \xff", strings.Repeat("é", 5000))
	case "/redirect":
		http.Redirect(w, r, "/healthz", http.StatusFound)
	case "/early":
		w.Header().Set("Link", "</x>")
		w.WriteHeader(http.StatusEarlyHints)
		w.WriteHeader(204)
	case "/large":
		w.Write(make([]byte, 4<<20))
	case "/endless":
		w.WriteHeader(200)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	case "/hang":
		<-r.Context().Done()
	case "/panic":
		panic(http.ErrAbortHandler)
	default:
		http.NotFound(w, r)
	}
}

// serve starts a server that speaks as the scheme says.
func serve(t *testing.T, scheme string) (addr string) {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	switch scheme {
	case "https":
		s.StartTLS()
	case "https+h2":
		s.EnableHTTP2 = true
		s.StartTLS()
	case "h2c":
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	default:
		s.Start()
	}
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func TestHTTP(t *testing.T) {
	for _, scheme := range []string{"http", "https", "https+h2", "h2c"} {
		t.Run(scheme, func(t *testing.T) {
			addr := serve(t, scheme)
			for path, want := range map[string]string{
				"/healthz":  "",
				"/early":    "",
				"/large":    "",
				"/endless":  "",
				"/missing":  "GET /missing: 404 Not Found: 404 page not found",
				"/redirect": "GET /redirect: 302 Found: redirects are not followed (to /healthz)",
				"/500":      "GET /500: 500 Internal Server Error: database is? gone ?" + strings.Repeat("é", 90) + "...",
			} {
				h := httpCheck()
				h.Path, h.Scheme = path, strings.TrimSuffix(scheme, "+h2")
				got := ""
				if err := check(t, h, addr); err != nil {
					got = err.Error()
				}
				if got != want {
					t.Errorf("%s:\n got %s\nwant %s", path, got, want)
				}
			}
			h := httpCheck()
			h.Path, h.Scheme, h.Method, h.Host, h.Headers = "/echo?a=b", strings.TrimSuffix(scheme, "+h2"), "POST", "shop.example", map[string]string{"X-Check": "yes"}
			if err := check(t, h, addr); err != nil {
				t.Error(err)
			}
			h.Method, h.Path, h.Status = "HEAD", "/missing", []config.StatusRange{{From: 200, To: 200}, {From: 404, To: 404}}
			if err := check(t, h, addr); err != nil {
				t.Error(err)
			}
			h.Method, h.Path = "GET", "/panic"
			if err := check(t, h, addr); err == nil || !strings.Contains(err.Error(), "GET /panic: the worker ") {
				t.Error(err)
			}
		})
	}
}

// The name goes into the handshake, but never has to fit the certificate.
func TestServerName(t *testing.T) {
	names := make(chan string, 1)
	s := httptest.NewUnstartedServer(http.HandlerFunc(handler))
	s.TLS = &tls.Config{GetConfigForClient: func(h *tls.ClientHelloInfo) (*tls.Config, error) {
		names <- h.ServerName
		return nil, nil
	}}
	s.StartTLS()
	defer s.Close()
	h := httpCheck()
	h.Scheme, h.Host = "https", "shop.example:8443"
	if err := check(t, h, s.Listener.Addr().String()); err != nil {
		t.Error(err)
	}
	if name := <-names; name != "shop.example" {
		t.Error(name)
	}
}

func TestTimeout(t *testing.T) {
	for _, scheme := range []string{"http", "h2c", "https"} {
		h := httpCheck()
		h.Path, h.Scheme = "/hang", scheme
		d := &dialTo{addr: serve(t, scheme)}
		c := New(config.Health{HTTP: h})
		err := c.Check(within(t, time.Second), Worker{}, d.dial) // with time for the handshake
		if err == nil || !strings.HasPrefix(err.Error(), "GET /hang: no answer within ") {
			t.Errorf("%s: %v", scheme, err)
		}
		ctx, cancel := context.WithCancel(context.Background())
		taken := func(ctx context.Context) (net.Conn, error) {
			defer cancel()
			return d.dial(ctx)
		}
		if err = c.Check(ctx, Worker{}, taken); err == nil || !strings.Contains(err.Error(), "the check was called off") {
			t.Errorf("%s: %v", scheme, err)
		}
		if d.open.Load() != 0 {
			t.Error("a connection was left open")
		}
	}
}

// raw serves one connection after the other by hand.
func raw(t *testing.T, each func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				each(conn)
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		all.Wait()
	})
	return l.Addr().String()
}

// request reads to the end of a request's headers.
func readRequest(c net.Conn) string {
	var b []byte
	one := make([]byte, 1)
	for !strings.HasSuffix(string(b), "\r\n\r\n") {
		if _, err := c.Read(one); err != nil {
			break
		}
		b = append(b, one[0])
	}
	return string(b)
}

// A worker may answer anything.
func TestGarbage(t *testing.T) {
	for answer, want := range map[string]string{
		"":                       "the worker closed the connection, no answer",
		"HTTP/1.1 200 O":         "the worker closed the connection, no answer",
		"hello\n":                "malformed HTTP response \"hello\"",
		"HTTP/1.1 abc x\r\n\r\n": "malformed HTTP status code \"abc\"",
		"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab":                               "",
		"HTTP/1.1 204 No Content\r\n\r\n":                                              "",
		"HTTP/1.0 200 OK\r\n\r\nwhatever":                                              "",
		"HTTP/1.1 600 What\r\n\r\nno":                                                  "600: no",
		strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 5) + "HTTP/1.1 200 OK\r\n\r\n": "",
		strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 50):                            "more than 10 interim answers",
		"HTTP/1.1 200 OK\r\n" + strings.Repeat("A: b\r\n", 400_000) + "\r\n":           "the headers of the answer are longer than 1024 KiB",
	} {
		addr := raw(t, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 64<<10)) // whatever is spoken, one piece of it
			_, _ = io.WriteString(c, answer)
		})
		err := check(t, httpCheck(), addr)
		switch {
		case want == "" && err != nil, want != "" && (err == nil || !strings.HasPrefix(err.Error(), "GET /healthz: "+want)):
			t.Errorf("%.60q: %v, want %s", answer, err, want)
		}
		h := httpCheck()
		h.Scheme = "h2c"
		if err := check(t, h, addr); err == nil {
			t.Errorf("%.60q passes as HTTP/2", answer)
		}
		h.Scheme = "https"
		if err := check(t, h, addr); err == nil || !strings.Contains(err.Error(), "TLS: ") {
			t.Errorf("%.60q as TLS: %v", answer, err)
		}
	}
}

func TestRequestOnTheWire(t *testing.T) {
	seen := make(chan string, 1)
	addr := raw(t, func(c net.Conn) {
		seen <- readRequest(c)
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\n\r\n")
	})
	h := httpCheck()
	h.Headers = map[string]string{"X-B": "2", "X-A": "1", "user-agent": "me"}
	if err := check(t, h, addr); err != nil {
		t.Error(err)
	}
	want := "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-A: 1\r\nX-B: 2\r\nUser-Agent: me\r\nConnection: close\r\n\r\n"
	if got := <-seen; got != want {
		t.Errorf("%q", got)
	}
}

func TestDialFails(t *testing.T) {
	refused := func(context.Context) (net.Conn, error) { return nil, errors.New("worker 7 has\nno session") }
	for _, h := range []config.Health{{HTTP: httpCheck()}, {TCP: &config.TCPCheck{Listener: "x"}}} {
		if err := New(h).Check(within(t, enough), Worker{}, refused); err == nil || !strings.HasSuffix(err.Error(), ": worker 7 has no session") {
			t.Error(err)
		}
	}
}

// A check leaves nothing behind: no goroutine of its own exists when it returns.
func TestNothingIsLeft(t *testing.T) {
	addrs := map[string]string{}
	for _, scheme := range []string{"http", "https", "h2c"} {
		addrs[scheme] = serve(t, scheme)
	}
	for range 5 {
		for scheme, addr := range addrs {
			for _, path := range []string{"/healthz", "/500", "/hang"} {
				h := httpCheck()
				h.Scheme, h.Path = scheme, path
				wait := enough
				if path == "/hang" {
					wait = 20 * time.Millisecond
				}
				_ = New(config.Health{HTTP: h}).Check(within(t, wait), Worker{}, (&dialTo{addr: addr}).dial)
				for deadline := time.Now().Add(time.Second); ; runtime.Gosched() { // one may be on its last steps
					stacks := ours()
					if len(stacks) == 0 {
						break
					}
					if time.Now().After(deadline) {
						t.Fatalf("%s %s left:\n%s", scheme, path, strings.Join(stacks, "\n\n"))
					}
				}
			}
		}
	}
}

// ours are the stacks that lead through this package's own code.
func ours() []string {
	buf := make([]byte, 1<<20)
	all := strings.Split(string(buf[:runtime.Stack(buf, true)]), "\n\n")
	return slices.DeleteFunc(all, func(s string) bool {
		return !strings.Contains(s, "/probe.") || strings.Contains(s, "testing.") || strings.Contains(s, "probe.handler") || strings.Contains(s, "probe.raw")
	})
}

func BenchmarkHTTP(b *testing.B) {
	l, err := net.Listen("unix", b.TempDir()+"/s")
	if err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(handler)}
	go func() { _ = s.Serve(l) }()
	defer s.Close()
	c := New(config.Health{HTTP: httpCheck()})
	dial := func(context.Context) (net.Conn, error) { return net.Dial("unix", l.Addr().String()) }
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	b.ReportAllocs()
	for b.Loop() {
		if err := c.Check(ctx, Worker{}, dial); err != nil {
			b.Fatal(err)
		}
	}
}

// answers is a worker that says what it likes.
type answers struct {
	io.Reader
	io.Writer
}

// Whatever a worker answers to a check, with HTTP/1 and with HTTP/2, it comes to an end
// within the limits, and to a status or to an error.
func FuzzAnswer(f *testing.F) {
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"), false)
	f.Add([]byte("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 302 Found\r\nLocation: /x\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), false)
	f.Add([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00"+"\x00\x00\x01\x01\x05\x00\x00\x00\x01\x88"), true)
	f.Add([]byte("\x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02"), true)
	r := newRequest(httpCheck(), "GET", "/healthz")
	f.Fuzz(func(t *testing.T, text []byte, two bool) {
		speak := r.http1
		if two {
			speak = r.http2
		}
		a, err := speak(answers{bytes.NewReader(text), io.Discard}, func() {})
		if err == nil && (a.status < 100 || a.status > 999 || len(a.body) > maxAnswer) {
			t.Errorf("%+v", a)
		}
	})
}
