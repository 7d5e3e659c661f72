package systemd

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// systemctl start returns when the service answers, and not before; the worker
// is not given what is meant for the main process.
func TestStartReturnsWhenItServes(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.env["DEMO_START_DELAY"] = "300ms"
	u.configure()
	began := time.Now()
	u.start()
	if took := time.Since(began); took < 300*time.Millisecond {
		t.Errorf("systemctl start returned after %s, before the worker can have been ready", took)
	}
	u.wants("ActiveState=active", "SubState=running", "Type=notify", "NotifyAccess=main", "KillMode=process",
		"OOMPolicy=continue", "WatchdogUSec=30s", "NRestarts=0", "Result=success")
	u.says("serving", "generation 1")

	m, workers := u.master()
	if m.name != "masterd" || len(workers) != 1 {
		t.Fatalf("main process %+v, workers %+v", m, workers)
	}
	if score := strings.TrimSpace(m.file(t, "oom_score_adj")); score != "-500" {
		if u.may(unix.CAP_SYS_RESOURCE) {
			t.Errorf("the master's oom_score_adj is %s", score)
		}
		t.Logf("the master's oom_score_adj is %s: nobody may lower it here, not even root", score)
	}
	for _, w := range workers {
		if score := strings.TrimSpace(w.file(t, "oom_score_adj")); score != "0" {
			t.Errorf("the active worker's oom_score_adj is %s", score)
		}
		for kv := range strings.SplitSeq(w.file(t, "environ"), "\x00") {
			switch key, _, _ := strings.Cut(kv, "="); key {
			case "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "FDSTORE", "MAINPID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES",
				"LISTEN_PIDFDID", "INVOCATION_ID", "JOURNAL_STREAM", "SYSTEMD_EXEC_PID":
				t.Errorf("the worker has %s", kv)
			}
		}
	}

	// As a person would look.
	if out := u.must("masterd", "status"); !strings.Contains(out, "serving") {
		t.Errorf("masterd status:\n%s", out)
	}
	u.journal("masterd starts", "the traffic has moved")
}

// systemctl stop lets the request that runs end, also if that takes longer than
// TimeoutStopSec, and leaves nothing.
func TestStopDrains(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn("TimeoutStopSec=6") // long enough for the master to ask for more
	u.start()
	var slow answer
	asked := beside(func() { slow = u.get("/slow?d=8s") })
	u.inFlight(1)
	began := time.Now()
	u.must("systemctl", "stop", u.name)
	took := time.Since(began)
	<-asked
	if slow.err != nil || slow.status != http.StatusOK || slow.body != "waited 8s" {
		t.Errorf("the request that ran when the stop came: %+v", slow)
	}
	if took < 6*time.Second {
		t.Errorf("systemctl stop returned after %s, while a request ran", took)
	}
	u.wants("ActiveState=inactive", "Result=success", "ExecMainStatus=0")
	if left := u.here(); len(left) > 0 {
		t.Errorf("left in the control group: %+v", left)
	}
	if out, code := u.run("masterd", "status"); code != 3 {
		t.Errorf("masterd status: exit code %d, want 3\n%s", code, out)
	}
}

// inFlight waits until so many requests run.
func (u *unit) inFlight(n int64) {
	u.t.Helper()
	u.eventually("the request to run", func() (bool, string) {
		st, err := u.status()
		if err != nil {
			return false, err.Error()
		}
		running := int64(0)
		for _, g := range st.Generations {
			for _, w := range g.Workers {
				running += w.InFlight
			}
		}
		return running == n, ""
	})
}

// A worker that is killed, as the kernel does when memory is short, is the
// master's to replace: the unit goes on.
func TestKilledWorkerIsReplaced(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	before, workers := u.master()
	workers[0].signal(t, syscall.SIGKILL)
	u.eventually("a new worker", func() (bool, string) {
		_, now := u.master()
		return len(now) == 1 && now[0].pid != workers[0].pid, ""
	})
	u.serves("v1")
	if after, _ := u.master(); after != before {
		t.Errorf("the master was %+v and is %+v", before, after)
	}
	u.wants("ActiveState=active", "NRestarts=0")
	u.becomes("SubState", "running")
}

// A master that is killed is started again by systemd and takes over the workers,
// which serve meanwhile.
func TestKilledMasterComesBack(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	before, workers := u.master()
	before.signal(t, syscall.SIGKILL)
	began := time.Now()
	u.becomes("NRestarts", "1")
	u.serves("v1")
	t.Logf("serving again %s after the kill", time.Since(began).Round(time.Millisecond))
	u.becomes("ActiveState", "active")
	after, now := u.master()
	if after.pid == before.pid {
		t.Error("the master is the same process")
	}
	if fmt.Sprint(now) != fmt.Sprint(workers) {
		t.Errorf("workers %+v before and %+v after", workers, now)
	}
	u.wants("ActiveState=active")
	u.says("serving")
}

// A master that is killed again and again comes back each time, although workers are
// left in cgroups of their own below the unit's.
func TestMasterIsKilledTwentyTimes(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	u.baked()
	t.Logf("controllers of the unit's cgroup: %q", u.controllers())
	_, workers := u.master()
	for _, w := range workers {
		if group := w.file(t, "cgroup"); !strings.Contains(group, "/masterd-") || !strings.Contains(group, "/worker-") {
			t.Fatalf("the worker %+v is not in a cgroup of its own: %s", w, group)
		}
	}
	for i := 1; i <= 20; i++ {
		before, _ := u.master()
		before.signal(t, syscall.SIGKILL)
		u.becomes("NRestarts", strconv.Itoa(i))
		u.becomes("ActiveState", "active")
		u.serves("v1")
		after, now := u.master()
		if after.pid == before.pid || fmt.Sprint(now) != fmt.Sprint(workers) {
			t.Fatalf("after kill %d: master %+v, then %+v; workers %+v, then %+v", i, before, after, workers, now)
		}
	}
	u.wants("Result=success")
	u.must("systemctl", "stop", u.name)
	if left := u.here(); len(left) > 0 {
		t.Errorf("%+v outlive the stop", left)
	}
}

