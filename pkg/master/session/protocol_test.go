//go:build linux

package session

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

const specification = "../../ipc/PROTOCOL.md"

// stranger is a worker that knows PROTOCOL.md and none of our code.
type stranger struct {
	t  *testing.T
	fd int
}

func (s stranger) say(frame string) {
	s.t.Helper()
	if err := unix.Sendmsg(s.fd, []byte(frame), nil, nil, unix.MSG_NOSIGNAL); err != nil {
		s.t.Fatal(err)
	}
}

// hear wants a frame that is this, with so many descriptors.
func (s stranger) hear(frame string, fds int) []int {
	s.t.Helper()
	data, rights := make([]byte, 65537), make([]byte, unix.CmsgSpace(253*4))
	n, rn, flags, _, err := unix.Recvmsg(s.fd, data, rights, unix.MSG_CMSG_CLOEXEC)
	if err != nil || flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 {
		s.t.Fatalf("%v, flags %#x instead of %s", err, flags, frame)
	}
	var got, want any
	if n > 0 || frame != "" {
		if err := errors.Join(json.Unmarshal(data[:n], &got), json.Unmarshal([]byte(frame), &want)); err != nil {
			s.t.Fatalf("%q instead of %s: %v", data[:n], frame, err)
		}
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		s.t.Fatalf("%s instead of %s", data[:n], frame)
	}
	var came []int
	messages, err := unix.ParseSocketControlMessage(rights[:rn])
	if err != nil {
		s.t.Fatal(err)
	}
	for _, m := range messages {
		some, err := unix.ParseUnixRights(&m)
		if err != nil {
			s.t.Fatal(err)
		}
		came = append(came, some...)
	}
	if len(came) != fds {
		s.t.Fatalf("%s came with %d descriptors, not %d", frame, len(came), fds)
	}
	return came
}

func TestAClientWrittenFromTheSpecification(t *testing.T) {
	h := newHouse(t)
	e := h.expect()
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	tv := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &tv); err != nil {
		t.Fatal(err)
	}
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: h.path}); err != nil {
		t.Fatal(err)
	}
	_, pipeFD := pipe(t)
	defer closeFDs([]int{pipeFD})

	s := stranger{t, fd}
	s.say(fmt.Sprintf(`{"type":"hello","hello":{"min":1,"max":7,"worker":7,"generation":3,"secret":%q,"pid":1,"sdk":"C/0","state":"new"},"colour":"red"}`, e.e.Secret))
	s.hear(`{"type":"welcome","welcome":{"version":2,"service":"shop","label":"v1","beat_ms":1000,"listeners":[{"name":"http","address":"tcp://127.0.0.1:8080"}]}}`, 0)
	e.want(Connected)
	s.say(` { "type" : "ready" } `)
	e.want(Ready)
	if err := errors.Join(e.Activate([]string{"http", "http"}, []int{pipeFD, pipeFD}), e.Pause(), e.Resume(), e.Park(), e.Activate(nil, nil), e.Drain(1500*time.Millisecond), e.Dump()); err != nil {
		t.Fatal(err)
	}
	closeFDs(s.hear(`{"type":"activate","seq":1,"activate":{"listeners":["http","http"]}}`, 2))
	s.hear(`{"type":"pause","seq":2}`, 0)
	s.hear(`{"type":"resume","seq":3}`, 0)
	s.hear(`{"type":"park","seq":4}`, 0)
	s.hear(`{"type":"activate","seq":5,"activate":{}}`, 0)
	s.hear(`{"type":"drain","seq":6,"drain":{"timeout_ms":1500}}`, 0)
	s.hear(`{"type":"dump","seq":7}`, 0)
	if err := e.Renew("another"); err != nil {
		t.Fatal(err)
	}
	s.hear(`{"type":"renew","seq":8,"renew":{"secret":"another"}}`, 0)
	for frame, kind := range map[string]Kind{
		`{"type":"renewed","seq":8}`:            Renewed,
		`{"type":"accepting","seq":5}`:          Accepting,
		`{"type":"paused","seq":2}`:             Paused,
		`{"type":"parked","seq":4}`:             Parked,
		`{"type":"beat","stats":{"open":3}}`:    Beat,
		`{"type":"refused","seq":7,"text":"-"}`: Refused,
		`{"type":"drained"}`:                    Drained,
	} {
		s.say(frame)
		e.want(kind)
	}
	h.hub.Forget(testWorker)
	s.hear("", 0) // the end
}

