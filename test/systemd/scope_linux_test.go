package systemd

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// scope is the cgroup of a worker that has limits.
func (u *unit) scope(worker int) string {
	return filepath.Join(u.slice(), fmt.Sprintf("%s-worker-%d.scope", strings.ReplaceAll(u.name, "@", ":"), worker))
}

// scopeGone waits until a worker's scope, and all that was in it, is gone.
func (u *unit) scopeGone(worker int) {
	u.t.Helper()
	u.eventually("the scope to be gone", func() (bool, string) {
		state, _ := u.run("systemctl", "show", filepath.Base(u.scope(worker)), "-P", "LoadState,ActiveState")
		_, err := os.Stat(filepath.Join(u.cgroup, u.scope(worker)))
		return errors.Is(err, os.ErrNotExist) && strings.Contains(state, "not-found"), fmt.Sprint(state, err)
	})
}

// check runs masterd check as a unit: commands that are run from here are in no cgroup of
// the box.
func (u *unit) check() (out string, code int) {
	u.t.Helper()
	u.write("/etc/systemd/system/check.service", "[Service]\nType=oneshot\nExecStart=/usr/local/bin/masterd check --config "+u.file+"\n")
	u.must("systemctl", "daemon-reload")
	_, _ = u.run("systemctl", "start", "check") // how it ends is asked for
	code, _ = strconv.Atoi(strings.TrimSpace(u.must("systemctl", "show", "check", "-P", "ExecMainStatus")))
	return u.must("journalctl", "--no-pager", "-o", "cat", "-u", "check"), code
}

// limited is a unit whose workers have limits, in a box whose kernel has them.
func limited(t *testing.T) *unit {
	t.Helper()
	b := bootWith(t, true)
	b.installMasterd()
	u := b.unit("masterd@shop", "/etc/masterd/shop.yaml", "shop", 8080)
	u.install("demo-v1", "demo")
	u.limit = "tasks: 40, memory: 256MiB"
	// Sleeps without end, once it is told.
	u.command = `[/bin/sh, -c, "(until [ -e /run/bomb ]; do sleep 0.1; done; while :; do sleep 1000 & done) 2>/dev/null & exec /usr/local/bin/demo"]`
	u.configure()
	return u
}

// A worker with limits is in a scope beside the unit. It outlives the master; what it
// starts ends with it; and while it forks without end the master answers, and starts
// the next version as the same user.
func TestWorkerInScope(t *testing.T) {
	t.Parallel()
	u := limited(t)
	u.start()
	u.baked()
	for property, want := range map[string]string{
		"TasksMax": "40", "MemoryMax": strconv.Itoa(256 << 20), "Slice": "system-masterd.slice", "Before": "masterd@shop.service shutdown.target",
		"Description": "masterd: shop, worker 1 of generation 1", "ActiveState": "active", "Delegate": "yes", "DelegateControllers": "",
	} {
		if got := strings.TrimSpace(u.must("systemctl", "show", "masterd:shop-worker-1.scope", "-P", property)); got != want && got != "shutdown.target masterd@shop.service" {
			t.Errorf("%s is %q, want %q", property, got, want)
		}
	}
	if _, workers := u.master(); len(workers) > 0 {
		t.Errorf("%+v are in the unit", workers)
	}
	if got := u.processes(u.scope(1)); len(got) < 2 {
		t.Errorf("%+v are in the scope", got)
	}
	if out, code := u.check(); code != 0 || !strings.Contains(out, "is good") {
		t.Errorf("masterd check: exit code %d\n%s", code, out)
	}

	before := u.processes(u.scope(1))
	master, _ := u.master()
	master.signal(t, syscall.SIGKILL)
	u.becomes("NRestarts", "1")
	u.becomes("ActiveState", "active")
	pids := map[int]bool{}
	for _, p := range u.processes(u.scope(1)) {
		pids[p.pid] = true
	}
	for _, p := range before {
		if p.name == "demo" && !pids[p.pid] {
			t.Errorf("the worker was %+v, and there are %v", p, pids)
		}
	}
	u.baked()

	u.write("/run/bomb", "")
	tasks := func() int {
		n := 0
		for _, p := range u.processes(u.scope(1)) {
			threads, _ := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid))
			n += len(threads)
		}
		return n
	}
	u.eventually("the bomb to have gone off", func() (bool, string) { n := tasks(); return n >= 39, fmt.Sprint(n) }) // the shell ends when it cannot fork
	u.must("masterd", "status", "--service", "shop")
	if n := tasks(); n > 40 {
		t.Errorf("%d tasks are in the scope", n)
	}
	u.install("demo-v2", "demo")
	u.command = ""
	u.configure()
	u.must("systemctl", "reload", u.name)
	u.serves("v2")
	u.baked()
	u.scopeGone(1)
	if got := tasks(); got > 0 {
		t.Errorf("%d tasks are left", got)
	}
	u.must("systemctl", "stop", u.name)
	u.wants("ActiveState=inactive", "Result=success")
	u.scopeGone(2)
	u.nobody()
}

