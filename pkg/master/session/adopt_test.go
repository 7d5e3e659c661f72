//go:build linux

package session

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
)

// adopt expects a worker of which the master before has written down the hash.
func (h *house) adopt() *expected {
	h.Helper()
	facts := make(chan Fact, 4*maxRate)
	e := expectation(func(f Fact) { facts <- f })
	known := e
	known.Secret, known.SecretHash = "", HashSecret(e.Secret)
	s := h.hub.Expect(known)
	s.SetPID(os.Getpid())
	return &expected{s, h.T, e, facts}
}

func TestAnAdoptedWorkerProvesItselfByTheHash(t *testing.T) {
	h := newHouse(t)
	e := h.adopt()
	if e.Connected() {
		t.Error("connected before it was")
	}
	secret := e.e.Secret
	for i, wrong := range []string{NewSecret(), HashSecret(secret), secret[:31]} {
		e.e.Secret = wrong
		p := h.dial()
		p.say(e.hello(ipc.StateActive))
		p.hear(ipc.TypeReject)
		h.wantRefused(RefusedSecret, i+1)
	}
	e.e.Secret = secret
	h.join(e, ipc.StateActive)
	e.want(Ready)
	e.want(Accepting) // whoever told it so
	if !e.Connected() {
		t.Error("not connected")
	}
}

func TestAHashIsNoSecret(t *testing.T) {
	for _, e := range []Expect{{}, {Secret: "a"}, {SecretHash: HashSecret("a")}, {Secret: "a", SecretHash: HashSecret("b")}} {
		for _, s := range []string{"", "b", HashSecret("a"), HashSecret("b")} {
			if newSession(e).proves(s) {
				t.Errorf("%+v is proved by %q", e, s)
			}
		}
	}
	if e := (Expect{SecretHash: HashSecret("a")}); !newSession(e).proves("a") {
		t.Error("it is not proved by its secret")
	}
}

// Requests are numbered above those of the earlier master, so that late answers
// to those are none to ours, and no mistake.
func TestLateAnswersToAnEarlierMaster(t *testing.T) {
	h := newHouse(t)
	e := h.adopt()
	hello := e.hello(ipc.StateParked)
	hello.Hello.Seq, hello.Hello.Listeners, hello.Hello.Background = 12, []string{"ht\x1btp"}, true
	p := h.dial()
	p.say(hello)
	p.hear(ipc.TypeWelcome)
	f := e.want(Connected)
	if f.Hello.Seq != 12 || !f.Hello.Background || f.Hello.Listeners[0] != "ht tp" {
		t.Errorf("%+v", f.Hello)
	}
	e.want(Ready)
	p.say(ipc.Message{Type: ipc.TypeParked, Seq: 12})
	if f := e.want(Parked); f.Seq != 12 {
		t.Errorf("%+v", f)
	}
	if err := e.Activate(nil, nil); err != nil {
		t.Fatal(err)
	}
	m, _ := p.hear(ipc.TypeActivate)
	if m.Seq != 13 {
		t.Errorf("request %d follows 12", m.Seq)
	}
	p.say(ipc.Message{Type: ipc.TypeAccepting, Seq: 11}) // to an earlier activate
	p.say(ipc.Message{Type: ipc.TypeAccepting, Seq: 13})
	if f := e.want(Accepting); f.Seq != 13 {
		t.Errorf("%+v", f)
	}
	p.say(ipc.Message{Type: ipc.TypeParked, Seq: 14}) // never asked by anybody
	e.want(Lost)
}

// An older SDK does not say what it was asked before: what it answers to that is
// nobody's, and costs it nothing.
func TestLateAnswersOfAnOlderSDK(t *testing.T) {
	h := newHouse(t)
	e := h.adopt()
	p := h.join(e, ipc.StateParked)
	e.want(Ready)
	p.say(ipc.Message{Type: ipc.TypeParked, Seq: 12})
	p.say(ipc.Message{Type: ipc.TypeBeat, Stats: &ipc.Stats{}})
	e.want(Beat)
}

// Who connects before all are expected waits, and is refused by nobody.
func TestTheHubBeginsLater(t *testing.T) {
	h := &house{T: t, path: filepath.Join(t.TempDir(), "c"), refused: map[string]int{}, changed: make(chan struct{})}
	var err error
	if h.hub, err = Listen(Options{Path: h.path, Refused: h.refuse, Later: true}); err != nil {
		t.Fatal(err)
	}
	p := h.dial()
	e := h.adopt()
	p.say(e.hello(ipc.StateActive))
	if e.Connected() {
		t.Error("it has begun already")
	}
	h.hub.Begin()
	h.hub.Begin()
	p.hear(ipc.TypeWelcome)
	e.want(Connected)
	if err := h.hub.Close(); err != nil {
		t.Error(err)
	}
	h.hub.Begin()

	never, err := Listen(Options{Path: h.path, Later: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := never.Close(); err != nil {
		t.Error(err)
	}
}
