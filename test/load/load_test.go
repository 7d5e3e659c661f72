package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

const (
	ok     = "HTTP/1.1 200 OK\r\nX-Worker-Version: v1\r\nContent-Length: 2\r\n\r\nok"
	leave  = "HTTP/1.1 200 OK\r\nX-Worker-Version: v1\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
	enough = 30 * time.Second // for any test to end
)

// server hands each connection, with its number from 0, to a script.
type server struct {
	listener net.Listener
	scripts  sync.WaitGroup
	accepted atomic.Int64
}

func serve(t *testing.T, network, addr string, script func(n int, c *client)) *server {
	t.Helper()
	listener, err := net.Listen(network, addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{listener: listener}
	s.scripts.Go(func() {
		for {
			c, err := listener.Accept()
			if err != nil {
				return
			}
			n := int(s.accepted.Add(1)) - 1
			s.scripts.Go(func() {
				defer c.Close()
				script(n, &client{Conn: c, in: bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		s.scripts.Wait()
	})
	return s
}

// client is the server's end of a connection.
type client struct {
	net.Conn
	in *bufio.Reader
}

// request reads one request whole; false: there is none.
func (c *client) request() bool {
	r, err := http.ReadRequest(c.in)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, r.Body)
	return err == nil
}

func (c *client) say(text string) { _, _ = io.WriteString(c, text) }

func (c *client) reset() {
	_ = c.Conn.(*net.TCPConn).SetLinger(0)
	_ = c.Close()
}

// gone waits until the other end closed.
func (c *client) gone() { _, _ = io.Copy(io.Discard, c.in) }

// until runs a plan until so many requests have ended.
func until(t *testing.T, plan Plan, requests uint64) *Result {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), enough)
	defer cancel()
	l := Start(ctx, plan)
	for l.Snapshot().Requests < requests && ctx.Err() == nil {
		time.Sleep(time.Millisecond)
	}
	cancel()
	r := l.Wait()
	if r.Requests < requests {
		t.Fatalf("only %d of %d requests ended:\n%s", r.Requests, requests, r)
	}
	return r
}

func TestStrictnessPerFault(t *testing.T) {
	// Each server behaves once on its first connection's first request where it
	// matters, and does its one wrong thing on every connection.
	closing := func(answer string) func(int, *client) {
		return func(_ int, c *client) {
			if c.request() {
				c.say(answer)
			}
		}
	}
	for _, test := range []struct {
		name   string
		kept   bool
		script func(n int, c *client)
		want   Kind
	}{
		{"closes without answer", true, func(_ int, c *client) { c.request() }, Closed},
		{"closes without answer, new", false, func(_ int, c *client) { c.request() }, Closed},
		{"resets without answer", true, func(_ int, c *client) { c.request(); c.reset() }, Reset},
		{"resets without answer, new", false, func(_ int, c *client) { c.request(); c.reset() }, Reset},
		{"cuts the head", true, closing("HTTP/1.1 200 OK\r\nContent-Le"), ShortHead},
		{"cuts the status line", true, closing("HTTP/1."), ShortHead},
		{"cuts the body", true, closing("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345"), ShortBody},
		{"cuts a chunk", true, closing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab"), ShortBody},
		{"cuts before the last chunk", true, closing("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n"), ShortBody},
		{"says too long a length, and waits", true, func(_ int, c *client) {
			c.request()
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
			c.gone()
		}, Timeout},
		{"never answers", false, func(_ int, c *client) { c.request(); c.gone() }, Timeout},
		{"says too short a length", true, closing("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n12345"), Surplus},
		{"says no length", true, closing("HTTP/1.1 200 OK\r\n\r\nok"), Malformed},
		{"speaks something else", true, closing("SSH-2.0-OpenSSH\r\n"), Malformed},
		{"speaks HTTP/1.0", true, closing("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), Malformed},
		{"answers 500", true, func(_ int, c *client) {
			for c.request() {
				c.say("HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n")
			}
		}, CheckRefused},
		{"answers 503, new", false, closing("HTTP/1.1 503 Oh\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"), CheckRefused},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "tcp", "127.0.0.1:0", test.script)
			plan := Plan{Addr: s.listener.Addr().String(), Kept: 1, Body: 100}
			if test.want == Timeout {
				plan.Timeout = 500 * time.Millisecond
			}
			if !test.kept {
				plan.Kept, plan.Fresh = 0, 1
			}
			r := until(t, plan, 3)
			f := r.Failures[test.want]
			// The last request is the one that the test's end met.
			if got := f.Kept + f.Fresh; got != r.Requests || r.Failed() != r.Requests || len(r.Failures) != 1 {
				t.Fatalf("want all under %q:\n%s", test.want, r)
			}
			if test.kept != (r.FailedFresh == 0) || test.kept != (r.FailedKept > 0) {
				t.Errorf("counted under the wrong kind of connection:\n%s", r)
			}
			if e := f.Examples[0]; e.Err == "" || e.At.IsZero() || e.Local == "" || e.Nth < 1 || e.Kept != test.kept {
				t.Errorf("an example that explains nothing: %+v", e)
			}
			if n := len(f.Examples); n > maxExamples {
				t.Errorf("%d examples", n)
			}
		})
	}
}

func TestGoodAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  ok,
		"chunked": "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n2;x=y\r\nok\r\n0\r\nX-Sum: 1\r\n\r\n",
		"interim": "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + ok,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := serve(t, "tcp", "127.0.0.1:0", func(_ int, c *client) {
				for c.request() {
					c.say(answer)
				}
			})
			r := until(t, Plan{Addr: s.listener.Addr().String(), Kept: 2, Check: func(status int, _ Header, body []byte) error {
				if status != 200 || string(body) != "ok" {
					return fmt.Errorf("%d %q", status, body)
				}
				return nil
			}}, 50)
			if r.Failed() != 0 || r.Connections > 2 || r.LatencyKept.TotalCount() != int64(r.Requests) || r.ClosedIdle != 0 {
				t.Errorf("%s", r)
			}
		})
	}
}

