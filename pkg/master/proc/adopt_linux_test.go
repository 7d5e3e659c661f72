package proc

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

const obedient = "trap 'exit 7' TERM; echo here; while :; do sleep 0.02; done"

// firstMaster is another process that has started workers.
type firstMaster struct {
	*exec.Cmd
	pids  []int
	begun []string
	text  func() string // what it and they have written
}

// kill is what happens to it.
func (m *firstMaster) kill() {
	m.Process.Kill()
	m.Process.Wait()
}

func newFirstMaster(t *testing.T, workers int, args ...string) *firstMaster {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	m := &firstMaster{Cmd: exec.Command(self, append([]string{"as-worker"}, args...)...)}
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	m.text = func() string {
		text, err := os.ReadFile(out.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	m.Stdout, m.Stderr = out, out
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		m.kill()
		for i, pid := range m.pids {
			if p, err := Adopt(pid, m.begun[i], 0); err == nil {
				p.Signal(syscall.SIGKILL)
				<-p.Done()
				p.Close()
			}
		}
	})
	for _, line := range m.hear(t, "started ", workers) {
		var pid int
		var begun string
		fmt.Sscanf(line, "started %d %s", &pid, &begun)
		m.pids, m.begun = append(m.pids, pid), append(m.begun, begun)
	}
	return m
}

