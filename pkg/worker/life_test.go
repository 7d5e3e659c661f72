//go:build linux

package worker

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// The whole story, once: checked, active, parked, active again, drained.
func TestLife(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong) })
	if got, want := w.Info(), (Info{Managed: true, Worker: 7, Generation: 3, Service: "shop", Label: "v1"}); got != want {
		t.Fatalf("Info is %+v", got)
	}

	on(k.pass("http", ipc.PurposeProbe)).want(t, "/healthz", "pong", false)
	k.activate(s)
	if w.State() != StateActive {
		t.Fatalf("accepting was said in state %s", w.State())
	}
	c := dial(t, s.addr)
	c.want(t, "/", "pong", false)
	c.want(t, "/", "pong", false)

	k.park()
	c.want(t, "/", "pong", true)
	dial(t, s.addr).want(t, "/", "pong", true) // accepting goes on while parked
	k.activate()
	c = dial(t, s.addr)
	c.want(t, "/", "pong", false)

	k.recv(ipc.TypeBeat)
	k.drain(0)
	w.leaves()
	c.want(t, "/", "pong", true)
	stats := k.drained()
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	if stats.Open != 0 || stats.InFlight != 0 || stats.Accepted != 3 || stats.Requests != 6 || stats.Cut != 0 {
		t.Errorf("drained with %+v", stats)
	}
	if !s.nonblocking(t) {
		t.Error("the slot is blocking now, for everybody who shares it")
	}
}

// Two workers follow each other on one socket under load, as often as there is
// time for; neither a kept nor a new connection loses a request.
func TestDrainUnderLoad(t *testing.T) {
	const drains = 15
	s := newSlot(t, "http")
	set := func(w *Worker) { w.Handle("http", pong) }
	w, k := managed(t, set)
	k.activate(s)
	l := newLoad(s.addr)
	defer l.end(t)
	for range drains {
		l.more(t, 50)
		next, nk := managed(t, set)
		nk.activate(s)
		k.drain(0)
		if stats := k.drained(); stats.Cut != 0 {
			t.Fatalf("%d connections were cut", stats.Cut)
		}
		if err := w.wait(); err != nil {
			t.Fatal(err)
		}
		w, k = next, nk
	}
	if !s.nonblocking(t) {
		t.Error("the slot is blocking now, for everybody who shares it")
	}
}

// What waits in the queue when a drain comes is served before we close.
func TestDrainTakesTheQueue(t *testing.T) {
	const waiting = 40
	s := newSlot(t, "http")
	var cs []*client
	for range waiting {
		c := dial(t, s.addr)
		if err := c.write("GET", "/", ""); err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	if n := s.queued(t); n != waiting {
		t.Fatalf("%d connections wait", n)
	}
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong) })
	k.activate(s)
	k.drain(0)
	for i, c := range cs {
		if got, _, err := c.read(); err != nil || got != "pong" {
			t.Errorf("connection %d: %q, %v", i, got, err)
		}
		c.c.Close()
	}
	if stats := k.drained(); stats.Accepted != waiting {
		t.Errorf("%d accepted", stats.Accepted)
	}
	w.wait()
}

// Each kind of connection that a drain meets, and how it parts from it.
func TestDrainPartsPolitely(t *testing.T) {
	s := newSlot(t, "http")
	entered, goOn := make(chan string), make(chan struct{})
	mux := http.NewServeMux()
	mux.Handle("/", pong)
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) {
		entered <- "slow"
		<-goOn
		io.WriteString(w, "slow")
	})
	mux.HandleFunc("/silent", func(w http.ResponseWriter, r *http.Request) {
		entered <- "silent"
		<-goOn // and answers without writing
	})
	mux.HandleFunc("/begun", func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		entered <- "begun"
		<-goOn
		io.WriteString(w, "begun")
	})
	w, k := managed(t, func(w *Worker) { w.Handle("http", mux) })
	k.activate(s)

	idle := dial(t, s.addr)
	idle.want(t, "/", "pong", false)
	silent := map[string]*client{}
	for _, path := range []string{"slow", "silent", "begun"} {
		silent[path] = dial(t, s.addr)
		silent[path].write("GET", "/"+path, "")
		<-entered
	}
	half := dial(t, s.addr) // half of a request's headers
	io.WriteString(half.c, "GET / HTTP/1.1\r\nHo")
	fresh := dial(t, s.addr) // nothing yet
	eventually(t, "all are accepted", func() bool { return w.Stats().Open == 6 })

	k.drain(0)
	w.leaves()
	close(goOn)
	for path, closing := range map[string]bool{"slow": true, "silent": true, "begun": false} {
		_, closes, err := silent[path].read()
		if err != nil || closes != closing {
			t.Errorf("%s: closes %v, %v", path, closes, err)
		}
		if closing {
			silent[path].wantEnd(t)
		} else { // its headers were out already: the next answer says it
			silent[path].want(t, "/", "pong", true)
		}
	}
	io.WriteString(half.c, "st: x\r\n\r\n")
	if got, closes, err := half.read(); err != nil || !closes || got != "pong" {
		t.Errorf("half: %q %v %v", got, closes, err)
	}
	fresh.want(t, "/", "pong", true)
	select {
	case <-w.done:
		t.Fatal("the drain ended with an idle connection open")
	default:
	}
	idle.want(t, "/", "pong", true)
	if stats := k.drained(); stats.Cut != 0 {
		t.Errorf("%d cut", stats.Cut)
	}
	w.wait()
	if c, err := net.Dial("tcp", s.addr); err != nil {
		t.Errorf("the shared socket was shut down: %v", err)
	} else {
		c.Close()
	}
}

