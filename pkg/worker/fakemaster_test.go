//go:build linux

package worker

import (
	"encoding/json"
	"errors"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// master is a master as PROTOCOL.md has it, written without ipc's own frames.
type master struct {
	t      *testing.T
	path   string
	secret string
	ln     *net.UnixListener
	seq    uint64
}

func newMaster(t *testing.T) *master {
	dir, err := os.MkdirTemp("", "w") // t.TempDir has the test's name in it, and a socket's path is short
	if err != nil {
		t.Fatal(err)
	}
	m := &master{t: t, path: filepath.Join(dir, "c"), secret: "s3cret"}
	m.listen()
	t.Cleanup(func() {
		m.ln.Close()
		os.RemoveAll(dir)
	})
	return m
}

func (m *master) listen() {
	m.t.Helper()
	var err error
	m.ln, err = net.ListenUnix("unixpacket", &net.UnixAddr{Name: m.path, Net: "unixpacket"})
	if err != nil {
		m.t.Fatal(err)
	}
}

func (m *master) env() map[string]string {
	return map[string]string{
		ipc.EnvControl:    m.path,
		ipc.EnvWorker:     "7",
		ipc.EnvSecret:     m.secret,
		ipc.EnvGeneration: "3",
		ipc.EnvService:    "shop",
		ipc.EnvVersion:    "v1",
	}
}

// link is the master's end of one connection.
type masterLink struct {
	m     *master
	c     *net.UnixConn
	beats int
	last  ipc.Stats // of the last beat or drained
}

// accept waits for a worker and returns its hello.
func (m *master) accept() (*masterLink, ipc.Hello) {
	m.t.Helper()
	m.ln.SetDeadline(time.Now().Add(workertest.Patience))
	c, err := m.ln.AcceptUnix()
	if err != nil {
		m.t.Fatalf("no worker came: %v\n%s", err, workertest.Stacks())
	}
	k := &masterLink{m: m, c: c}
	m.t.Cleanup(k.close)
	hello := k.recv(ipc.TypeHello)
	if hello.Hello.Secret != m.secret {
		m.t.Fatalf("hello's secret is %q", hello.Hello.Secret)
	}
	return k, *hello.Hello
}

func (k *masterLink) close() { k.c.Close() }

func (k *masterLink) send(msg ipc.Message, fds ...int) uint64 {
	k.m.t.Helper()
	if msg.Seq == 0 {
		k.m.seq++
		msg.Seq = k.m.seq
	}
	b, err := json.Marshal(msg)
	if err != nil {
		k.m.t.Fatal(err)
	}
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	if _, _, err := k.c.WriteMsgUnix(b, oob, nil); err != nil {
		k.m.t.Fatalf("sending %s: %v", msg.Type, err)
	}
	return msg.Seq
}

// next returns the next message, whatever it is; false at the end.
func (k *masterLink) next() (ipc.Message, bool) {
	k.m.t.Helper()
	k.c.SetReadDeadline(time.Now().Add(workertest.Patience))
	buf := make([]byte, ipc.MaxMessage)
	n, _, _, _, err := k.c.ReadMsgUnix(buf, nil)
	if n == 0 && err == nil || errors.Is(err, syscall.ECONNRESET) {
		return ipc.Message{}, false
	}
	var msg ipc.Message
	if err == nil && n > 0 {
		err = json.Unmarshal(buf[:n], &msg)
	}
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			k.m.t.Fatalf("the worker says nothing\n%s", workertest.Stacks())
		}
		return ipc.Message{}, false
	}
	if msg.Stats != nil {
		k.last = *msg.Stats
	}
	return msg, true
}

// recv wants a message of this type next, beats aside.
func (k *masterLink) recv(want ipc.Type) ipc.Message {
	k.m.t.Helper()
	for {
		msg, ok := k.next()
		if !ok {
			k.m.t.Fatalf("the connection ended instead of a %q", want)
		}
		if msg.Type == ipc.TypeBeat && want != ipc.TypeBeat {
			k.beats++
			continue
		}
		if msg.Type != want {
			k.m.t.Fatalf("got %+v instead of a %q", msg, want)
		}
		return msg
	}
}

// ended wants the connection's end.
func (k *masterLink) ended() {
	k.m.t.Helper()
	for {
		if msg, ok := k.next(); !ok {
			return
		} else if msg.Type != ipc.TypeBeat {
			k.m.t.Fatalf("got %+v instead of the end", msg)
		}
	}
}

