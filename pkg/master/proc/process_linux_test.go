package proc

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

func TestExits(t *testing.T) {
	for _, c := range []struct {
		args   []string
		signal syscall.Signal
		want   Exit
		text   string
	}{
		{[]string{"exit", "0"}, 0, Exit{}, "exit status 0"},
		{[]string{"exit", "3"}, 0, Exit{Code: 3}, "exit status 3"},
		{[]string{"wait"}, syscall.SIGKILL, Exit{Code: -1, Signal: syscall.SIGKILL}, "signal: killed"},
		{[]string{"wait"}, syscall.SIGTERM, Exit{Code: -1, Signal: syscall.SIGTERM}, "signal: terminated"},
	} {
		p := mustStart(t, spec(t, c.args...))
		if c.signal != 0 {
			if err := p.Signal(c.signal); err != nil {
				t.Error(err)
			}
		}
		if e := ended(t, p); e != c.want || e.String() != c.text {
			t.Errorf("%+v, %q; want %+v, %q", e, e, c.want, c.text)
		}
		if err := p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
	}
	if text := (Exit{Code: -1, Signal: syscall.SIGABRT, CoreDumped: true}).String(); text != "signal: aborted (core dumped)" {
		t.Error(text)
	}
}

func grandchild(t *testing.T, text func() string) int {
	t.Helper()
	pid := 0
	eventually(t, "the child of the worker is there", func() bool {
		fmt.Sscanf(text(), "child %d", &pid)
		if pid == 0 {
			i := strings.Index(text(), "child ")
			if i >= 0 {
				fmt.Sscanf(text()[i:], "child %d", &pid)
			}
		}
		return pid != 0 && strings.Contains(text(), "here")
	})
	return pid
}

func running(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && !strings.Contains(string(text), ") Z ")
}

func TestSignalsReachTheGroup(t *testing.T) {
	s := spec(t, "parent")
	text := output(t, &s)
	p := mustStart(t, s)
	child := grandchild(t, text)
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	ended(t, p)
	eventually(t, "the grandchild is gone", func() bool { return !running(child) })
}

func TestWhatAWorkerLeavesBehindIsKilled(t *testing.T) {
	s := spec(t, "parent", "leaves")
	text := output(t, &s)
	p := mustStart(t, s)
	if e := ended(t, p); e.Code != 0 {
		t.Fatal(e)
	}
	var child int
	if i := strings.Index(text(), "child "); i < 0 {
		t.Fatal(text())
	} else {
		fmt.Sscanf(text()[i:], "child %d", &child)
	}
	eventually(t, "the grandchild is gone", func() bool { return !running(child) })
}

func TestOOMScoreAdj(t *testing.T) {
	p := mustStart(t, spec(t, "wait"))
	if err := p.SetOOMScoreAdj(500); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", p.PID()))
	if strings.TrimSpace(string(text)) != "500" {
		t.Errorf("%q, %v", text, err)
	}
}

// Other children of this process are not waited for.
func TestOtherChildrenAreLeftAlone(t *testing.T) {
	other, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{})
	if err != nil {
		t.Fatal(err)
	}
	ended(t, mustStart(t, spec(t, "exit", "0")))
	if state, err := other.Wait(); err != nil || !state.Success() {
		t.Errorf("%v, %v", state, err)
	}
}

func TestWithoutPidfd(t *testing.T) {
	pid, err := syscall.ForkExec("/bin/sleep", []string{"sleep", "100"}, &syscall.ProcAttr{Sys: &syscall.SysProcAttr{Setpgid: true}})
	if err != nil {
		t.Fatal(err)
	}
	p := watch(pid, -1)
	defer p.Close()
	if err := p.Signal(syscall.SIGKILL); err != nil {
		t.Error(err)
	}
	if e := ended(t, p); e.Signal != syscall.SIGKILL {
		t.Error(e)
	}
}

func TestCloseGivesUp(t *testing.T) {
	for _, pidfd := range []bool{true, false} {
		p := mustStart(t, spec(t, "wait"))
		if !pidfd { // a second one who watches the same process
			p = watch(p.PID(), -1)
		} else {
			fd, err := unix.PidfdOpen(p.PID(), 0)
			if err != nil {
				t.Skip(err)
			}
			p = watch(p.PID(), fd)
		}
		p.Close()
		p.Close()
		select {
		case <-p.Done():
			t.Error("it is not gone")
		default:
		}
	}
}

// The filter's descriptor has one taker, whoever else asks for it or closes the
// process at that moment: two would close one number, and the second time it may be
// somebody else's.
func TestFilterHasOneTaker(t *testing.T) {
	for range 200 {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.FcntlInt(w.Fd(), unix.F_DUPFD_CLOEXEC, 3)
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		p := &Process{filter: fd, stop: make(chan struct{})}
		var taken atomic.Int32
		var all sync.WaitGroup
		for range 4 {
			all.Go(func() {
				if got := p.Filter(); got >= 0 {
					taken.Add(1)
					unix.Close(got)
				}
			})
		}
		all.Go(p.Close)
		all.Wait()
		if n := taken.Load(); n > 1 {
			t.Fatalf("%d have taken it", n)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Fatalf("it is still open: %d, %v", n, err)
		}
		r.Close()
	}
}

// A worker costs no thread.
func TestWaitingTakesNoThread(t *testing.T) {
	threads := func() int {
		names, err := os.ReadDir("/proc/self/task")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	const n = 40
	for range n {
		mustStart(t, Spec{Program: "/bin/sleep", Args: []string{"sleep", "1000"}})
	}
	if got := threads(); got > n/2+2*runtime.NumCPU() {
		t.Errorf("%d threads for %d workers", got, n)
	}
}

func TestCleanEnv(t *testing.T) {
	env := []string{
		"PATH=/bin", "NOTIFY_SOCKET=/run/x", "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=a", "LISTEN_PIDFDID=3",
		"WATCHDOG_USEC=1", "WATCHDOG_PID=1", "FDSTORE=3", "MAINPID=1", "INVOCATION_ID=x", "JOURNAL_STREAM=1:2",
		"SYSTEMD_EXEC_PID=9", "MASTERD_CONFIG=/etc/x", "MASTERD_SECRET=old", "HOME=/", "broken", "=odd",
		"MODE=test", "LISTENER=mine", "EMPTY=",
	}
	got := CleanEnv(map[string]string{"MODE": "prod", "MASTERD_SECRET": "new", "GIN_MODE": "release"}, env)
	want := []string{"PATH=/bin", "HOME=/", "LISTENER=mine", "EMPTY=", "GIN_MODE=release", "MASTERD_SECRET=new", "MODE=prod"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}