// At the deadline the rest is cut, and counted.
func TestDrainDeadline(t *testing.T) {
	s := newSlot(t, "http")
	entered := make(chan struct{})
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/" {
				return
			}
			entered <- struct{}{}
			<-r.Context().Done() // the cut tells a handler that listens
		}))
		w.OnActive(func(ctx context.Context) { <-ctx.Done() })
	})
	k.activate(s)
	idle := dial(t, s.addr)
	idle.want(t, "/", "", false)
	busy := dial(t, s.addr)
	busy.write("GET", "/busy", "")
	<-entered
	k.drain(20 * time.Millisecond)
	if stats := k.drained(); stats.Cut != 2 || stats.Open != 0 || stats.CutRequests != 1 || stats.CutLongestMS < 20 || stats.CutMedianMS < 20 {
		t.Errorf("drained with %+v", stats)
	}
	if err := w.wait(); err != nil {
		t.Fatal(err)
	}
	idle.wantEnd(t)
}

// Background work runs while active, starts again when active again, and never
// runs twice, also if it ends slowly.
func TestOnActive(t *testing.T) {
	s := newSlot(t, "http")
	var now, most, runs atomic.Int32
	slow := make(chan struct{}, 1)
	w, k := managed(t, func(w *Worker) {
		w.Handle("http", pong)
		w.OnActive(func(ctx context.Context) {
			runs.Add(1)
			if n := now.Add(1); n > most.Load() {
				most.Store(n)
			}
			defer now.Add(-1)
			<-ctx.Done()
			select {
			case <-slow: // as slow as the test wants
				<-slow
			default:
			}
		})
	})
	if runs.Load() != 0 {
		t.Error("it ran before the worker was active")
	}
	k.activate(s)
	k.activate() // again, without park: nothing starts twice
	for range 20 {
		eventually(t, "it runs", func() bool { return now.Load() == 1 })
		k.park()
		if now.Load() != 0 {
			t.Fatal("parked was said while it ran")
		}
		k.activate()
	}
	// Active, but the version before still works: it begins when it is told.
	k.park()
	k.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Wait: true}}, ipc.TypeAccepting)
	if now.Load() != 0 || w.State() != StateActive {
		t.Fatalf("%d run in state %s", now.Load(), w.State())
	}
	k.activate()
	// Active again before the last run has ended: parked and accepting are
	// said in order, and the next run waits.
	eventually(t, "it runs", func() bool { return now.Load() == 1 })
	slow <- struct{}{}
	before := runs.Load()
	parked := k.send(ipc.Message{Type: ipc.TypePark})
	active := k.send(ipc.Message{Type: ipc.TypeActivate})
	if m := k.recv(ipc.TypeParked); m.Seq != parked {
		t.Fatalf("parked answers %d", m.Seq)
	}
	if m := k.recv(ipc.TypeAccepting); m.Seq != active {
		t.Fatalf("accepting answers %d", m.Seq)
	}
	if now.Load() != 1 || runs.Load() != before {
		t.Fatalf("%d run now, %d more have begun", now.Load(), runs.Load()-before)
	}
	slow <- struct{}{}
	eventually(t, "it runs again", func() bool { return runs.Load() == before+1 && now.Load() == 1 })
	k.drain(0)
	k.drained()
	w.wait()
	if now.Load() != 0 || most.Load() != 1 {
		t.Errorf("%d run after the drain, at most %d ran at one time", now.Load(), most.Load())
	}
}

