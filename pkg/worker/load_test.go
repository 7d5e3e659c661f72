package worker

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/worker/internal/tasks"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// load is many strict clients, half on kept connections and half on new ones.
type load struct {
	wg   tasks.Group
	stop atomic.Bool
	ok   atomic.Int64
	bye  atomic.Int64 // answers that asked the client to close
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
	var c *workertest.Client
	for !l.stop.Load() {
		if c == nil {
			nc, err := net.DialTimeout("tcp", addr, workertest.Patience)
			if err != nil {
				l.fail("dial: %v", err)
				continue
			}
			c = workertest.On(nc)
		}
		c.Conn.SetDeadline(time.Now().Add(workertest.Patience))
		_, closing, err := c.Do("POST", "/", body)
		if err != nil {
			l.fail("keep=%v: %v", keep, err)
		} else {
			l.ok.Add(1)
			if closing {
				l.bye.Add(1)
			}
		}
		if err != nil || closing || !keep {
			c.Conn.(*net.TCPConn).SetLinger(0) // no TIME_WAIT for each
			c.Conn.Close()
			c = nil
		}
	}
	if c != nil {
		c.Conn.Close()
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
	workertest.Eventually(t, "the load is answered", func() bool { return l.ok.Load() >= until })
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
