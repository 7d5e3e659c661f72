//go:build linux

package serve

import (
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// attacker is another of the loopback's addresses.
const attacker = "127.0.0.2"

func TestClientAddresses(t *testing.T) {
	for a, want := range map[string]string{
		"192.0.2.7":            "192.0.2.7",
		"::ffff:192.0.2.7":     "192.0.2.7",
		"2001:db8:1:2:3:4:5:6": "2001:db8:1:2::",
		"2001:db8:1:2::9":      "2001:db8:1:2::",
		"fe80::1%eth0":         "fe80::",
		"2001:db8:1:3::":       "2001:db8:1:3::",
	} {
		if got := clientKey(netip.MustParseAddr(a)); got.String() != want {
			t.Errorf("%s is counted as %s, not %s", a, got, want)
		}
	}
}

// Whoever comes and goes, at the same time, nothing is left counted.
func TestCapsCountDown(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	tr := NewTraffic()
	l := &Config{Name: "http", Handler: workertest.Pong, MaxConns: 4, MaxPerAddress: 3}
	d, err := l.Open(tr, migrate.NewSender(tr.clients.migratable, tr.Leaving.IsSet, workertest.DiscardLog()), workertest.DiscardLog())
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Add(ln.(Socket), false); err != nil {
		t.Fatal(err)
	}
	var wg tasks.Group
	for i := range 12 {
		wg.Go(func() {
			from := []string{"127.0.0.1", attacker, "127.0.0.3"}[i%3]
			for range 40 {
				dialer := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: workertest.Patience}
				nc, err := dialer.Dial("tcp", ln.Addr().String())
				if errors.Is(err, syscall.ECONNRESET) {
					continue // refused, so quickly
				}
				if err != nil {
					t.Error(err)
					return
				}
				c := workertest.On(nc)
				if rand.IntN(3) > 0 {
					if got, _, err := c.Do("GET", "/", ""); err == nil && got != "pong" || errors.Is(err, io.ErrUnexpectedEOF) {
						t.Errorf("%q, %v", got, err)
					}
				}
				nc.(*net.TCPConn).SetLinger(0)
				nc.Close()
			}
		})
	}
	most := 0
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	for open := true; open; {
		select {
		case <-done:
			open = false
		case <-time.After(time.Millisecond):
		}
		d.limits.mu.Lock()
		most = max(most, d.limits.open)
		d.limits.mu.Unlock()
	}
	if most > 4 {
		t.Errorf("%d were open", most)
	}
	workertest.Eventually(t, "nothing is counted", func() bool {
		d.limits.mu.Lock()
		defer d.limits.mu.Unlock()
		return d.limits.open == 0 && len(d.limits.from) == 0
	})
	d.Close()
	d.serving.Wait()
}
