//go:build linux

package session

import (
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
)

func TestWhoIsNotWelcome(t *testing.T) {
	for name, c := range map[string]struct {
		change func(e *Expect, m *ipc.Message)
		pid    int // of the worker; zero: this process
		reason string
		want   string
	}{
		"another worker":     {change: func(_ *Expect, m *ipc.Message) { m.Hello.Worker = 8 }, reason: RefusedSecret, want: "not expected"},
		"another generation": {change: func(_ *Expect, m *ipc.Message) { m.Hello.Generation = 4 }, reason: RefusedSecret, want: "not expected"},
		"a wrong secret":     {change: func(_ *Expect, m *ipc.Message) { m.Hello.Secret = NewSecret() }, reason: RefusedSecret, want: "secret"},
		"no secret at all":   {change: func(e *Expect, m *ipc.Message) { e.Secret = "" }, reason: RefusedSecret, want: "secret"},
		"another user":       {change: func(e *Expect, _ *ipc.Message) { e.UID++ }, reason: RefusedUser, want: "uid"},
		"another process":    {pid: 1, reason: RefusedProcess, want: "process group"},
		"too new":            {change: func(_ *Expect, m *ipc.Message) { m.Hello.Min, m.Hello.Max = 99, 100 }, reason: RefusedProtocol, want: "upgrade masterd"},
		"not a hello":        {change: func(_ *Expect, m *ipc.Message) { *m = ipc.Message{Type: ipc.TypeReady} }, reason: RefusedGarbage, want: "not a hello"},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			e := expectation(func(f Fact) { t.Errorf("told %+v", f) })
			m := (&expected{e: e}).hello(ipc.StateNew)
			if c.change != nil {
				c.change(&e, &m)
			}
			s := h.hub.Expect(e)
			if c.pid == 0 {
				c.pid = os.Getpid()
			}
			s.SetPID(c.pid)
			p := h.dial()
			p.say(m)
			if m, _ := p.hear(ipc.TypeReject); !strings.Contains(m.Text, c.want) || strings.Contains(m.Text, e.Secret) && e.Secret != "" {
				t.Errorf("%q does not speak of %q", m.Text, c.want)
			}
			p.wantEnd()
			h.wantRefused(c.reason, 1)
			if n := h.logs.FilterMessage("refused a connection to the control socket").Len(); n != 1 {
				t.Errorf("%d lines in the log", n)
			}
		})
	}
}

// These may try again: they are not told that they are refused.
func TestWhoMayTryAgain(t *testing.T) {
	h := newHouse(t)
	e := h.expect()

	silent := h.dial()
	silent.wantEnd()
	h.wantRefused(RefusedSilence, 1)

	gone := h.dial()
	gone.Close()
	h.wantRefused(RefusedLeft, 1)

	// One that waits for its PID in vain.
	s := newSession(e.e)
	verdict := make(chan *refusal)
	go func() {
		_, no := h.hub.awaitPID(s)
		verdict <- no
	}()
	s.forget()
	if no := <-verdict; no == nil || no.reason != RefusedGone || no.final() {
		t.Errorf("%+v", no)
	}
	h.join(e, ipc.StateNew)
}

func TestAHelloThatComesBeforeItsPID(t *testing.T) {
	h := newHouse(t)
	facts := make(chan Fact, 8)
	e := expectation(func(f Fact) { facts <- f })
	s := h.hub.Expect(e)
	p := h.dial()
	p.say((&expected{e: e}).hello(ipc.StateNew))
	if s.Connected() {
		t.Error("connected although nobody knows whose process that is")
	}
	s.SetPID(os.Getpid())
	s.SetPID(1) // too late to change it
	p.hear(ipc.TypeWelcome)
	if f := <-facts; f.Kind != Connected {
		t.Errorf("%+v", f)
	}
}

// A worker may be a wrapper whose child speaks: whoever is in its group.
func TestAProcessOfTheWorkersGroup(t *testing.T) {
	h := newHouse(t)
	e := expectation(nil)
	s := h.hub.Expect(e)
	leader := syscall.Getpgrp()
	if leader == os.Getpid() || leader == 0 {
		t.Skip("this process leads its own group")
	}
	s.SetPID(leader)
	p := h.dial()
	p.say((&expected{e: e}).hello(ipc.StateNew))
	p.hear(ipc.TypeWelcome)

	// One that leads another group is not.
	other := exec.Command("sleep", "60")
	other.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = other.Process.Kill()
		_ = other.Wait()
	}()
	if processGroup(other.Process.Pid) != other.Process.Pid || processGroup(0) != -1 || processGroup(-1) != -1 {
		t.Error("process groups are not what they are")
	}
	e.Worker = 8
	h.hub.Expect(e).SetPID(other.Process.Pid)
	p = h.dial()
	p.say((&expected{e: e}).hello(ipc.StateNew))
	p.hear(ipc.TypeReject)
}

func TestSecrets(t *testing.T) {
	a, b := NewSecret(), NewSecret()
	if a == b || len(a) != 2*secretBytes || strings.Trim(a, "0123456789abcdef") != "" {
		t.Errorf("%q, %q", a, b)
	}
	if !sameSecret(a, a) || sameSecret(a, b) || sameSecret("", "") || sameSecret(a, a[:8]) {
		t.Error("secrets are compared wrongly")
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain":                              "plain",
		"a\nb\x00c\x1b[1m":                   "a b c [1m",
		"größer €":                           "größer €",
		"\xff\xfe":                           "\uFFFD\uFFFD",
		strings.Repeat("x", maxText-1) + "€": strings.Repeat("x", maxText-1),
		strings.Repeat("x", 3*maxText):       strings.Repeat("x", maxText),
	} {
		if got := printable(in); got != want {
			t.Errorf("%q becomes %q", in, got)
		}
	}
}
