//go:build linux

package session

import (
	"net"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/proc/proctest"
)

// What a process of the workers' user may do with a secret that it has read from
// /proc/PID/environ.

// connectAndLeave is what the process of posedBy does: it connects descriptor 3.
func connectAndLeave(path string) {
	if err := unix.Connect(3, &unix.SockaddrUnix{Name: path}); err != nil {
		os.Exit(1)
	}
	os.Exit(0)
}

// connectedByTheDead is a connection that a process has made which has ended since,
// and the number that it had.
func (h *house) connectedByTheDead() (peer, int) {
	h.Helper()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		h.Fatal(err)
	}
	file := os.NewFile(uintptr(fd), "connection")
	c := exec.Command("/proc/self/exe", "connect", h.path)
	c.ExtraFiles = []*os.File{file}
	if err := c.Run(); err != nil {
		h.Fatal(err)
	}
	conn, err := net.FileConn(file)
	file.Close()
	if err != nil {
		h.Fatal(err)
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		h.Fatal(err)
	}
	var link *ipc.Link
	if cerr := raw.Control(func(fd uintptr) {
		dup, _ := unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3)
		link, err = ipc.Adopt(dup)
	}); cerr != nil || err != nil {
		h.Fatal(cerr, err)
	}
	h.Cleanup(func() { link.Close() })
	return peer{link, h.T}, c.Process.Pid
}

// A connection is its maker's, not of whoever has its number later: a sibling that
// knows the candidate's secret connects, dies, and has the kernel give its number to
// the candidate.
func TestANumberThatWasGivenAgainIsNotTheWorker(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may have a process number given again on purpose")
	}
	h := newPatientHouse(t, time.Minute)
	p, pid := h.connectedByTheDead()
	proctest.Numbered(t, pid)
	e := expectation(func(f Fact) { t.Errorf("told %+v", f) })
	h.hub.Expect(e).SetPID(pid)
	p.say((&expected{e: e}).hello(ipc.StateNew))
	p.wantEnd()
	h.wantRefused(RefusedLeft, 1)
}

// refused says hello from this process with a secret, and must not be welcomed.
func (h *house) refusedWith(e *expected, secret string) {
	h.Helper()
	before := h.count(RefusedSecret)
	p := h.dial()
	m := e.hello(ipc.StateActive)
	m.Hello.Secret = secret
	p.say(m)
	p.hear(ipc.TypeReject)
	h.wantRefused(RefusedSecret, before+1)
}

func (h *house) count(reason string) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.refused[reason]
}

// inherits is the worker's end of the connection that it is started with.
func (h *house) inherits(e *expected) peer {
	h.Helper()
	fd, err := e.Inherit()
	if err != nil {
		h.Fatal(err)
	}
	defer closeFDs([]int{fd})
	number, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD, 3) // as a program finds it
	if err != nil {
		h.Fatal(err)
	}
	as, err := ipc.InheritedAs(number, fd)
	if err != nil {
		h.Fatal(err)
	}
	link, err := ipc.Inherit(as)
	if err != nil {
		h.Fatal(err)
	}
	h.Cleanup(func() { link.Close() })
	return peer{link, h.T}
}

// What could be read from the environment serves once: not even a process of the
// worker's own group is welcomed with it later.
func TestTheEnvironmentsSecretServesOnce(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	first := e.e.Secret
	p := h.inherits(e)
	p.say(e.hello(ipc.StateNew))
	p.hear(ipc.TypeWelcome)
	e.want(Connected)
	fresh := NewSecret()
	if err := e.Renew(fresh); err != nil {
		t.Fatal(err)
	}
	m, _ := p.hear(ipc.TypeRenew)
	p.say(ipc.Message{Type: ipc.TypeRenewed, Seq: m.Seq})
	e.want(Renewed)
	h.refusedWith(e, first)
	h.refusedWith(e, HashSecret(fresh))
	if !e.Connected() {
		t.Error("an attempt has cost the worker its connection")
	}
	p.say(ipc.Message{Type: ipc.TypeRenewed, Seq: m.Seq}) // again: nobody has asked
	p.Close()
	e.want(Lost)
	e.e.Secret = fresh
	h.join(e, ipc.StateActive)
	e.want(Ready)
}

