//go:build linux

package worker

import (
	"context"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// managedChild is a worker in a process of its own, active under m.
func managedChild(t *testing.T, s *slot) (*process, *masterLink) {
	t.Helper()
	m := newMaster(t)
	var env []string
	for k, v := range m.env() {
		env = append(env, k+"="+v)
	}
	p := startChild(t, "one", "", nil, env...)
	k, hello := m.accept()
	if hello.PID != p.Process.Pid {
		t.Fatalf("hello's pid is %d, not %d", hello.PID, p.Process.Pid)
	}
	k.welcome(s.name)
	k.recv(ipc.TypeReady)
	k.activate(s)
	p.says("active")
	return p, k
}

// TERM from somebody else than the master: polite, and nobody waits in vain.
func TestManagedSignal(t *testing.T) {
	s := newSlot(t, "main")
	p, k := managedChild(t, s)
	c := workertest.Dial(t, s.addr)
	c.Want(t, "/", "main", false)
	p.Process.Signal(syscall.SIGTERM)
	p.says("inactive")
	workertest.Dial(t, s.addr).Want(t, "/", "main", true)
	c.Want(t, "/", "main", true)
	k.drained()
	p.says("done")
	p.end(0)
}

// TERM while draining, as at the master's deadline: the rest is cut soon, and
// the worker says so and exits with 0.
func TestManagedSignalWhileDraining(t *testing.T) {
	s := newSlot(t, "main")
	p, k := managedChild(t, s)
	c := workertest.Dial(t, s.addr)
	c.Want(t, "/", "main", false)
	k.drain(time.Hour)
	p.says("inactive")
	p.Process.Signal(syscall.SIGTERM)
	if stats := k.drained(); stats.Cut != 1 {
		t.Errorf("drained with %+v", stats)
	}
	p.says("done")
	p.end(0)
}

// A worker writes its stacks when it is asked to, also while its loop hangs.
func TestDump(t *testing.T) {
	written := make(chan string, 1)
	hang := make(chan struct{})
	w, k := managed(t, func(w *Worker) {
		w.core.Stderr = writerFunc(func(b []byte) { written <- string(b) })
		w.Handle("http", workertest.Pong, Server(func(s *http.Server) {
			s.ConnContext = func(ctx context.Context, c net.Conn) context.Context { <-hang; return ctx }
		}))
	})
	// The first is with the server, which hangs; the loop hangs with the second.
	k.pass("http", ipc.PurposeServe)
	k.pass("http", ipc.PurposeServe)
	k.send(ipc.Message{Type: ipc.TypeDump})
	select {
	case text := <-written:
		if !strings.Contains(text, "control.(*lifecycle).run") {
			t.Errorf("no stacks: %.1000s", text)
		}
	case <-time.After(workertest.Patience):
		t.Fatalf("nothing was written\n%s", workertest.Stacks())
	}
	close(hang)
	k.drain(time.Millisecond)
	k.drained()
	w.wait()
}

type writerFunc func([]byte)

func (f writerFunc) Write(b []byte) (int, error) { f(b); return len(b), nil }
