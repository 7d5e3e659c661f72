//go:build linux

package session

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

// patience of tests: for what should come at once, on a machine that is busy.
const patience = 30 * time.Second

// house is a hub with a notebook.
type house struct {
	*testing.T
	hub  *Hub
	path string
	logs *observer.ObservedLogs

	mu      sync.Mutex
	refused map[string]int
	changed chan struct{} // closed and replaced with each refusal
}

func newHouse(t *testing.T) *house {
	t.Helper()
	return newPatientHouse(t, 0)
}

// newPatientHouse waits so long for a hello; zero: as ever.
func newPatientHouse(t *testing.T, hello time.Duration) *house {
	t.Helper()
	core, logs := observer.New(zapcore.DebugLevel)
	h := &house{T: t, path: filepath.Join(t.TempDir(), "c"), logs: logs, refused: map[string]int{}, changed: make(chan struct{})}
	var err error
	h.hub, err = Listen(Options{Path: h.path, Log: zap.New(core), Refused: h.refuse, helloTimeout: hello})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.hub.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *house) refuse(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.refused[reason]++
	close(h.changed)
	h.changed = make(chan struct{})
}

// wantRefused waits until so many connections were refused for this reason.
func (h *house) wantRefused(reason string, n int) {
	h.Helper()
	h.await(n, func() int { return h.refused[reason] })
}

// wantAllRefused waits until so many were refused for any reason.
func (h *house) wantAllRefused(n int) {
	h.Helper()
	h.await(n, func() int {
		sum := 0
		for _, n := range h.refused {
			sum += n
		}
		return sum
	})
}

func (h *house) await(n int, count func() int) {
	h.Helper()
	late := time.After(patience)
	for {
		h.mu.Lock()
		got, changed := count(), h.changed
		h.mu.Unlock()
		if got == n {
			return
		}
		if got > n {
			h.Fatalf("%d connections were refused, not %d", got, n)
		}
		select {
		case <-changed:
		case <-late:
			h.mu.Lock()
			defer h.mu.Unlock()
			h.Fatalf("%d connections were refused, not %d: %v", got, n, h.refused)
		}
	}
}

const (
	testWorker     = 7
	testGeneration = 3
)

// expectation is of a worker that this process plays, if it has its PID.
func expectation(facts func(Fact)) Expect {
	return Expect{
		Worker: testWorker, Generation: testGeneration, Secret: NewSecret(), UID: uint32(os.Getuid()), Fact: facts,
		Welcome: ipc.Welcome{Service: "shop", Label: "v1", BeatMS: 1000, Listeners: []ipc.Listener{{Name: "http", Address: "tcp://127.0.0.1:8080"}}},
	}
}

// expected is a session with its facts in a channel.
type expected struct {
	*Session
	t     *testing.T
	e     Expect
	facts chan Fact
}

func (h *house) expect() *expected {
	h.Helper()
	facts := make(chan Fact, 4*maxRate)
	e := expectation(func(f Fact) { facts <- f })
	s := h.hub.Expect(e)
	s.SetPID(os.Getpid())
	return &expected{s, h.T, e, facts}
}

// want takes the next fact, which must be of this kind.
func (e *expected) want(kind Kind) Fact {
	e.t.Helper()
	select {
	case f := <-e.facts:
		if f.Kind != kind {
			e.t.Fatalf("%v (%+v) instead of %v", f.Kind, f, kind)
		}
		return f
	case <-time.After(patience):
		e.t.Fatalf("no %v", kind)
	}
	panic("not reached")
}

func (e *expected) hello(state string) ipc.Message {
	return ipc.Message{Type: ipc.TypeHello, Hello: &ipc.Hello{Min: ipc.MinVersion, Max: ipc.MaxVersion, Worker: e.e.Worker,
		Generation: e.e.Generation, Secret: e.e.Secret, PID: os.Getpid(), SDK: "test/1", State: state}}
}

// peer is the other end, played by the test.
type peer struct {
	*ipc.Link
	t *testing.T
}

func (h *house) dial() peer {
	h.Helper()
	l, err := ipc.Dial(h.path)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { l.Close() })
	return peer{l, h.T}
}

// join says hello and is welcomed.
func (h *house) join(e *expected, state string) peer {
	h.Helper()
	p := h.dial()
	p.say(e.hello(state))
	if m, _ := p.hear(ipc.TypeWelcome); m.Welcome.Version != ipc.MaxVersion || m.Welcome.Service != e.e.Welcome.Service {
		h.Fatalf("welcomed with %+v", m.Welcome)
	}
	if f := e.want(Connected); f.Hello == nil || f.Hello.State != state || f.Hello.Secret != "" {
		h.Fatalf("connected with %+v", f.Hello)
	}
	return p
}

func (p peer) say(m ipc.Message) {
	p.t.Helper()
	if err := p.Send(m); err != nil {
		p.t.Fatal(err)
	}
}

// hear takes the next message, which must be of this type.
func (p peer) hear(typ ipc.Type) (ipc.Message, []int) {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	m, fds, err := p.Recv()
	if err != nil || m.Type != typ {
		p.t.Fatalf("heard %+v, %v instead of %s", m, err, typ)
	}
	return m, fds
}

// wantEnd waits for the end of the connection, past all that was said before.
func (p peer) wantEnd() {
	p.t.Helper()
	if err := p.SetReadDeadline(time.Now().Add(patience)); err != nil {
		p.t.Fatal(err)
	}
	for {
		_, fds, err := p.Recv()
		closeFDs(fds)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			p.t.Fatal("the connection stays open")
		}
		if err != nil {
			return
		}
	}
}

// pipe makes a pipe whose read end sees io.EOF once every write end is closed.
func pipe(t *testing.T) (r *os.File, w int) {
	t.Helper()
	var p [2]int
	if err := unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r = os.NewFile(uintptr(p[0]), "pipe")
	t.Cleanup(func() { r.Close() })
	return r, p[1]
}

// wantClosed fails unless nobody holds the write end any more.
func wantClosed(t *testing.T, r *os.File) {
	t.Helper()
	if err := r.SetReadDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Fatalf("a descriptor is still open: read %d bytes, %v", n, err)
	}
}
