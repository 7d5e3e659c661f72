//go:build linux

package session

import (
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

func TestTheLifeOfAWorker(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	if e.Connected() {
		t.Error("connected before it was")
	}
	if err := e.Park(); err == nil {
		t.Error("parked nobody")
	}
	p := h.join(e, ipc.StateNew)
	if !e.Connected() {
		t.Error("not connected")
	}
	p.say(ipc.Message{Type: ipc.TypeReady})
	e.want(Ready)

	// A probe; the descriptor is the session's to close.
	r, w := pipe(t)
	if err := e.Conn("http", ipc.PurposeProbe, w); err != nil {
		t.Fatal(err)
	}
	m, fds := p.hear(ipc.TypeConn)
	if m.Conn.Listener != "http" || m.Conn.Purpose != ipc.PurposeProbe || len(fds) != 1 {
		t.Fatalf("%+v with %d descriptors", m.Conn, len(fds))
	}
	closeFDs(fds)
	wantClosed(t, r)

	// The slots; the descriptors stay the caller's, who need not wait.
	r, w = pipe(t)
	r2, w2 := pipe(t)
	names := []string{"http", "admin"}
	if err := e.Activate(names, []int{w, w2}); err != nil {
		t.Fatal(err)
	}
	names[0] = "scribbled over"
	closeFDs([]int{w, w2})
	m, fds = p.hear(ipc.TypeActivate)
	if !slices.Equal(m.Activate.Listeners, []string{"http", "admin"}) || len(fds) != 2 {
		t.Fatalf("%+v with %d descriptors", m.Activate, len(fds))
	}
	if _, err := unix.Write(fds[1], []byte("x")); err != nil {
		t.Error(err)
	}
	if n, err := r2.Read(make([]byte, 1)); n != 1 {
		t.Errorf("names and descriptors are not in the same order: %v", err)
	}
	closeFDs(fds)
	wantClosed(t, r)
	wantClosed(t, r2)
	p.say(ipc.Message{Type: ipc.TypeAccepting, Seq: m.Seq})
	if f := e.want(Accepting); f.Seq != m.Seq {
		t.Errorf("%+v answers request %d", f, m.Seq)
	}
	p.say(ipc.Message{Type: ipc.TypeBeat, Stats: &ipc.Stats{Open: 3, Requests: 17}})
	if f := e.want(Beat); f.Stats.Open != 3 || f.Stats.Requests != 17 {
		t.Errorf("%+v", f.Stats)
	}

	last := m.Seq
	for _, c := range []struct {
		ask    func() error
		asked  ipc.Type
		answer ipc.Type // none: no answer
		fact   Kind
	}{
		{e.Pause, ipc.TypePause, ipc.TypePaused, Paused},
		{e.Resume, ipc.TypeResume, ipc.TypeAccepting, Accepting},
		{e.Park, ipc.TypePark, ipc.TypeParked, Parked},
		{func() error { return e.Activate(nil, nil) }, ipc.TypeActivate, ipc.TypeAccepting, Accepting},
		{e.Dump, ipc.TypeDump, ipc.TypeRefused, Refused},
		{e.Stay, ipc.TypeStay, ipc.TypeRefused, Refused},
		{func() error { return e.Drain(0) }, ipc.TypeDrain, "", 0},
		{func() error { return e.Drain(time.Nanosecond) }, ipc.TypeDrain, "", 0},
		{func() error { return e.Drain(time.Minute) }, ipc.TypeDrain, ipc.TypeDrained, Drained},
	} {
		if err := c.ask(); err != nil {
			t.Fatal(err)
		}
		m, _ := p.hear(c.asked)
		if m.Seq != last+1 {
			t.Errorf("%s has seq %d after %d", m.Type, m.Seq, last)
		}
		last = m.Seq
		if c.answer == "" {
			continue
		}
		p.say(ipc.Message{Type: c.answer, Seq: m.Seq, Text: "why\x1b[31m\nnot"})
		if f := e.want(c.fact); f.Seq != m.Seq || strings.ContainsAny(f.Text, "\x1b\n") {
			t.Errorf("%+v answers request %d", f, m.Seq)
		}
	}
	e.Heard(time.Millisecond) // there may be more to hear: it waits no longer than it is told
	p.Close()
	e.Heard(time.Minute)
	if e.Connected() {
		t.Error("all was heard, and it is connected")
	}
	if f := e.want(Lost); f.Text == "" || e.Connected() {
		t.Errorf("%+v", f)
	}
	h.hub.Forget(testWorker)
	h.hub.Forget(testWorker)
	if refused, pending := h.hub.counters(); refused != 0 || pending != 0 {
		t.Errorf("%d refused, %d pending", refused, pending)
	}
}

func TestDrainTimeoutsKeepTheirMeaning(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	for timeout, want := range map[time.Duration]int64{0: 0, time.Nanosecond: 1, 1500 * time.Millisecond: 1500, -time.Second: 0} {
		if err := e.Drain(timeout); err != nil {
			t.Fatal(err)
		}
		if m, _ := p.hear(ipc.TypeDrain); m.Drain.TimeoutMS != want {
			t.Errorf("%v is sent as %d ms", timeout, m.Drain.TimeoutMS)
		}
	}
}

func TestRequestsThatCannotBeSent(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	_, w := pipe(t)
	if err := e.Activate([]string{"a", "b"}, []int{w}); err == nil {
		t.Error("two names for one descriptor")
	}
	many := make([]int, ipc.MaxFDs+1)
	for i := range many {
		many[i] = w
	}
	if err := e.Activate(make([]string, len(many)), many); err == nil || !strings.Contains(err.Error(), "253") {
		t.Error(err)
	}
	if err := e.Activate([]string{"http"}, []int{1 << 20}); err == nil || !strings.Contains(err.Error(), "http") {
		t.Error(err)
	}
	closeFDs([]int{w})
	r, w := pipe(t)
	if err := e.Conn("", ipc.PurposeServe, w); err == nil {
		t.Error("a connection for no listener")
	}
	wantClosed(t, r)

	for _, pass := range []func(int, ipc.Peer) error{e.Give, e.Take} {
		r, w := pipe(t)
		if err := pass(w, ipc.Peer{}); err == nil {
			t.Error("a link to nobody")
		}
		wantClosed(t, r)
	}

	// None of it has cost the connection.
	if err := e.Dump(); err != nil {
		t.Fatal(err)
	}
	if m, _ := p.hear(ipc.TypeDump); m.Seq != 1 {
		t.Errorf("seq %d", m.Seq)
	}

	// Without a connection the descriptor is closed just the same.
	p.Close()
	e.want(Lost)
	r, w = pipe(t)
	if err := e.Conn("http", ipc.PurposeServe, w); err == nil {
		t.Error("sent to nobody")
	}
	wantClosed(t, r)
	for _, pass := range []func(int, ipc.Peer) error{e.Give, e.Take} {
		r, w := pipe(t)
		if err := pass(w, ipc.Peer{Worker: 8, Generation: 4}); err == nil {
			t.Error("a link for nobody")
		}
		wantClosed(t, r)
	}
}

func TestLinksArePassedOn(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	peer := ipc.Peer{Worker: 8, Generation: 4, Instead: true}
	for typ, pass := range map[ipc.Type]func(int, ipc.Peer) error{ipc.TypeGive: e.Give, ipc.TypeTake: e.Take} {
		r, w := pipe(t)
		if err := pass(w, peer); err != nil {
			t.Fatal(err)
		}
		m, fds := p.hear(typ)
		if !reflect.DeepEqual(*m.Peer, peer) || len(fds) != 1 {
			t.Fatalf("%+v with %d descriptors", m.Peer, len(fds))
		}
		closeFDs(fds)
		wantClosed(t, r)
	}
}

func TestAShareIsPassedOn(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	peer, share := ipc.Peer{Worker: 8, Generation: 4, Instead: true}, ipc.Split{Rollout: 3, Weight: 2500, Salt: 3}
	r, w := pipe(t)
	seq, err := e.Split(w, peer, share)
	if err != nil {
		t.Fatal(err)
	}
	m, fds := p.hear(ipc.TypeSplit)
	if !reflect.DeepEqual(*m.Peer, peer) || *m.Split != share || len(fds) != 1 || m.Seq != seq {
		t.Fatalf("%+v %+v with %d descriptors, seq %d instead of %d", m.Peer, m.Split, len(fds), m.Seq, seq)
	}
	closeFDs(fds)
	wantClosed(t, r)
	p.say(ipc.Message{Type: ipc.TypeRefused, Seq: seq, Text: "what is a split?"})
	if f := e.want(Refused); f.Seq != seq {
		t.Errorf("%+v answers request %d", f, seq)
	}

	// What cannot be sent costs the descriptor, and not the connection.
	r, w = pipe(t)
	if _, err := e.Split(w, peer, ipc.Split{Rollout: 3}); err == nil || !e.Connected() {
		t.Errorf("%v, connected %v", err, e.Connected())
	}
	wantClosed(t, r)
}

func TestReconnecting(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	first := h.join(e, ipc.StateNew)
	first.say(ipc.Message{Type: ipc.TypeReady})
	e.want(Ready)
	if err := e.Activate(nil, nil); err != nil {
		t.Fatal(err)
	}
	m, _ := first.hear(ipc.TypeActivate)

	// The old connection is not over yet as far as the master knows: the new
	// one replaces it. The answer that the old one lost is not missed.
	second := h.dial()
	second.say(e.hello(ipc.StateActive))
	second.hear(ipc.TypeWelcome)
	if f := e.want(Lost); !strings.Contains(f.Text, "new connection") {
		t.Errorf("%+v", f)
	}
	e.want(Connected)
	e.want(Ready)
	if f := e.want(Accepting); f.Seq != m.Seq {
		t.Errorf("%+v answers request %d", f, m.Seq)
	}
	first.wantEnd()

	if err := e.Park(); err != nil {
		t.Fatal(err)
	}
	park, _ := second.hear(ipc.TypePark)
	if park.Seq != m.Seq+1 {
		t.Errorf("seq %d after %d: it goes on over connections", park.Seq, m.Seq)
	}
	second.Close()
	e.want(Lost)
	third := h.join(e, ipc.StateParked)
	e.want(Ready)
	third.say(ipc.Message{Type: ipc.TypeParked, Seq: park.Seq})
	e.want(Parked)
}

func TestAnAnswerToAnOlderActivateIsDropped(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	for range 2 {
		if err := e.Activate(nil, nil); err != nil {
			t.Fatal(err)
		}
	}
	p.say(ipc.Message{Type: ipc.TypeAccepting, Seq: 1})
	p.say(ipc.Message{Type: ipc.TypeAccepting, Seq: 2})
	if f := e.want(Accepting); f.Seq != 2 {
		t.Errorf("%+v", f)
	}
}

// What a worker says wrongly costs it the connection, and nobody else anything.
func TestWorkersThatBreakTheProtocol(t *testing.T) {
	for name, c := range map[string]struct {
		say   ipc.Message
		times int
		want  string
	}{
		"hello twice":         {ipc.Message{Type: ipc.TypeHello, Hello: &ipc.Hello{Min: 1, Max: 1, Worker: 1, PID: 1, Secret: "x"}}, 1, "twice"},
		"a master's message":  {ipc.Message{Type: ipc.TypePark, Seq: 1}, 1, "only masters"},
		"an answer to nobody": {ipc.Message{Type: ipc.TypeParked, Seq: 99}, 1, "99"},
		"a flood":             {ipc.Message{Type: ipc.TypeReady}, maxRate + 1, "more than"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			e := h.expect()
			p := h.join(e, ipc.StateNew)
			for range c.times {
				if p.Send(c.say) != nil {
					break // cut already
				}
			}
			p.wantEnd()
			for {
				f := <-e.facts
				if f.Kind == Ready {
					continue
				}
				if f.Kind != Lost || !strings.Contains(f.Text, c.want) {
					t.Errorf("%+v does not speak of %q", f, c.want)
				}
				break
			}
			h.join(e, ipc.StateNew) // and it may come back
		})
	}
}