// A unit's user has what is delegated.
func TestUnitOfAnOrdinaryUser(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn("User=nobody\nEnvironment=XDG_STATE_HOME=/var/lib")
	u.start()
	_, workers := u.master()
	for _, w := range workers {
		if group := w.file(t, "cgroup"); !strings.Contains(group, "/worker-") {
			t.Errorf("the worker %+v is not in a cgroup of its own: %s", w, group)
		}
	}
	u.must("systemctl", "stop", u.name)
	if left := u.here(); len(left) > 0 {
		t.Errorf("%+v outlive the stop", left)
	}
}

// controllers has the unit's cgroup given a controller, if there is one to be had, and
// returns those that it has: a tree without any cannot fail as one with them can.
func (u *unit) controllers() string {
	slice := "system.slice"
	if template, _, ok := strings.Cut(u.name, "@"); ok {
		slice += "/system-" + template + ".slice"
	}
	dir := u.cgroup
	for _, part := range append([]string{""}, append(strings.Split(slice, "/"), u.name+".service")...) {
		dir = filepath.Join(dir, part)
		available, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
		if part == u.name+".service" {
			return strings.TrimSpace(string(available))
		}
		for _, c := range strings.Fields(string(available)) {
			_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
		}
	}
	return ""
}

// A master that hangs is ended by the watchdog and comes back.
func TestHungMasterIsRestarted(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn("WatchdogSec=8") // a busy machine lets a sound master wait, too
	u.start()
	u.wants("WatchdogUSec=8s")
	before, _ := u.master()
	before.signal(t, syscall.SIGSTOP)
	began := time.Now()
	u.becomes("NRestarts", "1")
	u.serves("v1")
	t.Logf("serving again %s after the hang", time.Since(began).Round(time.Millisecond))
	u.becomes("ActiveState", "active")
	if after, _ := u.master(); after.pid == before.pid {
		t.Error("the master is the same process")
	}
	u.journal("Watchdog timeout")
}

// The watchdog's ABRT ends a master at once, with its stacks in the journal, and
// not only when TimeoutAbortSec has passed.
func TestAbortedMasterIsRestarted(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.start()
	before, _ := u.master()
	began := time.Now()
	before.signal(t, syscall.SIGABRT)
	u.becomes("NRestarts", "1")
	if took := time.Since(began); took >= 5*time.Second { // what Go waits for a thread that does not answer
		t.Errorf("aborting took %s", took)
	}
	u.serves("v1")
	u.becomes("ActiveState", "active")
	u.journal("status=6/ABRT")
	u.journal("pkg/master.(*Master)")
}

// While a rollout takes its time, systemd is asked for more of it; a master that
// hangs then must not profit from that.
func TestHungMasterIsRestartedWhileItReloads(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	u.dropIn("WatchdogSec=8", "TimeoutAbortSec=1")
	u.start()
	u.env["DEMO_HANG"] = "1"
	u.configure()
	u.must("systemctl", "reload", "--no-block", u.name)
	u.becomes("ActiveState", "reloading")
	u.journal(`"rollout_id": 2`) // whose begin asks for more time at once: what is looked for comes with the next beat
	u.pulsed()
	before, _ := u.master()
	before.signal(t, syscall.SIGSTOP)
	u.becomes("NRestarts", "1")
	u.journal("Watchdog timeout")
}

// A systemd that hangs, as during a slow daemon-reexec, does not hold up the
// service; it is told the rest once it listens again.
func TestHungSystemdIsNotWaitedFor(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	// More than the reloads below take, or systemd finds its watchdog unfed when it
	// goes on.
	u.dropIn("WatchdogSec=60")
	u.start()
	u.baked()
	systemd := process{pid: u.pid, name: "systemd"}
	systemd.signal(t, syscall.SIGSTOP)
	t.Cleanup(func() { _ = syscall.Kill(u.pid, syscall.SIGCONT) })
	u.fillNotifySocket()
	for n := range 4 {
		began := time.Now()
		u.must("masterd", "reload")
		t.Logf("reload %d took %s", n, time.Since(began).Round(time.Millisecond))
	}
	u.serves("v1")
	systemd.signal(t, syscall.SIGCONT)
	u.says("serving", "generation 5")
	u.becomes("ActiveState", "active")
	u.wants("NRestarts=0")
}

// fillNotifySocket sends systemd messages until it has room for no more.
func (u *unit) fillNotifySocket() {
	u.t.Helper()
	socket := &net.UnixAddr{Name: u.path("/run/systemd/notify"), Net: "unixgram"}
	for sent := 1; sent > 0; {
		// Each sender's own room is limited too.
		c, err := net.DialUnix("unixgram", nil, socket)
		if err != nil {
			u.t.Fatal(err)
		}
		for sent = 0; err == nil; sent++ {
			_ = c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
			_, err = c.Write([]byte("X_OF_NOBODY=1"))
		}
		sent-- // the last one was not taken
		_ = c.Close()
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			u.t.Fatal(err)
		}
	}
}