// The master dies between any two steps of a renewal. What it has written down by then,
// and what the worker has: the worker is welcome, and afterwards nothing else is.
func TestTheMasterDiesWhileASecretIsRenewed(t *testing.T) {
	first, fresh := NewSecret(), NewSecret()
	for name, c := range map[string]struct {
		known Expect // by the next master
		has   string
		lost  string // what the worker has not
	}{
		"before both were written": {Expect{SecretHash: HashSecret(first)}, first, fresh},
		"before it was sent":       {Expect{SecretHash: HashSecret(first), NextHash: HashSecret(fresh)}, first, ""},
		"before it had come":       {Expect{SecretHash: HashSecret(first), NextHash: HashSecret(fresh)}, first, ""},
		"before it was answered":   {Expect{SecretHash: HashSecret(first), NextHash: HashSecret(fresh)}, fresh, first},
		"before that was written":  {Expect{SecretHash: HashSecret(first), NextHash: HashSecret(fresh)}, fresh, first},
		"afterwards":               {Expect{SecretHash: HashSecret(fresh)}, fresh, first},
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			facts := make(chan Fact, 64)
			e := expectation(func(f Fact) { facts <- f })
			known := e
			known.Secret, known.SecretHash, known.NextHash = "", c.known.SecretHash, c.known.NextHash
			s := h.hub.Expect(known)
			s.SetPID(os.Getpid())
			x := &expected{s, t, e, facts}
			x.e.Secret = c.has
			p := h.dial()
			p.say(x.hello(ipc.StateActive))
			p.hear(ipc.TypeWelcome)
			if c.known.NextHash != "" && c.has == fresh {
				x.want(Renewed)
			}
			x.want(Connected)
			x.want(Ready)
			x.want(Accepting)
			if c.lost != "" {
				h.refusedWith(x, c.lost)
			}
			if c.has == fresh {
				return
			}
			// It is sent another one, and the one that was lost is void.
			again := NewSecret()
			if err := s.Renew(again); err != nil {
				t.Fatal(err)
			}
			m, _ := p.hear(ipc.TypeRenew)
			p.say(ipc.Message{Type: ipc.TypeRenewed, Seq: m.Seq})
			x.want(Renewed)
			h.refusedWith(x, first)
			h.refusedWith(x, fresh)
		})
	}
}

// One whose SDK does not know of the connection that it inherits speaks by the path, and
// its end of that is nobody's any more: a child that has it cannot pose as the worker.
func TestAnOldSDKLeavesItsConnectionUnused(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	unused := h.inherits(e)
	p := h.dial()
	m := e.hello(ipc.StateNew)
	m.Hello.Max = 1
	p.say(m)
	if m, _ := p.hear(ipc.TypeWelcome); m.Welcome.Version != 1 {
		t.Errorf("welcomed with version %d", m.Welcome.Version)
	}
	e.want(Connected)
	unused.wantEnd()
}

// Nobody who floods the socket keeps a worker out that has its connection already.
func TestACrowdAndAnInheritedConnection(t *testing.T) {
	h := newPatientHouse(t, time.Minute)
	e := h.expect()
	p := h.inherits(e)
	for range maxGreeting {
		h.dial()
	}
	p.say(e.hello(ipc.StateNew))
	p.hear(ipc.TypeWelcome)
	e.want(Connected)
}

// What is said on it has to be the worker's own hello.
func TestWhatIsNotWelcomeOnAnInheritedConnection(t *testing.T) {
	for name, change := range map[string]func(*ipc.Message){
		"another worker":     func(m *ipc.Message) { m.Hello.Worker = 8 },
		"another generation": func(m *ipc.Message) { m.Hello.Generation = 4 },
		"a wrong secret":     func(m *ipc.Message) { m.Hello.Secret = NewSecret() },
		"no hello":           func(m *ipc.Message) { *m = ipc.Message{Type: ipc.TypeReady} },
	} {
		t.Run(name, func(t *testing.T) {
			h := newHouse(t)
			e := h.expect()
			other := e.e
			other.Worker = 8
			h.hub.Expect(other).SetPID(os.Getpid())
			m := e.hello(ipc.StateNew)
			change(&m)
			p := h.inherits(e)
			p.say(m)
			p.wantEnd()
			h.wantAllRefused(1)
			h.join(e, ipc.StateNew) // there is the path
		})
	}
}

// Once its process has ended nobody is the worker, whatever number and secret he has.
func TestNobodyIsAWorkerThatHasEnded(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	e.Heard(patience)
	p := h.dial()
	p.say(e.hello(ipc.StateActive))
	p.wantEnd()
	h.wantRefused(RefusedGone, 1)
}
