//go:build linux

package ipc

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// patience of tests: for what should come at once, on a machine that is busy.
const patience = 20 * time.Second

// connect makes both ends of a connection through a real path.
func connect(t *testing.T) (master, worker *Link, cred Cred) {
	t.Helper()
	s, err := Listen(filepath.Join(t.TempDir(), "c"), 0o600, -1, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	worker, err = Dial(s.path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { worker.Close() })
	master, cred, err = s.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { master.Close() })
	return master, worker, cred
}

// rawSend puts any bytes and descriptors on the wire, past all checks.
func rawSend(t *testing.T, l *Link, b []byte, fds ...int) {
	t.Helper()
	if err := tryRawSend(l, b, fds...); err != nil {
		t.Fatal(err)
	}
}

func tryRawSend(l *Link, b []byte, fds ...int) error {
	var sendErr error
	raw, err := l.conn.SyscallConn()
	if err != nil {
		return err
	}
	err = raw.Write(func(fd uintptr) bool {
		// Not unix.Sendmsg, which adds a byte to an empty message.
		rights := unix.UnixRights(fds...)
		iov := unix.Iovec{Base: unsafe.SliceData(b)}
		iov.SetLen(len(b))
		h := unix.Msghdr{Iov: &iov, Iovlen: 1, Control: unsafe.SliceData(rights)}
		h.SetControllen(len(rights))
		_, _, errno := unix.Syscall(unix.SYS_SENDMSG, fd, uintptr(unsafe.Pointer(&h)), 0)
		if errno != 0 {
			sendErr = errno
		}
		return errno != unix.EAGAIN
	})
	return errors.Join(err, sendErr)
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

func TestMessagesAndDescriptorsArrive(t *testing.T) {
	master, worker, _ := connect(t)
	for name, g := range golden() {
		var fds []int
		var ends []*os.File
		for range g.fds {
			r, w := pipe(t)
			fds, ends = append(fds, w), append(ends, r)
		}
		if err := master.Send(g.message, fds...); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		for _, fd := range fds {
			unix.Close(fd) // ours: Send has not done it
		}
		m, got, err := worker.Recv()
		if err != nil || !reflect.DeepEqual(m, g.message) || len(got) != g.fds {
			t.Fatalf("%s: arrived as %+v with %d descriptors, %v", name, m, len(got), err)
		}
		for i, fd := range got {
			flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
			if err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("%s: a child would inherit the descriptor (%v)", name, err)
			}
			if _, err := unix.Write(fd, []byte{byte(i)}); err != nil {
				t.Error(err)
			}
			unix.Close(fd)
			b, err := io.ReadAll(ends[i])
			if err != nil || !bytes.Equal(b, []byte{byte(i)}) {
				t.Errorf("%s: descriptor %d: read %v, %v", name, i, b, err)
			}
		}
	}
}

func TestLongMessages(t *testing.T) {
	master, worker, _ := connect(t)
	const firstBuffer = 2 << 10 // fdpass's
	for _, n := range []int{1, firstBuffer, 3 * firstBuffer, MaxMessage - 64, 1} {
		want := Message{Type: TypeReject, Text: strings.Repeat("x", n)}
		if err := master.Send(want); err != nil {
			t.Fatal(err)
		}
		if m, _, err := worker.Recv(); err != nil || m.Text != want.Text {
			t.Fatalf("%d bytes: got %d, %v", n, len(m.Text), err)
		}
	}
}

func TestTheMostDescriptors(t *testing.T) {
	master, worker, _ := connect(t)
	r, w := pipe(t)
	fds := make([]int, MaxFDs)
	for i := range fds {
		fds[i] = w
	}
	if err := master.Send(Message{Type: TypeConn, Seq: 1, Conn: &Conn{Listener: "http", Purpose: PurposeServe}}, fds...); err != nil {
		t.Fatal(err)
	}
	unix.Close(w)
	_, got, err := worker.Recv()
	if err != nil || len(got) != MaxFDs {
		t.Fatalf("%d descriptors, %v", len(got), err)
	}
	closeAll(got)
	wantClosed(t, r)
}

// What is wrong costs the receiver no descriptor.
func TestDescriptorsOfBadMessagesAreClosed(t *testing.T) {
	for name, frame := range map[string]string{
		"garbage":                  "garbage",
		"longer than allowed":      `{"type":"reject","text":"` + strings.Repeat("x", MaxMessage) + `"}`,
		"much longer than allowed": `{"type":"reject","text":"` + strings.Repeat("x", 100<<10) + `"}`,
		"incomplete":               `{"type":"hello"}`,
		"nothing":                  "", // zero bytes are the end, even with descriptors
	} {
		t.Run(name, func(t *testing.T) {
			master, worker, _ := connect(t)
			r, w := pipe(t)
			rawSend(t, worker, []byte(frame), w, w, w)
			unix.Close(w)
			m, fds, err := master.Recv()
			var p *ProtocolError
			if frame == "" && err != io.EOF || frame != "" && !errors.As(err, &p) || fds != nil {
				t.Fatalf("%+v, %v, %v", m, fds, err)
			}
			wantClosed(t, r)
		})
	}
}

