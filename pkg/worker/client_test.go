package worker

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// client is a strict HTTP/1.1 client on one connection: it never retries, and
// sends nothing after an answer that said close.
type client struct {
	c  net.Conn
	br *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, patience)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return on(c)
}

func on(c net.Conn) *client {
	c.SetDeadline(time.Now().Add(patience))
	return &client{c: c, br: bufio.NewReader(c)}
}

func (c *client) write(method, path, body string) error {
	_, err := fmt.Fprintf(c.c, "%s %s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", method, path, len(body), body)
	return err
}

// read returns the whole answer; closing says whether it was the last one here.
func (c *client) read() (body string, closing bool, err error) {
	resp, err := http.ReadResponse(c.br, nil)
	if err != nil {
		return "", false, err
	}
	b, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d: %s", resp.StatusCode, b)
	}
	return string(b), resp.Close, err
}

func (c *client) do(method, path, body string) (string, bool, error) {
	if err := c.write(method, path, body); err != nil {
		return "", false, err
	}
	return c.read()
}

// want makes a request that must be answered, and says close as wanted.
func (c *client) want(t *testing.T, path, body string, closing bool) {
	t.Helper()
	got, closes, err := c.do("GET", path, "")
	if err != nil || got != body || closes != closing {
		t.Fatalf("GET %s: %q, Connection: close %v, error %v; wanted %q, %v", path, got, closes, err, body, closing)
	}
	if closing {
		c.wantEnd(t)
	}
}

// wantEnd wants the server to close without another byte.
func (c *client) wantEnd(t *testing.T) {
	t.Helper()
	if b, err := c.br.ReadByte(); err != io.EOF {
		t.Fatalf("after the last answer: byte %d, error %v; wanted the end", b, err)
	}
}

// load is many strict clients, half on kept connections and half on new ones.
type load struct {
	wg   sync.WaitGroup
	stop atomic.Bool
	ok   atomic.Int64
	mu   sync.Mutex
	lost []string
}

const loadClients = 8

func newLoad(addr string) *load {
	l := new(load)
	for i := range loadClients {
		l.wg.Go(func() { l.client(addr, i%2 == 0) })
	}
	return l
}

func (l *load) client(addr string, keep bool) {
	body := strings.Repeat("x", 3000)
	var c *client
	for !l.stop.Load() {
		if c == nil {
			nc, err := net.DialTimeout("tcp", addr, patience)
			if err != nil {
				l.fail("dial: %v", err)
				continue
			}
			c = on(nc)
		}
		_, closing, err := c.do("POST", "/", body)
		if err != nil {
			l.fail("keep=%v: %v", keep, err)
		} else {
			l.ok.Add(1)
		}
		if err != nil || closing || !keep {
			c.c.(*net.TCPConn).SetLinger(0) // no TIME_WAIT for each
			c.c.Close()
			c = nil
		}
	}
	if c != nil {
		c.c.Close()
	}
}

func (l *load) fail(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.lost) < 20 {
		l.lost = append(l.lost, fmt.Sprintf(format, args...))
	}
}

// more waits for n more answers.
func (l *load) more(t *testing.T, n int64) {
	t.Helper()
	until := l.ok.Load() + n
	eventually(t, "the load is answered", func() bool { return l.ok.Load() >= until })
}

// end stops the load; nothing may have been lost.
func (l *load) end(t *testing.T) {
	t.Helper()
	l.stop.Store(true)
	l.wg.Wait()
	if len(l.lost) > 0 {
		t.Errorf("%d answered, and lost: %s", l.ok.Load(), strings.Join(l.lost, "; "))
	}
}
