package notify

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/proc/proctest"
)

// A process that may send to a candidate's socket does so before there is a candidate,
// dies, and the kernel gives its number to the candidate. What it has said is not the
// candidate's.
func TestANumberThatWasGivenAgainDoesNotSpeak(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("only root may have a process number given again on purpose")
	}
	for name, group := range map[string]bool{"main": false, "group": true} {
		t.Run(name, func(t *testing.T) {
			h := hallOf(t, t.TempDir())
			h.PassPidfds()
			path := h.add(1, group)
			dead := exec.Command("/proc/self/exe")
			dead.Env = []string{"NOTIFY_TEST_SAY=READY=1", "NOTIFY_SOCKET=" + path}
			if err := dead.Run(); err != nil {
				t.Fatal(err)
			}
			pid := dead.Process.Pid
			proctest.Numbered(t, pid)
			h.Begin(1, pid)
			h.refused("another process has its number by now")
			select {
			case m := <-h.ear:
				t.Errorf("heard %+v", m)
			default:
			}
		})
	}
}

// A worker's last words are heard, although it is gone by then.
func TestLastWordsOfTheDead(t *testing.T) {
	h := hallOf(t, t.TempDir())
	path := h.add(1, false)
	c := exec.Command("/proc/self/exe")
	c.Env = []string{"NOTIFY_TEST_SAY=STOPPING=1", "NOTIFY_SOCKET=" + path}
	if err := c.Run(); err != nil { // it is gone, and nobody has its number
		t.Fatal(err)
	}
	h.Begin(1, c.Process.Pid)
	if m := h.next(); !m.Stopping {
		t.Errorf("heard %+v", m)
	}
}

// No pidfd of a sender's stays open, and an older masterd that goes on with the socket
// is sent none: neither after an orderly end nor, as long as one stands by, after any other.
func TestNoPidfdIsLeft(t *testing.T) {
	h := hallOf(t, t.TempDir())
	path := h.add(1, false)
	h.Begin(1, os.Getpid())
	passes := func() bool {
		on, err := unix.GetsockoptInt(h.held(1), unix.SOL_SOCKET, unix.SO_PASSPIDFD)
		return err == nil && on != 0
	}
	if passes() {
		t.Error("the masterd that stands by would be sent pidfds")
	}
	h.PassPidfds()
	count := func() (n int) {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		for _, fd := range fds {
			if to, _ := os.Readlink("/proc/self/fd/" + fd.Name()); strings.Contains(to, "pidfd") {
				n++
			}
		}
		return n
	}
	before := count()
	for range 20 {
		if err := send(path, "STATUS=x"); err != nil {
			t.Fatal(err)
		}
		h.next()
	}
	if now := count(); now > before {
		t.Errorf("%d pidfds are open, and were %d", now, before)
	}
	h.Close()
	if passes() {
		t.Error("an older masterd would be sent pidfds")
	}
}