// The worker at the end of PROTOCOL.md is run as a reader would run it.
func TestTheWorkerInTheSpecification(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("no python3 here")
	}
	text, err := os.ReadFile(specification)
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(text), "```python\n")
	program, _, ok := strings.Cut(program, "```\n")
	if !ok {
		t.Fatal("there is no program in " + specification)
	}
	script := filepath.Join(t.TempDir(), "worker.py")
	if err := os.WriteFile(script, []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}

	h := newHouse(t)
	facts := make(chan Fact, 1024)
	e := expectation(func(f Fact) { facts <- f })
	e.Welcome.BeatMS = 20
	s := h.hub.Expect(e)
	end, err := s.Inherit()
	if err != nil {
		t.Fatal(err)
	}
	first := os.NewFile(uintptr(end), "control")
	defer first.Close()
	inherited, err := ipc.InheritedAs(3, end)
	if err != nil {
		t.Fatal(err)
	}
	worker := exec.Command(python, script)
	worker.ExtraFiles = []*os.File{first}
	worker.Env = append(os.Environ(), ipc.EnvControl+"="+h.path, ipc.EnvSecret+"="+e.Secret, ipc.EnvControlFD+"="+inherited,
		fmt.Sprintf("%s=%d", ipc.EnvWorker, e.Worker), fmt.Sprintf("%s=%d", ipc.EnvGeneration, e.Generation))
	worker.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // pyenv and its kin put a shell before it
	worker.Stderr = os.Stderr
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	var failed error
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		failed = worker.Wait()
	}()
	defer func() {
		select {
		case <-exited:
		default:
			_ = syscall.Kill(-worker.Process.Pid, syscall.SIGKILL)
			<-exited
		}
	}()
	s.SetPID(worker.Process.Pid)

	want := func(kind Kind) Fact {
		t.Helper()
		late := time.After(patience)
		for {
			select {
			case f := <-facts:
				if f.Kind == kind {
					return f
				}
				if f.Kind != Beat {
					t.Fatalf("%v (%+v) instead of %v", f.Kind, f, kind)
				}
			case <-late:
				t.Fatalf("no %v", kind)
			}
		}
	}
	do := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if f := want(Connected); f.Hello.Max < ipc.RenewVersion {
		t.Errorf("it speaks version %d", f.Hello.Max)
	}
	want(Ready)
	fresh := NewSecret()
	do(s.Renew(fresh))
	want(Renewed)
	want(Beat)

	// A health check over a pair, before it has any socket.
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	do(err)
	do(s.Conn("http", ipc.PurposeProbe, pair[1]))
	ours := os.NewFile(uintptr(pair[0]), "probe")
	probe, err := net.FileConn(ours)
	ours.Close()
	do(err)
	do(get(probe))

	// Traffic.
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	do(err)
	defer listener.Close()
	address := listener.Addr().String()
	visits := uint64(0)
	visit := func() error {
		visits++
		c, err := net.Dial("tcp", address)
		if err != nil {
			return err
		}
		return get(c)
	}
	raw, err := listener.(*net.TCPListener).SyscallConn()
	do(err)
	do(raw.Control(func(fd uintptr) { err = s.Activate([]string{"http"}, []int{int(fd)}) }))
	do(err)
	want(Accepting)
	do(visit())

	// Paused it takes nothing; what came meanwhile is served afterwards.
	do(s.Pause())
	want(Paused)
	queued, err := net.Dial("tcp", address)
	do(err)
	do(s.Resume())
	want(Accepting)
	do(get(queued))

	// Parked it still serves, active again as well.
	do(s.Park())
	want(Parked)
	do(visit())
	do(s.Activate(nil, nil))
	want(Accepting)
	do(visit())

	// The master dies and comes back on the same path.
	do(h.hub.Close())
	do(visit())
	h.hub, err = Listen(Options{Path: h.path})
	do(err)
	for len(facts) > 0 {
		<-facts
	}
	e.Secret = fresh
	s = h.hub.Expect(e)
	s.SetPID(worker.Process.Pid)
	if f := want(Connected); f.Hello.State != ipc.StateActive {
		t.Errorf("%+v", f.Hello)
	}
	want(Ready)
	do(visit())

	// The end: an open connection is waited for.
	open, err := net.Dial("tcp", address)
	do(err)
	do(s.Drain(time.Minute))
	do(get(open))
	if f := want(Drained); f.Stats.Requests != visits+2 || f.Stats.Cut != 0 {
		t.Errorf("%+v", f.Stats)
	}
	want(Lost)
	<-exited
	if failed != nil {
		t.Error(failed)
	}
}

// get makes one request over an open connection.
func get(c net.Conn) error {
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"); err != nil {
		return err
	}
	answer, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		return errors.New(answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