// A stop has masterd drain workers in scopes, although scopes are stopped at the same time.
func TestStopDrainsWorkersInScopes(t *testing.T) {
	t.Parallel()
	u := limited(t)
	u.start()
	u.baked()
	var slow answer
	asked := beside(func() { slow = u.get("/slow?d=2s") })
	u.inFlight(1)
	u.must("systemctl", "stop", u.name, "masterd:shop-worker-1.scope") // as a shutdown does
	<-asked
	if slow.err != nil || slow.body != "waited 2s" {
		t.Errorf("the request that ran when the stop came: %+v: %v", slow, slow.err)
	}
	u.scopeGone(1)
}

// What is in scopes is swept with the unit, also when nobody is left in the unit itself.
func TestSweepEndsScopes(t *testing.T) {
	t.Parallel()
	u := limited(t)
	u.dropIn("RestartSec=1h")
	u.start()
	u.baked()
	for _, p := range u.here() { // master and keeper
		if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
			t.Error(err)
		}
	}
	u.becomes("SubState", "auto-restart")
	u.nobody()
	if got := u.version(); got != "v1" {
		t.Errorf("without a master answers: %s", got)
	}
	u.must("systemctl", "stop", u.name)
	u.becomes("ActiveState", "inactive")
	u.scopeGone(1)
}

// A worker that the kernel ends for its memory is told as one that may have been.
func TestWorkerOutOfMemory(t *testing.T) {
	t.Parallel()
	u := limited(t)
	u.limit = "memory: 64MiB"
	u.env["DEMO_LEAK_MEMORY"] = "200"
	u.configure()
	u.must("systemctl", "start", u.name)
	u.eventually("the kernel to end it", func() (bool, string) {
		out, _ := u.run("journalctl", "--no-pager", "-o", "cat", "-u", u.name)
		return strings.Contains(out, "it may have had all of worker.limits.memory"), out
	})
	u.must("systemctl", "stop", u.name)
}

// Limits that the kernel cannot give are refused, and what runs goes on.
func TestLimitsWithoutControllers(t *testing.T) {
	t.Parallel()
	u := newUnit(t)
	if u.hasControllers() {
		t.Skip("the kernel has them")
	}
	u.start()
	u.baked()
	_, before := u.master()
	u.limit = "tasks: 100"
	u.configure()
	const why = "worker.limits.tasks is not in force"
	if out, code := u.check(); code != 2 || !strings.Contains(out, why) {
		t.Errorf("masterd check: exit code %d\n%s", code, out)
	}
	if out, code := u.run("masterd", "reload"); code == 0 || !strings.Contains(out, why) {
		t.Errorf("masterd reload: exit code %d\n%s", code, out)
	}
	if _, after := u.master(); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("workers were %+v and are %+v", before, after)
	}
	if out := u.must("systemctl", "list-units", "--all", "--no-legend", "masterd-worker-*.scope"); strings.TrimSpace(out) != "" {
		t.Errorf("left: %s", out)
	}
	u.must("systemctl", "stop", u.name)
	u.nobody()
}

// A systemd that hangs costs a reload, and nothing else.
func TestHangingSystemd(t *testing.T) {
	t.Parallel()
	u := limited(t)
	u.start()
	u.baked()
	u.install("demo-v2", "demo")
	if err := syscall.Kill(u.pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(u.pid, syscall.SIGCONT)
	begun := time.Now()
	out, code := u.run("masterd", "reload", "--service", "shop")
	if took := time.Since(begun); code == 0 || !strings.Contains(out, "did not answer at /run/systemd/private within 10s") || took > 25*time.Second {
		t.Errorf("masterd reload: exit code %d after %s\n%s", code, took, out)
	}
	if got := u.version(); got != "v1" {
		t.Errorf("%s answers", got)
	}
	if err := syscall.Kill(u.pid, syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	u.must("masterd", "reload", "--service", "shop")
	u.serves("v2")
	u.must("systemctl", "stop", u.name)
	u.nobody()
}