func TestDescriptorsNobodyAskedForAreClosed(t *testing.T) {
	master, worker, _ := connect(t)
	r, w := pipe(t)
	rawSend(t, worker, []byte(`{"type":"ready"}`), w)
	unix.Close(w)
	if m, fds, err := master.Recv(); err != nil || m.Type != TypeReady || fds != nil {
		t.Fatalf("%+v, %v, %v", m, fds, err)
	}
	wantClosed(t, r)

	r, w = pipe(t)
	rawSend(t, worker, []byte(`{"type":"levitate"}`), w)
	unix.Close(w)
	m, fds, err := master.Recv()
	if err != nil || m.Type != "levitate" || len(fds) != 1 {
		t.Fatalf("%+v, %v, %v", m, fds, err)
	}
	closeAll(fds)
	wantClosed(t, r)
}

// A process without room for the descriptors sees a ProtocolError, not some of
// them.
func TestNoRoomForDescriptors(t *testing.T) {
	master, worker, _ := connect(t)
	r, w := pipe(t)
	rawSend(t, worker, []byte(`{"type":"conn","seq":1,"conn":{"listener":"http","purpose":"serve"}}`), w, w, w, w, w, w, w, w)
	unix.Close(w)

	// Room for a few more descriptors, not for eight.
	top, err := unix.FcntlInt(uintptr(r.Fd()), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	unix.Close(top)
	limit := limitFiles(t, uint64(top)+4)
	_, fds, err := master.Recv()
	limit()
	var p *ProtocolError
	if !errors.As(err, &p) || fds != nil {
		t.Fatalf("%v, %v", fds, err)
	}
	wantClosed(t, r)
}

// limitFiles lowers how many descriptors this process may have, until undone.
func limitFiles(t *testing.T, n uint64) (undo func()) {
	t.Helper()
	var old unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: old.Max}); err != nil {
		t.Fatal(err)
	}
	return func() {
		if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &old); err != nil {
			t.Fatal(err)
		}
	}
}

// A message that is refused, and those that are queued when the connection is closed,
// bring what is not closed soon.
func TestALinkDoesNotWaitForWhatItsPeerSends(t *testing.T) {
	master, worker, _ := connect(t)
	send := func() (its *os.File) {
		its, w := pipe(t)
		rawSend(t, worker, []byte("no message"), w)
		unix.Close(w)
		return its
	}
	first, second := send(), send()
	_, most := fdpass.Closing()
	goOn := noCloses(t)
	got := make(chan error, 1)
	go func() { _, _, err := master.Recv(); got <- err }()
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		if now, _ := fdpass.Closing(); now == most+1 {
			break
		}
		if time.Now().After(end) {
			t.Fatal("it does not close what came with what is no message")
		}
	}
	closed := make(chan error, 1)
	go func() {
		_ = master.Close()
		_, _, err := worker.Recv()
		closed <- err
	}()
	select {
	case err := <-closed:
		if !errors.Is(err, io.EOF) {
			t.Error(err)
		}
	case <-time.After(patience):
		t.Fatal("Close, or the other side, waits")
	}
	select {
	case err := <-got:
		t.Errorf("Recv has not waited for a close: %v", err)
	default:
	}
	goOn()
	if err := <-got; err == nil {
		t.Error("it was a message")
	}
	wantClosed(t, first)
	wantClosed(t, second)
}

func TestTheEnd(t *testing.T) {
	master, worker, _ := connect(t)
	if err := worker.Send(Message{Type: TypeReady}); err != nil {
		t.Fatal(err)
	}
	worker.Close()
	worker.Close()
	if err := worker.Send(Message{Type: TypeReady}); err == nil {
		t.Error("sent on a closed connection")
	}
	if m, _, err := master.Recv(); err != nil || m.Type != TypeReady {
		t.Fatalf("%+v, %v", m, err)
	}
	for range 2 {
		if _, _, err := master.Recv(); err != io.EOF {
			t.Fatal(err)
		}
	}
	if err := master.Send(Message{Type: TypeDump, Seq: 1}); err == nil {
		t.Error("sent to nobody")
	}
}

