package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
)

func TestTCP(t *testing.T) {
	c := New(config.Health{TCP: &config.TCPCheck{Listener: "x"}})
	for name, test := range map[string]struct {
		each func(net.Conn)
		want string
	}{
		"silent":   {func(c net.Conn) { _, _ = c.Read(make([]byte, 1)) }, ""},
		"greeting": {func(c net.Conn) { _, _ = io.WriteString(c, "220 hello\r\n") }, ""},
		"closed":   {func(c net.Conn) {}, "tcp: the connection was taken and closed at once: the worker closed the connection"},
		"reset":    {func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, "tcp: "},
	} {
		d := &dialTo{addr: raw(t, test.each)}
		var err error
		for range 100 { // "at once" is a few milliseconds, and this machine may be busy
			if err = c.Check(within(t, enough), Worker{}, d.dial); test.want == "" || err != nil {
				break
			}
		}
		if (err == nil) != (test.want == "") || (err != nil && !strings.HasPrefix(err.Error(), test.want)) {
			t.Errorf("%s: %v", name, err)
		}
		if d.open.Load() != 0 {
			t.Error("a connection was left open")
		}
	}
	if c.Listener() != "x" {
		t.Error(c.Listener())
	}
}

// What the kernel, or whoever holds the socket, does for a worker is no sign of life.
func TestTCPIsNotAccepted(t *testing.T) {
	c := New(config.Health{TCP: &config.TCPCheck{Listener: "x"}})
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	path := t.TempDir() + "/s"
	u, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer u.Close()
	for name, dial := range map[string]Dialer{
		"a queue": func(ctx context.Context) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		},
		"a Unix queue": func(ctx context.Context) (net.Conn, error) { return new(net.Dialer).DialContext(ctx, "unix", path) },
	} {
		err := c.Check(within(t, 100*time.Millisecond), Worker{}, dial)
		if err == nil || !strings.Contains(err.Error(), "the worker has not accepted the connection") || !strings.Contains(err.Error(), "no sign that it was accepted within") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestNoCheckPasses(t *testing.T) {
	c := New(config.Health{})
	if err := c.Check(context.Background(), Worker{}, nil); err != nil || c.Listener() != "" {
		t.Error(err)
	}
	if made, failed, err := c.Warm(context.Background(), Worker{}, nil); made != 0 || failed != 0 || err != nil {
		t.Error(made, failed, err)
	}
}

func TestWarm(t *testing.T) {
	addr := serve(t, "http")
	warm := func(path string, n, at int) *Checker {
		return New(config.Health{HTTP: httpCheck(), Warmup: config.Warmup{Path: path, Requests: n, Concurrency: at}})
	}
	d := &dialTo{addr: addr}
	for _, at := range []int{1, 4, 100} {
		if made, failed, err := warm("/missing", 20, at).Warm(within(t, enough), Worker{}, d.dial); made != 20 || failed != 0 || err != nil {
			t.Error(made, failed, err)
		}
	}
	if d.made.Load() != 60 || d.open.Load() != 0 {
		t.Error(d.made.Load(), d.open.Load())
	}
	made, failed, err := warm("/500", 5, 2).Warm(within(t, enough), Worker{ID: 3}, d.dial)
	if made != 5 || failed != 5 || err == nil || err.Error() != "warm-up of worker 3, GET /500: all 5 requests failed, the first: status 500" {
		t.Error(made, failed, err)
	}
	var n atomic.Int64
	some := func(ctx context.Context) (net.Conn, error) {
		if n.Add(1)%2 == 0 {
			return nil, errors.New("no")
		}
		return d.dial(ctx)
	}
	if made, failed, err = warm("/healthz", 10, 3).Warm(within(t, enough), Worker{}, some); made != 10 || failed != 5 || err != nil {
		t.Error(made, failed, err)
	}
	made, failed, err = warm("/hang", 10, 3).Warm(within(t, 50*time.Millisecond), Worker{}, d.dial)
	if made != 0 || failed != 0 || !errors.Is(err, context.DeadlineExceeded) {
		t.Error(made, failed, err)
	}
	if d.open.Load() != 0 {
		t.Error("connections were left open")
	}
}