func TestAMessageFromTheFutureIsIgnored(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	r, w := pipe(t)
	if err := p.Send(ipc.Message{Type: "levitate", Text: "high"}, w); err != nil {
		t.Fatal(err)
	}
	closeFDs([]int{w})
	p.say(ipc.Message{Type: ipc.TypeReady})
	e.want(Ready)
	wantClosed(t, r)
}

// A worker that reads nothing loses its connection and no caller waits for it.
func TestAWorkerThatDoesNotRead(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	h.join(e, ipc.StateNew)
	_, w := pipe(t)
	var err error
	for n := 0; err == nil; n++ {
		if n > 100*maxQueue {
			t.Fatal("the queue has no end")
		}
		var dup int
		if dup, err = dupFD(w); err != nil {
			t.Fatal(err)
		}
		err = e.Conn("http", ipc.PurposeServe, dup)
	}
	closeFDs([]int{w})
	if !strings.Contains(err.Error(), "has not read") || e.Connected() {
		t.Error(err)
	}
	if f := e.want(Lost); !strings.Contains(f.Text, "has not read") {
		t.Errorf("%+v", f)
	}
	h.join(e, ipc.StateReady)
}

// Who asks for room first does not cost the worker its connection.
func TestRoom(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	if n := e.Capacity(); n != 0 {
		t.Errorf("room for %d without a connection", n)
	}
	h.join(e, ipc.StateNew)
	_, w := pipe(t)
	for n := 0; e.Capacity() > 0 && n < 100*maxQueue; n++ {
		dup, err := dupFD(w)
		if err != nil {
			t.Fatal(err)
		}
		if err := e.Conn("http", ipc.PurposeServe, dup); err != nil {
			t.Fatal(err)
		}
	}
	closeFDs([]int{w})
	if err := e.Park(); err != nil || !e.Connected() {
		t.Errorf("a full queue has no place for what the worker must be told: %v", err)
	}
}