// A side that leaves without reading resets the connection. What it said last
// still arrives, and then the end.
func TestLastWordsBeforeAReset(t *testing.T) {
	master, worker, _ := connect(t)
	for range 3 {
		if err := worker.Send(Message{Type: TypeReady}); err != nil {
			t.Fatal(err)
		}
	}
	if err := master.Send(Message{Type: TypeReject, Text: "no"}); err != nil {
		t.Fatal(err)
	}
	master.Close()
	if m, _, err := worker.Recv(); err != nil || m.Text != "no" {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, _, err := worker.Recv(); err != io.EOF {
		t.Fatal(err)
	}
}

func TestReadDeadlineAndClose(t *testing.T) {
	master, _, _ := connect(t)
	if err := master.SetReadDeadline(time.Now().Add(time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := master.Recv(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	if err := master.SetReadDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	got := make(chan error)
	go func() {
		_, _, err := master.Recv()
		got <- err
	}()
	master.Close()
	if err := <-got; err == nil {
		t.Fatal("received from a closed connection")
	}
}

func TestAStuckPeerFailsEverySender(t *testing.T) {
	master, worker, _ := connect(t)
	master.patience = 100 * time.Millisecond
	const senders = 8
	var wg sync.WaitGroup
	errs := make([]error, senders)
	for i := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for errs[i] == nil {
				errs[i] = master.Send(Message{Type: TypeDump, Seq: 1})
			}
		}()
	}
	wg.Wait() // that it returns is the point: nobody reads
	for _, err := range errs {
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(err)
		}
	}
	// What was sent before is whole.
	if m, _, err := worker.Recv(); err != nil || m.Type != TypeDump {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestManySenders(t *testing.T) {
	master, worker, _ := connect(t)
	const senders, each = 8, 200
	var wg sync.WaitGroup
	for i := range senders {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for n := range each {
				m := Message{Type: TypeRefused, Seq: uint64(i + 1), Text: fmt.Sprint(n)}
				if err := worker.Send(m); err != nil {
					t.Error(err)
					return
				}
			}
		}()
	}
	next := map[uint64]int{}
	for range senders * each {
		m, _, err := master.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if m.Text != fmt.Sprint(next[m.Seq]) {
			t.Fatalf("sender %d: %s came instead of %d", m.Seq, m.Text, next[m.Seq])
		}
		next[m.Seq]++
	}
	wg.Wait()
}

// The kernel limits the descriptors that a user has in flight. The sender waits
// until some were taken.
func TestTooManyDescriptorsInFlight(t *testing.T) {
	master, worker, _ := connect(t)
	_, w := pipe(t)
	defer unix.Close(w)
	fds := make([]int, MaxFDs)
	for i := range fds {
		fds[i] = w
	}
	const limit, messages = 1024, 12
	defer limitFiles(t, limit)()
	m := Message{Type: TypeConn, Seq: 1, Conn: &Conn{Listener: "http", Purpose: PurposeServe}}

	full := make(chan struct{})
	sent := make(chan error)
	go func() {
		// Privileged processes are not limited. What this thread gives up ends
		// with it.
		runtime.LockOSThread()
		if err := dropCapabilities(); err != nil {
			sent <- err
			return
		}
		b, err := encode(m, len(fds))
		if err != nil {
			sent <- err
			return
		}
		n := 0
		for ; err == nil; n++ { // until the kernel has enough
			if n > messages {
				sent <- errors.New("the kernel never had enough")
				return
			}
			err = tryRawSend(master, b, fds...)
		}
		if !errors.Is(err, unix.ETOOMANYREFS) {
			sent <- err
			return
		}
		close(full)
		for ; n <= messages; n++ {
			if err := master.Send(m, fds...); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	select {
	case <-full:
	case err := <-sent:
		t.Fatal(err)
	}
	for range messages {
		_, got, err := worker.Recv()
		if err != nil {
			t.Error(err)
			break
		}
		closeAll(got)
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
}

// dropCapabilities makes the calling thread one of an ordinary user's.
func dropCapabilities() error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&header, &none[0])
}

func closeAll(fds []int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

func TestUnread(t *testing.T) {
	master, worker, _ := connect(t)
	if worker.Unread() {
		t.Error("nothing was sent")
	}
	for range 2 {
		if err := worker.Send(Message{Type: TypeReady}); err != nil {
			t.Fatal(err)
		}
	}
	for n := 2; n > 0; n-- {
		if !worker.Unread() {
			t.Errorf("%d messages are not read, and none is said to be", n)
		}
		if _, _, err := master.Recv(); err != nil {
			t.Fatal(err)
		}
	}
	if worker.Unread() {
		t.Error("all was read")
	}
}