func (k *masterLink) welcome(listeners ...string) {
	k.m.t.Helper()
	w := &ipc.Welcome{Version: 1, Service: "shop", Label: "v1", BeatMS: 20}
	for _, name := range listeners {
		w.Listeners = append(w.Listeners, ipc.Listener{Name: name, Address: "tcp://127.0.0.1:0"})
	}
	k.send(ipc.Message{Type: ipc.TypeWelcome, Welcome: w})
}

// ask sends a request and wants this answer to it.
func (k *masterLink) ask(msg ipc.Message, want ipc.Type, fds ...int) ipc.Message {
	k.m.t.Helper()
	seq := k.send(msg, fds...)
	got := k.recv(want)
	if got.Seq != seq {
		k.m.t.Fatalf("%q answers %d, not %d", want, got.Seq, seq)
	}
	return got
}

// wait reads beats until the worker's numbers are so.
func (k *masterLink) wait(what string, is func(ipc.Stats) bool) {
	k.m.t.Helper()
	for end := time.Now().Add(workertest.Patience); ; {
		if s := *k.recv(ipc.TypeBeat).Stats; is(s) {
			return
		} else if time.Now().After(end) {
			k.m.t.Fatalf("%s does not come: %+v", what, s)
		}
	}
}

// hear reads the beats that have come: a worker hangs up on a master that does not.
func (k *masterLink) hear() {
	k.m.t.Helper()
	buf := make([]byte, ipc.MaxMessage)
	for {
		k.c.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, _, _, _, err := k.c.ReadMsgUnix(buf, nil); errors.Is(err, os.ErrDeadlineExceeded) {
			return
		} else if err != nil {
			k.m.t.Fatal(err)
		}
	}
}

func (k *masterLink) activate(slots ...*slot) {
	k.m.t.Helper()
	msg := ipc.Message{Type: ipc.TypeActivate, Activate: &ipc.Activate{}}
	var fds []int
	for _, s := range slots {
		msg.Activate.Listeners = append(msg.Activate.Listeners, s.name)
		fds = append(fds, s.fd)
	}
	k.ask(msg, ipc.TypeAccepting, fds...)
}

func (k *masterLink) park() {
	k.m.t.Helper()
	k.ask(ipc.Message{Type: ipc.TypePark}, ipc.TypeParked)
}

// drain only asks; drained comes when it comes.
func (k *masterLink) drain(timeout time.Duration) {
	k.m.t.Helper()
	k.send(ipc.Message{Type: ipc.TypeDrain, Drain: &ipc.Drain{TimeoutMS: timeout.Milliseconds()}})
}

func (k *masterLink) drained() ipc.Stats {
	k.m.t.Helper()
	k.recv(ipc.TypeDrained)
	k.ended()
	return k.last
}

// pass sends one end of a stream socketpair and returns the other.
func (k *masterLink) pass(listener, purpose string) net.Conn {
	k.m.t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		k.m.t.Fatal(err)
	}
	k.send(ipc.Message{Type: ipc.TypeConn, Conn: &ipc.Conn{Listener: listener, Purpose: purpose}}, fds[1])
	unix.Close(fds[1])
	c, err := serve.ConnFromFD(fds[0])
	if err != nil {
		k.m.t.Fatal(err)
	}
	k.m.t.Cleanup(func() { c.Close() }) // and not before, by the collector
	c.SetDeadline(time.Now().Add(workertest.Patience))
	return c
}

// slot is a listening socket that the master holds.
type slot struct {
	name string
	addr string
	fd   int
	ln   *net.TCPListener
}

func newSlot(t *testing.T, name string) *slot {
	t.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	raw, err := ln.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	s := &slot{name: name, addr: ln.Addr().String(), ln: ln}
	if err := raw.Control(func(fd uintptr) { s.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 3) }); err != nil {
		t.Fatal(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(s.fd); ln.Close() })
	return s
}

// queued is how many connections wait in the slot.
func (s *slot) queued(t *testing.T) int {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(s.fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	return int(info.Unacked)
}

// nonblocking tells of the description that all share.
func (s *slot) nonblocking(t *testing.T) bool {
	t.Helper()
	flags, err := unix.FcntlInt(uintptr(s.fd), unix.F_GETFL, 0)
	if err != nil {
		t.Fatal(err)
	}
	return flags&unix.O_NONBLOCK != 0
}

// managed starts a worker under a master, up to ready.
func managed(t *testing.T, setUp func(*Worker)) (*running, *masterLink) {
	t.Helper()
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	setUp(w)
	r := run(t, w)
	k, hello := m.accept()
	if hello.State != "new" || hello.Worker != 7 || hello.Generation != 3 || hello.PID != os.Getpid() {
		t.Fatalf("hello is %+v", hello)
	}
	k.welcome("http")
	k.recv(ipc.TypeReady)
	return r, k
}