func TestForgetWhileTheCallbackWaitsForUs(t *testing.T) {
	h := newHouse(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	calls := 0
	e := expectation(func(Fact) {
		calls++
		close(entered) // a second call would panic
		<-leave
	})
	s := h.hub.Expect(e)
	s.SetPID(os.Getpid())
	p := h.dial()
	p.say((&expected{e: e}).hello(ipc.StateReady)) // would be Connected, Ready
	p.hear(ipc.TypeWelcome)
	<-entered
	h.hub.Forget(testWorker) // as the loop does, whose inbox the callback waits for
	p.wantEnd()
	close(leave)
	if err := h.hub.Close(); err != nil {
		t.Fatal(err)
	}
	if calls != 1 {
		t.Errorf("%d callbacks", calls)
	}
}

func TestForgetFromTheCallback(t *testing.T) {
	h := newHouse(t)
	forgotten := make(chan struct{})
	e := expectation(func(Fact) {
		h.hub.Forget(testWorker)
		close(forgotten)
	})
	s := h.hub.Expect(e)
	s.SetPID(os.Getpid())
	p := h.dial()
	p.say((&expected{e: e}).hello(ipc.StateReady))
	<-forgotten
	p.wantEnd()
}

func TestCloseEndsEverything(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	live := h.join(e, ipc.StateNew)
	waiting := h.dial()
	early := h.hub.Expect(Expect{Worker: 8, Generation: 1, Secret: "s", UID: uint32(os.Getuid()), Welcome: e.e.Welcome})
	hello := e.hello(ipc.StateNew)
	hello.Hello.Worker, hello.Hello.Generation, hello.Hello.Secret = 8, 1, "s"
	unborn := h.dial()
	unborn.say(hello)
	if err := h.hub.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.hub.Close(); err != nil {
		t.Fatal(err)
	}
	for _, p := range []peer{live, waiting, unborn} {
		p.wantEnd()
	}
	if early.Connected() || e.Connected() || e.Park() == nil {
		t.Error("there still is a connection")
	}
	if len(e.facts) != 0 {
		t.Errorf("%+v after Close", <-e.facts)
	}
	if s := h.hub.Expect(e.e); s.Park() == nil {
		t.Error("a closed hub takes workers")
	}
	if _, err := os.Lstat(h.path); !os.IsNotExist(err) {
		t.Error(err)
	}
}

func TestListenWhereNothingCanBe(t *testing.T) {
	if h, err := Listen(Options{Path: filepath.Join(t.TempDir(), "none", "c")}); err == nil {
		h.Close()
		t.Error("listens in a directory that is not there")
	}
}

func closeFDs(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}
