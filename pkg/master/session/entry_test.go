//go:build linux

package session

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

// as has something done by a thread of another user's, which ends with it: the kernel
// takes a connection's maker from the thread.
func as(t *testing.T, uid int, do func() error) error {
	t.Helper()
	ended := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlocked
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, ^uintptr(0), uintptr(uid), ^uintptr(0)); errno != 0 {
			ended <- errno
			return
		}
		ended <- do()
	}()
	return <-ended
}

// open lets other users reach the socket, if it lets them in, and waits until it is as
// it should be.
func (h *house) open(mode fs.FileMode, uid int) {
	h.Helper()
	top := filepath.Dir(h.path)
	if err := errors.Join(os.Chmod(top, 0o755), os.Chmod(filepath.Dir(top), 0o755)); err != nil {
		h.Fatal(err)
	}
	for late := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		var st unix.Stat_t
		err := unix.Lstat(h.path, &st)
		if err == nil && fs.FileMode(st.Mode&0o777) == mode && (uid < 0 || st.Uid == uint32(uid)) {
			return
		}
		if err != nil || time.Now().After(late) {
			h.Fatalf("mode %o and uid %d, not %o and %d: %v", st.Mode&0o777, st.Uid, mode, uid, err)
		}
	}
}

// of makes a worker of another user's known that an earlier master has started.
func (h *house) of(worker uint64, uid int) *expected {
	facts := make(chan Fact, 64)
	e := expectation(func(f Fact) { facts <- f })
	known := e
	known.Worker, known.UID, known.SecretHash, known.Secret = worker, uint32(uid), HashSecret(e.Secret), ""
	s := h.hub.Expect(known)
	s.SetPID(os.Getpid())
	e.Worker, e.UID = known.Worker, known.UID
	return &expected{s, h.T, e, facts}
}

// comes connects as a worker's user by the path, and is welcomed.
func (h *house) comes(e *expected) *ipc.Link {
	h.Helper()
	var l *ipc.Link
	err := as(h.T, int(e.e.UID), func() (err error) {
		l, err = ipc.Dial(h.path)
		return err
	})
	if err == nil {
		err = l.Send(e.hello(ipc.StateActive))
	}
	var m ipc.Message
	if err == nil {
		m, _, err = l.Recv()
	}
	if err != nil || m.Type != ipc.TypeWelcome {
		h.Fatalf("worker %d of uid %d: %+v, %v", e.e.Worker, e.e.UID, m, err)
	}
	h.Cleanup(func() { l.Close() })
	e.want(Connected)
	return l
}

// At a takeover in the middle of a rollout that changes worker.user, workers of both
// users come back. Then the socket is one user's again, and whose connection ends later
// comes back, too.
func TestWorkersOfTwoUsersComeBack(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to be two users")
	}
	const first, second, other = 54321, 54322, 54323
	h := newPatientHouse(t, time.Hour)
	one, two, three := h.of(1, first), h.of(2, second), h.of(3, second)
	h.open(openMode, -1)
	if err := os.Remove(h.path); err != nil {
		t.Fatal(err)
	}
	if mended, err := h.hub.Mend(); !mended || err != nil {
		t.Fatal(mended, err)
	}
	h.open(openMode, -1)

	// Strangers have no more than their places.
	var crowd []*ipc.Link
	for range 2 * maxStrangers {
		if err := as(t, other, func() error {
			l, err := ipc.Dial(h.path)
			crowd = append(crowd, l)
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	h.wantRefused(RefusedCrowd, maxStrangers)
	if _, pending := h.hub.counters(); pending > maxStrangers {
		t.Errorf("%d strangers wait", pending)
	}
	h.comes(two)
	h.comes(three)
	h.open(socketMode, first)
	was := h.comes(one)
	h.open(socketMode, first)
	for _, l := range crowd {
		l.Close()
	}
	if err := as(t, other, func() error { _, err := ipc.Dial(h.path); return err }); !errors.Is(err, syscall.EACCES) {
		t.Errorf("a stranger: %v", err)
	}

	was.Close()
	one.wantLost()
	four := h.of(4, second)
	h.open(openMode, -1)
	h.comes(one)
	h.open(socketMode, second)
	h.hub.Forget(four.e.Worker)
	h.hub.Forget(three.e.Worker)
	h.open(socketMode, second)
	if logged := fmt.Sprint(h.logs.FilterMessageSnippet("cannot connect").All()); logged != "[]" {
		t.Error(logged)
	}
}

// wantLost takes facts up to the end of the connection.
func (e *expected) wantLost() {
	e.t.Helper()
	for {
		select {
		case f := <-e.facts:
			if f.Kind == Lost {
				return
			}
		case <-time.After(patience):
			e.t.Fatal("its connection has not ended")
		}
	}
}