// A kept connection that is closed without a word fails the request that meets
// it, whether or not the end could have been seen in time.
func TestIdleCloseIsAFailure(t *testing.T) {
	const each = 3 // answers before it closes
	s := serve(t, "tcp", "127.0.0.1:0", func(_ int, c *client) {
		for i := 0; i < each && c.request(); i++ {
			c.say(ok)
		}
	})
	// Slow enough for each end to arrive before the next request.
	r := until(t, Plan{Addr: s.listener.Addr().String(), Kept: 1, Rate: 50}, 5*(each+1))
	met := r.Failures[GoneIdle].Kept + r.Failures[Closed].Kept + r.Failures[Reset].Kept
	if met < 5 || met != r.FailedKept || r.ClosedIdle < r.Failures[GoneIdle].Kept || r.Failures[GoneIdle].Kept == 0 {
		t.Errorf("%s", r)
	}
	if e := r.Failures[GoneIdle].Examples[0]; e.Nth != each+1 || e.Version != "v1" {
		t.Errorf("example %+v", e)
	}
	if r.ClosedPolitely != 0 {
		t.Errorf("nobody was polite:\n%s", r)
	}
}

// One that was announced fails nothing.
func TestPoliteCloseIsNone(t *testing.T) {
	s := serve(t, "tcp", "127.0.0.1:0", func(_ int, c *client) {
		for range 2 {
			if c.request() {
				c.say(ok)
			}
		}
		if c.request() {
			c.say(leave)
		}
	})
	r := until(t, Plan{Addr: s.listener.Addr().String(), Kept: 1}, 30)
	if r.Failed() != 0 || r.ClosedPolitely < 9 || r.ClosedIdle != 0 {
		t.Errorf("%s", r)
	}
}

func TestNewConnections(t *testing.T) {
	s := serve(t, "tcp", "127.0.0.1:0", func(n int, c *client) {
		c.request()
		c.say(leave)
		switch n % 3 {
		case 1:
			c.gone() // leaves it open
		case 2:
			c.Conn.(*net.TCPConn).CloseWrite()
			c.gone()
		}
	})
	r := until(t, Plan{Addr: s.listener.Addr().String(), Fresh: 1, Timeout: time.Second}, 4)
	if r.Failed() != 0 || r.LeftOpen < 1 || r.Connections != r.Requests || r.FailedKept+r.Kept != 0 {
		t.Errorf("%s", r)
	}
}

func TestNobodyListens(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr().String()
	listener.Close()
	r := until(t, Plan{Addr: addr, Kept: 1, Fresh: 1}, 6)
	if f := r.Failures[DialRefused]; r.Failed() != r.Requests || f.Kept == 0 || f.Fresh == 0 || len(r.Failures) != 1 {
		t.Errorf("%s", r)
	}
	r = until(t, Plan{Addr: filepath.Join(t.TempDir(), "none"), Kept: 1}, 3)
	if f := r.Failures[DialFailed]; f.Kept != r.Requests {
		t.Errorf("%s", r)
	}
}