// hear waits for so many whole lines that begin so.
func (m *firstMaster) hear(t *testing.T, prefix string, n int) (lines []string) {
	t.Helper()
	eventually(t, "it says "+prefix, func() bool {
		lines = nil
		for line := range strings.Lines(m.text()) {
			if strings.HasPrefix(line, prefix) && strings.HasSuffix(line, "\n") {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return len(lines) >= n
	})
	return lines
}

func mustAdopt(t *testing.T, pid int, begun string) *Process {
	t.Helper()
	p, err := Adopt(pid, begun, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// blind is Adopt where the kernel has no pidfds.
func blind(t *testing.T, pid int, begun string) *Process {
	t.Helper()
	p, err := adopt(pid, -1, begun, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// tells: this kernel says how a process has ended that is not our child.
func tells(t *testing.T) bool {
	var name unix.Utsname
	if err := unix.Uname(&name); err != nil {
		t.Fatal(err)
	}
	var major, minor int
	fmt.Sscanf(unix.ByteSliceToString(name.Release[:]), "%d.%d", &major, &minor)
	return major > 6 || major == 6 && minor >= 15
}

// Workers of a master that was killed: their ends are noticed, with the status.
func TestAdoptedWhenTheMasterWasKilled(t *testing.T) {
	m := newFirstMaster(t, 3, "master", obedient, "sleep 1000", obedient)
	m.hear(t, "here", 2)
	m.kill()
	ends, killed, unseen := mustAdopt(t, m.pids[0], m.begun[0]), mustAdopt(t, m.pids[1], m.begun[1]), blind(t, m.pids[2], m.begun[2])
	if ends.stranger == nil || ends.PID() != m.pids[0] {
		t.Fatalf("%+v", ends)
	}
	if err := ends.SetOOMScoreAdj(300); err != nil {
		t.Error(err)
	}
	if text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/oom_score_adj", ends.PID())); strings.TrimSpace(string(text)) != "300" {
		t.Errorf("oom_score_adj is %q", text)
	}
	for _, c := range []struct {
		p    *Process
		sig  syscall.Signal
		want Exit
	}{
		{ends, syscall.SIGTERM, Exit{Code: 7}},
		{killed, syscall.SIGKILL, Exit{Code: -1, Signal: syscall.SIGKILL}},
		{unseen, syscall.SIGKILL, Exit{Code: -1, Signal: syscall.SIGKILL}},
	} {
		select {
		case <-c.p.Done():
			t.Fatal("it has ended by itself")
		default:
		}
		if err := c.p.Signal(c.sig); err != nil {
			t.Error(err)
		}
		got := ended(t, c.p)
		if got != c.want && (tells(t) && c.p != unseen || !got.Unknown) {
			t.Errorf("%+v, want %+v", got, c.want)
		}
		if err := c.p.Signal(syscall.SIGTERM); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("signal after the end: %v", err)
		}
		if err := c.p.SetOOMScoreAdj(0); !errors.Is(err, os.ErrProcessDone) {
			t.Errorf("oom_score_adj after the end: %v", err)
		}
	}
	if text := (Exit{Code: -1, Unknown: true}).String(); !strings.Contains(text, "not known") {
		t.Error(text)
	}
	for i, pid := range m.pids {
		p, err := Adopt(pid, m.begun[i], 0)
		if err == nil { // nobody has waited for it yet
			ended(t, p)
			p.Close()
		} else if !errors.Is(err, process.ErrGone) {
			t.Errorf("adopted after its end: %v", err)
		}
	}
}

// What a stranger leaves in its group is killed, whether its parent was quicker
// to wait for it than we were or not; others are not.
func TestWhatAStrangerLeavesBehindIsKilled(t *testing.T) {
	parent := "sleep 1000 & echo child $!; sleep 1000 & echo child $!; echo here; wait"
	for name, take := range map[string]func(*testing.T, int, string) *Process{
		"pidfd": mustAdopt,
		"blind": blind,
	} {
		t.Run(name, func(t *testing.T) {
			m := newFirstMaster(t, 1, "master", parent)
			var children [2]int
			for i, line := range m.hear(t, "child ", len(children)) {
				fmt.Sscanf(line, "child %d", &children[i])
			}
			m.kill()
			bystander := mustStart(t, Spec{Program: "/bin/sleep", Args: []string{"sleep", "1000"}})
			p := take(t, m.pids[0], m.begun[0])
			unix.Kill(p.PID(), unix.SIGKILL) // it alone
			ended(t, p)
			for _, pid := range children {
				eventually(t, "its child is gone", func() bool { return !running(pid) })
			}
			if !running(bystander.PID()) {
				t.Error("somebody else was killed")
			}
		})
	}
}

// The group is the one that the process made, not a number: one of the same
// number is left alone.
func TestAGroupOfTheSameNumberIsLeftAlone(t *testing.T) {
	m := newFirstMaster(t, 1, "master", "exec sleep 1000")
	p := &Process{pid: m.pids[0], stranger: &stranger{begun: "1", session: 1}}
	for range 3 {
		p.clearByNumber(process.Ticks())
	}
	p.stranger.begun = m.begun[0] // the right one, in another session
	p.clearByNumber(process.Ticks())
	if s, err := process.StatusOf(m.pids[0]); err != nil || s.Ended() {
		t.Fatalf("it was killed: %v", err)
	}
	s, _ := process.StatusOf(m.pids[0])
	p.stranger.session = s.Session
	p.clearByNumber(1) // nobody was there yet
	if s, err := process.StatusOf(m.pids[0]); err != nil || s.Ended() {
		t.Fatalf("it was killed: %v", err)
	}
	p.clearByNumber(process.Ticks())
	eventually(t, "it is gone", func() bool { return !running(m.pids[0]) })
}

func TestAdoptRefusesAnother(t *testing.T) {
	p := mustStart(t, Spec{Program: "/bin/sleep", Args: []string{"sleep", "1000"}})
	begun, err := process.Begun(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		pid   int
		begun string
	}{{p.PID(), begun + "0"}, {p.PID(), "-"}, {1 << 30, begun}} {
		if _, err := Adopt(c.pid, c.begun, 0); !errors.Is(err, process.ErrGone) {
			t.Errorf("%+v: %v", c, err)
		}
	}
	for _, pid := range []int{0, -1, -p.PID()} {
		if _, err := Adopt(pid, begun, 0); err == nil {
			t.Errorf("adopted %d", pid)
		}
	}
	if _, err := process.Begun(1 << 30); !errors.Is(err, process.ErrGone) {
		t.Error(err)
	}
	threads, err := os.ReadDir("/proc/self/task") // a number that is a thread's
	if err != nil || len(threads) < 2 {
		t.Skip(err)
	}
	var tid int
	fmt.Sscan(threads[len(threads)-1].Name(), &tid)
	if begun, err = process.Begun(tid); err == nil && tid != os.Getpid() {
		if _, err := Adopt(tid, begun, 0); !errors.Is(err, process.ErrGone) {
			t.Errorf("adopted a thread: %v", err)
		}
	}
}

// After an exec of the master its workers are its children still.
func TestAdoptAfterAnExec(t *testing.T) {
	t.Setenv("THEN", "exec")
	m := newFirstMaster(t, 1, "master", "trap 'exit 7' TERM; while :; do sleep 0.02; done")
	if line := m.hear(t, "ended with", 1)[0]; line != "ended with exit status 7" && line != "ended with signal: terminated" { // it may not have set its trap yet
		t.Error(line)
	}
	if err := m.Wait(); err != nil {
		t.Error(err)
	}
}

// A master that is given the orphans of the machine waits for those it has
// adopted, before or after they became its own: no zombie is left.
func TestAdoptedOrphansAreWaitedFor(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Skip(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	m := newFirstMaster(t, 3, "master", obedient, obedient, obedient)
	m.hear(t, "here", 3)
	before, unseen := mustAdopt(t, m.pids[0], m.begun[0]), blind(t, m.pids[1], m.begun[1])
	m.kill()
	after := mustAdopt(t, m.pids[2], m.begun[2])
	if before.stranger == nil || unseen.stranger == nil || after.stranger != nil {
		t.Fatalf("%v, %v, %v", before.stranger, unseen.stranger, after.stranger)
	}
	for _, p := range []*Process{before, unseen, after} {
		if err := p.Signal(syscall.SIGTERM); err != nil {
			t.Error(err)
		}
		if e := ended(t, p); e != (Exit{Code: 7}) {
			t.Error(e)
		}
		if _, err := process.Begun(p.PID()); !errors.Is(err, process.ErrGone) {
			t.Errorf("a zombie is left: %v", err)
		}
	}
}

// A shim that waits for its order ends with its master, whatever it has of it.
func TestAShimEndsWithItsMaster(t *testing.T) {
	for _, part := range []string{"", `{"Program":"L2Jpbi9zbGVlcA==",`} {
		m := newFirstMaster(t, 1, "shim", part)
		if !running(m.pids[0]) {
			t.Error("it does not wait")
		}
		p := mustAdopt(t, m.pids[0], m.begun[0])
		m.kill()
		if e := ended(t, p); !e.Unknown && e != (Exit{Code: shimFailed}) {
			t.Error(e)
		}
	}
}

func TestFindWorkers(t *testing.T) {
	m := newFirstMaster(t, 2, "master", "sleep 1000 & wait", "exec sleep 1000")
	mine := func(env []string) bool {
		for _, kv := range env {
			if strings.HasPrefix(kv, "SHOP_WORKER=") {
				return true
			}
		}
		return false
	}
	m.kill()
	found := map[int]string{}
	for _, f := range process.Find("/", mine) {
		found[f.PID] = f.Begun
		if !mine(f.Env) || f.Leads != slices.Contains(m.pids, f.PID) {
			t.Errorf("%+v", f)
		}
	}
	for i, pid := range m.pids {
		if found[pid] != m.begun[i] {
			t.Errorf("process %d is not found: %v", pid, found)
		}
	}
	if len(found) != len(m.pids)+1 { // and the child of the first
		t.Errorf("others are found, too: %v", found)
	}
}

// Who has ended and was not waited for by its parent is nobody to adopt, nor a worker's
// main process. One's own child is: it is waited for, and how it ended is told.
func TestZombiesOfOthersAreNotAdopted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	parent := exec.Command("/bin/sh", "-c", `sh -c 'until read -r comm </proc/$PPID/comm && test "$comm" = sleep; do :; done; exit 3' & echo $!; exec sleep 100`) // sleep waits for nobody
	parent.Stdout = w
	parent.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() { parent.Process.Kill(); parent.Wait() })
	var pid int
	if _, err := fmt.Fscan(r, &pid); err != nil {
		t.Fatal(err)
	}
	var s process.Status
	eventually(t, "it is a zombie", func() bool {
		comm, _ := os.Readlink(fmt.Sprintf("/proc/%d/exe", parent.Process.Pid))
		s, err = process.StatusOf(pid)
		return err == nil && s.Ended() && strings.HasSuffix(comm, "sleep")
	})
	if p, err := Adopt(pid, s.Begun, 0); !errors.Is(err, process.ErrGone) {
		t.Errorf("a zombie was adopted: %v, %v", p, err)
	}
	if group, err := process.Belongs(pid, parent.Process.Pid, nil); err == nil {
		t.Errorf("a zombie is taken for a worker's main process, in group %d", group)
	}

	own, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", "exit 5"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is a zombie", func() bool { s, err = process.StatusOf(own); return err == nil && s.Ended() })
	p := mustAdopt(t, own, s.Begun)
	if e := ended(t, p); e != (Exit{Code: 5}) {
		t.Error(e)
	}
}

// Orphans that become this process's children are waited for; children that somebody
// waits for are left to them.
func TestOrphansAreWaitedFor(t *testing.T) {
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		t.Skip(err)
	}
	defer unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)
	out, err := exec.Command("/bin/sh", "-c", "(sleep 0.05 >/dev/null 2>&1 & echo $!)").Output()
	if err != nil {
		t.Fatal(err)
	}
	var orphan int
	fmt.Sscan(string(out), &orphan)
	own := exec.Command("/bin/true")
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	for _, pid := range []int{orphan, own.Process.Pid} {
		eventually(t, "it is a zombie", func() bool {
			s, err := process.StatusOf(pid)
			return err == nil && s.Ended() && s.Parent == os.Getpid()
		})
	}
	var o Orphans
	if n := o.Look(); n != 0 {
		t.Errorf("%d were waited for at once", n)
	}
	if err := own.Wait(); err != nil { // somebody waits a little late
		t.Error(err)
	}
	if n := o.Look(); n != 1 {
		t.Errorf("%d were waited for, want the orphan", n)
	}
	if _, err := process.Begun(orphan); !errors.Is(err, process.ErrGone) {
		t.Errorf("a zombie is left: %v", err)
	}
	o.at = o.at.Add(-time.Minute) // the machine was paused
	o.seen = map[int]string{}
	if n := o.Look(); n != 0 || len(o.seen) != 0 {
		t.Errorf("%d, %v", n, o.seen)
	}
}