// While paused nothing is taken from the socket; a sibling gets all of it.
func TestPauseResume(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong) })
	k.activate(s)
	for range 5 {
		dial(t, s.addr).want(t, "/", "pong", false)
		k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
		taken := w.Stats().Accepted
		c := dial(t, s.addr)
		s.ln.SetDeadline(time.Now().Add(patience))
		sibling, err := s.ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		sibling.Close()
		c.wantEnd(t)
		if n := w.Stats().Accepted; n != taken {
			t.Fatalf("%d connections were taken while paused", n-taken)
		}
		queued := dial(t, s.addr)
		k.ask(ipc.Message{Type: ipc.TypeResume}, ipc.TypeAccepting)
		queued.want(t, "/", "pong", false)
	}
	// A drain while paused leaves the queue to whoever accepts.
	k.ask(ipc.Message{Type: ipc.TypePause}, ipc.TypePaused)
	c := dial(t, s.addr)
	k.drain(20 * time.Millisecond) // the kept connections above are cut
	k.drained()
	w.wait()
	if n := s.queued(t); n != 1 {
		t.Errorf("%d wait in the queue that was not ours", n)
	}
	c.c.Close()
}

func TestBeforeReady(t *testing.T) {
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	w.Handle("http", pong)
	w.BeforeReady(func(context.Context) error { return nil })
	w.BeforeReady(func(context.Context) error { return errors.New("no database") })
	r := run(t, w)
	if err := r.wait(); err == nil || !strings.Contains(err.Error(), "no database") {
		t.Fatalf("Run says %v", err)
	}

	// A drain ends one that waits, and one that hangs is not waited for long.
	for _, hangs := range []bool{false, true} {
		m := newMaster(t)
		end := make(chan struct{})
		w := workerWith(t, Options{}, m.env())
		w.Handle("http", pong)
		w.BeforeReady(func(ctx context.Context) error {
			if hangs {
				<-end
			} else {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		r := run(t, w)
		k, _ := m.accept()
		k.welcome("http")
		k.recv(ipc.TypeBeat) // beats come before ready
		k.drain(0)
		k.drained()
		if err := r.wait(); err != nil {
			t.Errorf("hangs %v: %v", hangs, err)
		}
		close(end)
	}
}

// What cannot be followed is refused with a reason, costs no descriptor, and
// changes nothing.
func TestRefused(t *testing.T) {
	s, other := newSlot(t, "http"), newSlot(t, "debug")
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong) })
	before := descriptors(t)
	activate := func(name string, fd int) ipc.Message {
		return k.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Listeners: []string{name}}}, ipc.TypeRefused, fd)
	}
	if m := activate("debug", other.fd); !strings.Contains(m.Text, `"debug"`) {
		t.Errorf("unknown listener: %q", m.Text)
	}
	pair := k.pass("http", ipc.PurposeProbe) // any socket that does not listen
	raw, _ := pair.(*net.UnixConn).SyscallConn()
	raw.Control(func(fd uintptr) {
		if m := activate("http", int(fd)); !strings.Contains(m.Text, "no listening socket") {
			t.Errorf("not a listener: %q", m.Text)
		}
	})
	if m := k.ask(ipc.Message{Type: "dance"}, ipc.TypeRefused); !strings.Contains(m.Text, `"dance"`) {
		t.Errorf("unknown message: %q", m.Text)
	}
	both := k.ask(ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{Listeners: []string{"http", "debug"}}}, ipc.TypeRefused, s.fd, other.fd)
	if !strings.Contains(both.Text, `"debug"`) {
		t.Errorf("one of two unknown: %q", both.Text)
	}
	if w.State() != StateReady {
		t.Errorf("state %s", w.State())
	}
	pair.Close()
	eventually(t, "no descriptor is left behind", func() bool { return descriptors(t) == before })
	k.activate(s)
	dial(t, s.addr).want(t, "/", "pong", false)
	k.drain(time.Millisecond)
	k.drained()
	w.wait()
}

// descriptors are those that this process has open.
func descriptors(t *testing.T) int {
	t.Helper()
	open, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(open)
}

// A worker that leaves without its master's word goes on accepting until it is
// quiet: nobody has steered its clients away.
func TestLeaveUnasked(t *testing.T) {
	s := newSlot(t, "http")
	w, k := managed(t, func(w *Worker) { w.Handle("http", pong) })
	k.activate(s)
	kept := dial(t, s.addr)
	kept.want(t, "/", "pong", false)
	w.stop() // as SIGTERM does
	w.leaves()
	dial(t, s.addr).want(t, "/", "pong", true)
	kept.want(t, "/", "pong", true)
	k.drained()
	w.wait()
}