func TestBodiesArriveWhole(t *testing.T) {
	var bad atomic.Int64
	web := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || r.Method != "POST" || string(body) != string(Body(3000)) || r.Header.Get("X-Extra") != "1" {
			bad.Add(1)
		}
		w.Header().Set("X-Worker-Version", "v"+strconv.Itoa(len(r.Header.Get("Connection"))))
		fmt.Fprint(w, len(body))
	})}
	path := filepath.Join(t.TempDir(), "s")
	for _, network := range []string{"unix", "tcp"} {
		addr := path
		if network == "tcp" {
			addr = "127.0.0.1:0"
		}
		listener, err := net.Listen(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		var served sync.WaitGroup
		served.Go(func() { _ = web.Serve(listener) })
		r := until(t, Plan{
			Addr: listener.Addr().String(), Kept: 2, Fresh: 2, Body: 3000, Path: "/upload", Header: []string{"X-Extra: 1"}, Sources: 3,
			Check: func(status int, h Header, body []byte) error {
				if status != 200 || string(body) != "3000" || h.Get("x-worker-VERSION") == "" {
					return errors.New(string(body))
				}
				return nil
			},
		}, 200)
		if r.Failed() != 0 || bad.Load() != 0 || r.Kept == 0 || r.Fresh == 0 {
			t.Errorf("%s: %d bad\n%s", network, bad.Load(), r)
		}
		v := r.Versions["v0"]
		if v.Count != r.Kept || v.First.IsZero() || v.Last.Before(v.First) {
			t.Errorf("versions %+v", r.Versions)
		}
		listener.Close()
		served.Wait()
	}
	_ = web.Close()
}

// Latency counts from when a request should have begun: a server that stands
// still for a while is seen by all requests of that while, not by one.
func TestNoCoordinatedOmission(t *testing.T) {
	const stall = 300 * time.Millisecond
	s := serve(t, "tcp", "127.0.0.1:0", func(_ int, c *client) {
		for i := 0; c.request(); i++ {
			if i == 5 {
				time.Sleep(stall) // the fault under test
			}
			c.say(ok)
		}
	})
	r := until(t, Plan{Addr: s.listener.Addr().String(), Kept: 1, Rate: 200}, 100)
	// 200 a second: some 60 were due during the stall.
	late := 0
	for _, bar := range r.LatencyKept.Distribution() {
		if bar.From > int64(stall/time.Microsecond)/4 {
			late += int(bar.Count)
		}
	}
	if late < 30 {
		t.Errorf("a stall of %v was seen by %d requests:\n%s", stall, late, r)
	}
}

func TestUnsentIsTold(t *testing.T) {
	s := serve(t, "tcp", "127.0.0.1:0", func(_ int, c *client) {
		c.request()
		c.gone()
	})
	ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
	defer cancel()
	r := Run(ctx, Plan{Addr: s.listener.Addr().String(), Kept: 1, Rate: 100, Timeout: 300 * time.Millisecond})
	// One was sent and never answered; all others had no worker.
	if r.Requests != 1 || r.Failures[Timeout].Kept != 1 || r.Unsent < 10 || r.Unsent > 16 {
		t.Errorf("%s", r)
	}
}

func TestRateAndInterleaving(t *testing.T) {
	p := Plan{Kept: 3, Fresh: 5}
	seen := map[int]bool{}
	for i := range 8 {
		seen[p.turn(i)] = true
	}
	if len(seen) != 8 {
		t.Errorf("turns %v", seen)
	}
	s := serve(t, "tcp", "127.0.0.1:0", func(_ int, c *client) {
		for c.request() {
			c.say(ok)
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	r := Run(ctx, Plan{Addr: s.listener.Addr().String(), Kept: 4, Rate: 400})
	if due := r.Requests + r.Unsent; due < 195 || due > 205 || r.Failed() != 0 {
		t.Errorf("400/s for half a second:\n%s", r)
	}
	if text := r.String(); !strings.Contains(text, "0 failed") || !strings.Contains(text, "version v1") {
		t.Error(text)
	}
	if sum := r.Summary(); sum.Requests != r.Requests || sum.LatencyKept.Max == 0 {
		t.Errorf("%+v", sum)
	}
}
