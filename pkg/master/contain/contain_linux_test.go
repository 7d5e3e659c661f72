package contain

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
)

func TestMain(m *testing.M) {
	proc.ShimMain()
	os.Exit(m.Run())
}

// mark begins what a test's processes have in their environment. The test binary's
// process id is in it, because the same test may run twice on one machine.
func mark(t *testing.T) string { return fmt.Sprintf("CONTAIN_TEST=%d/%s/", os.Getpid(), t.Name()) }

// marked tells a test's processes by their environment.
func marked(t *testing.T) func(env []string) (uint64, bool) {
	mark := mark(t)
	return func(env []string) (uint64, bool) {
		for _, e := range env {
			if n, ok := strings.CutPrefix(e, mark); ok {
				id, err := strconv.ParseUint(n, 10, 64)
				return id, err == nil
			}
		}
		return 0, false
	}
}

// open is for workers with cgroups, or without.
func open(t *testing.T, cgroups bool) *Workers {
	t.Helper()
	w := Open(Options{RuntimeDir: t.TempDir(), Marked: marked(t)})
	switch {
	case !cgroups:
		w.Close()
		w.group, w.why, w.children = "", "the test", children()
		if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0) })
	case w.group == "":
		t.Skip("there is no cgroup here: ", w.why)
	}
	t.Cleanup(func() {
		if _, err := w.EndAll(); err != nil {
			t.Error(err)
		}
		if _, err := os.Stat(w.group); w.group != "" && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is left: %v", w.group, err)
		}
	})
	return w
}

// start starts a worker that runs a shell script, which is to say "here" and to go on.
func start(t *testing.T, w *Workers, id uint64, script string) (p *proc.Process, named Worker) {
	t.Helper()
	out, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	s := proc.Spec{
		Program: "/bin/sh", Args: []string{"sh", "-c", script}, Stdout: int(out.Fd()), Stderr: int(out.Fd()),
		Env: []string{"PATH=/bin:/usr/bin", mark(t) + strconv.FormatUint(id, 10)},
	}
	fd, err := w.Place(id)
	if err != nil {
		t.Fatal(err)
	}
	if fd >= 0 {
		defer unix.Close(fd)
		s.Cgroup = fd
	}
	if p, err = proc.Start(s); err != nil {
		t.Fatal(err)
	}
	if p.Contained() != (fd >= 0) {
		t.Errorf("contained: %v", p.Contained())
	}
	t.Cleanup(p.Close)
	begun, err := process.Begun(p.PID())
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the script to have run", func() bool {
		text, _ := os.ReadFile(out.Name())
		return strings.HasSuffix(string(text), "here\n")
	})
	return p, Worker{ID: id, PID: p.PID(), Begun: begun}
}

func eventually(t *testing.T, what string, fact func() bool) {
	t.Helper()
	for late := time.Now().Add(20 * time.Second); !fact(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			t.Fatalf("waited for %s", what)
		}
	}
}

// sleepers are the living processes that sleep for so many seconds.
func sleepers(seconds string) (pids []int) {
	for pid := range process.Living() {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		if err == nil && strings.HasSuffix(string(text), "\x00"+seconds+"\x00") {
			pids = append(pids, pid)
		}
	}
	return pids
}

// What is left of a worker is found wherever it has gone, and what is another's is not
// touched.
func TestWhatAWorkerLeavesIsEnded(t *testing.T) {
	ways := map[string]string{
		"in its group":            "sleep %s &",
		"in its session":          "setsid -w sh -c 'sleep %s & exec sleep %[1]s' &",
		"in a session of its own": "setsid -f sleep %s",
		"twice removed":           "(setsid -f setsid -f sleep %s)",
		"without a trace":         "env -i setsid -f sleep %s",
	}
	for _, cgroups := range []bool{true, false} {
		for i, way := range []string{"in its group", "in its session", "in a session of its own", "twice removed", "without a trace"} {
			t.Run(fmt.Sprintf("%s, cgroups %v", way, cgroups), func(t *testing.T) {
				w := open(t, cgroups)
				mine, other := fmt.Sprintf("%d.5", 7_000_000+10*os.Getpid()+i), fmt.Sprintf("%d.25", 7_000_000+10*os.Getpid()+i)
				p, named := start(t, w, 1, fmt.Sprintf(ways[way], mine)+"\necho here; exec sleep 1000")
				_, _ = start(t, w, 2, "setsid -f sleep "+other+"; echo here; exec sleep "+other)
				eventually(t, "what it leaves to have got where it goes", func() bool { return len(sleepers(mine)) > 0 })
				if err := p.SignalAlone(syscall.SIGKILL); err != nil {
					t.Fatal(err)
				}
				<-p.Done()
				eventually(t, "the other's processes", func() bool { return len(sleepers(other)) == 2 })
				if _, err := w.End(named); err != nil {
					t.Error(err)
				}
				left := sleepers(mine)
				if cgroups || way != "without a trace" { // that one is known to get away until the stop
					if len(left) > 0 {
						t.Errorf("processes %v are left", left)
					}
				}
				if len(sleepers(other)) != 2 {
					t.Error("another worker's processes were ended")
				}
				if cgroups {
					if got := w.Left(); !slices.Equal(got, []uint64{2}) {
						t.Errorf("processes are left in the cgroups of %v", got)
					}
				}
				if _, err := w.EndAll(); err != nil {
					t.Error(err)
				}
				if left := append(sleepers(mine), sleepers(other)...); len(left) > 0 {
					t.Errorf("processes %v are left at the end", left)
				}
			})
		}
	}
}

// Who forks all the time is ended too, in cgroups of its own making as well.
func TestOneThatForksIsEnded(t *testing.T) {
	for _, cgroups := range []bool{true, false} {
		t.Run(fmt.Sprint(cgroups), func(t *testing.T) {
			w := open(t, cgroups)
			nest := ""
			if cgroups && os.Geteuid() == 0 {
				nest = fmt.Sprintf("mkdir -p %[1]s/a/b; echo $$ >%[1]s/a/b/cgroup.procs; ", groupOf(w.group, 1))
			}
			p, named := start(t, w, 1, nest+"echo here; while :; do setsid sleep 0.02 & sleep 0.005; done")
			if err := p.Signal(syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			<-p.Done()
			if _, err := w.End(named); err != nil {
				t.Error(err)
			}
			for pid := range process.Living() {
				if id, ok := w.opt.Marked(process.Environ(pid)); ok {
					t.Errorf("process %d of worker %d is left", pid, id)
				}
			}
		})
	}
}

// Workers of another masterd, whose runtime directory has the same path in a mount
// namespace of its own, are not this one's.
func TestAnotherNamespacesWorkersAreNotTouched(t *testing.T) {
	for _, way := range []string{"a directory of its own", "a link of its own"} {
		t.Run(way, func(t *testing.T) {
			w := open(t, true)
			parent := t.TempDir()
			w.opt.RuntimeDir = filepath.Join(parent, "run")
			script := "mount -t tmpfs none $1 && exec sleep 1000"
			if err := os.Mkdir(w.opt.RuntimeDir, 0o755); err != nil {
				t.Fatal(err)
			}
			if way == "a link of its own" {
				// It leads to a path that is the runtime directory here.
				there := filepath.Join(parent, "there")
				if err := errors.Join(os.Mkdir(there, 0o755), os.Mkdir(filepath.Join(parent, "run", "shop"), 0o755), os.Symlink(filepath.Join(parent, "run"), filepath.Join(parent, "link"))); err != nil {
					t.Fatal(err)
				}
				w.opt.RuntimeDir = filepath.Join(parent, "link", "shop")
				script = "mount -t tmpfs none $1 && mkdir $1/shop && exec sleep 1000"
			}
			start := func(script string, sys *syscall.SysProcAttr) (cmd *exec.Cmd, ended chan error) {
				cmd = exec.Command("/bin/sh", "-c", script, "sh", filepath.Join(parent, "run"))
				cmd.Env = []string{"PATH=/bin:/usr/bin:/sbin:/usr/sbin", mark(t) + "1"}
				cmd.SysProcAttr = sys
				if err := cmd.Start(); err != nil {
					t.Skip("there are no mount namespaces here: ", err)
				}
				ended = make(chan error, 1)
				go func() { ended <- cmd.Wait() }()
				return cmd, ended
			}
			other, otherEnded := start(script, &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS, Setsid: true})
			mine, mineEnded := start("exec sleep 1000", &syscall.SysProcAttr{Setsid: true})
			asleep := func(pid int) bool {
				text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
				return string(text) == "sleep\x001000\x00"
			}
			for !asleep(other.Process.Pid) || !asleep(mine.Process.Pid) {
				select {
				case err := <-otherEnded:
					t.Skip("nothing can be mounted here: ", err)
				case <-time.After(time.Millisecond):
				}
			}
			if found := process.Find(w.opt.RuntimeDir, func(env []string) bool { _, ok := w.opt.Marked(env); return ok }); len(found) != 1 || found[0].PID != mine.Process.Pid {
				t.Errorf("at a start %+v are found, want %d", found, mine.Process.Pid)
			}
			if ended, err := w.EndAll(); err != nil || !slices.Equal(ended, []int{mine.Process.Pid}) {
				t.Errorf("ended %v, %v, want %d", ended, err, mine.Process.Pid)
			}
			<-mineEnded
			select {
			case err := <-otherEnded:
				t.Errorf("the other masterd's worker was ended: %v", err)
			default:
				_ = other.Process.Kill()
				<-otherEnded
			}
		})
	}
}

// What has no such directory, as after chroot, is told by its mount namespace.
func TestSeesWithoutTheDirectory(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	if !process.Sees(os.Getpid(), gone) {
		t.Error("this process's own mount namespace is not known")
	}
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if err := cmd.Start(); err != nil {
		t.Skip("there are no mount namespaces here: ", err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	if process.Sees(cmd.Process.Pid, gone) {
		t.Error("another mount namespace is taken for this one")
	}
}

// What this user may not end costs no time, is named, and keeps nothing else alive.
func TestWhatMayNotBeEndedIsNamed(t *testing.T) {
	w := open(t, false)
	p, named := start(t, w, 1, "setsid sleep 1000 & setsid sleep 1001 & echo here; exec sleep 1000")
	var pids []int
	eventually(t, "its processes, in sessions of their own", func() bool {
		all := look()
		pids = all.of(named, w.marker())
		return len(pids) == 3 && !slices.ContainsFunc(pids, func(pid int) bool { return all[pid].Session != pid })
	})
	pids = slices.DeleteFunc(pids, func(pid int) bool { return pid == p.PID() })
	if err := p.SignalAlone(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	kill := w.kill
	w.kill = func(pid int, begun string) error {
		if pid == pids[0] {
			return unix.EPERM
		}
		return kill(pid, begun)
	}
	begun := time.Now()
	ended, err := w.End(named)
	if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("process %d (user %d) may not be ended by masterd's user", pids[0], os.Geteuid())) {
		t.Errorf("%v", err)
	}
	if took := time.Since(begun); took >= killLimit {
		t.Errorf("it took %s", took)
	}
	if !slices.Equal(ended, pids[1:]) {
		t.Errorf("ended %v, want %v", ended, pids[1:])
	}
	w.kill = kill
}

// What has left its worker's cgroup, as by su or systemd-run, is ended all the same.
func TestWhatHasLeftTheCgroupIsEnded(t *testing.T) {
	w := open(t, true)
	elsewhere := w.group + "-elsewhere"
	if err := os.Mkdir(elsewhere, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := endGroup(elsewhere); err != nil {
			t.Error(err)
		}
	})
	p, named := start(t, w, 1, fmt.Sprintf("(echo 0 >%s/cgroup.procs; exec setsid sleep 1000) & while ! grep -q . %[1]s/cgroup.procs; do :; done; echo here; exec sleep 1000", elsewhere))
	eventually(t, "it to have left the worker's group, which is killed with the worker", func() bool {
		pids := members(elsewhere)
		group, _ := syscall.Getpgid(slices.Max(append(pids, 1)))
		return len(pids) == 1 && group == pids[0]
	})
	if err := p.SignalAlone(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	<-p.Done()
	there := members(elsewhere)
	if ended, err := w.End(named); err != nil || len(there) != 1 || !slices.Contains(ended, there[0]) {
		t.Errorf("ended %v, %v, want %v", ended, err, there)
	}
	eventually(t, "it to be gone", func() bool { return len(members(elsewhere)) == 0 }) // the kernel lists a zombie for a moment
}

// A look for what is left takes nothing from workers that live.
func TestLeftKeepsCgroupsOfTheLiving(t *testing.T) {
	w := open(t, true)
	own := filepath.Join(groupOf(w.group, 1), "own", "nested")
	_, _ = start(t, w, 1, "mkdir -p "+own+"; echo here; exec sleep 1000")
	if err := os.MkdirAll(filepath.Join(groupOf(w.group, 2), "nested"), 0o755); err != nil {
		t.Fatal(err)
	}
	if got := w.Left(); !slices.Equal(got, []uint64{1}) {
		t.Errorf("left: %v", got)
	}
	if !isGroup(own) {
		t.Error("a cgroup that a living worker has made was removed")
	}
	if isGroup(groupOf(w.group, 2)) {
		t.Error("the cgroup of one that is gone is left")
	}
}

// What an operator's hook leaves running outlives a stop, and nothing else does.
func TestWhatHooksLeaveIsNotEnded(t *testing.T) {
	w := open(t, false)
	w.opt.Operators = func(env []string) bool { return slices.Contains(env, "MASTERD_HOOK=after") }
	leave := func(env ...string) int {
		t.Helper()
		cmd := exec.Command("/bin/sh", "-c", "setsid sleep 1000 >/dev/null 2>&1 & echo $!")
		cmd.Env = append(env, "PATH=/bin:/usr/bin")
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
		if err != nil {
			t.Fatal(err)
		}
		return pid
	}
	hooks, others := leave("MASTERD_HOOK=after"), leave("MASTERD_NOTHING=1")
	eventually(t, "both to be this process's", func() bool {
		all := look()
		return all[hooks].Parent == os.Getpid() && all[others].Parent == os.Getpid()
	})
	if ended, err := w.EndAll(); err != nil || !slices.Equal(ended, []int{others}) {
		t.Errorf("ended %v, %v, want %d", ended, err, others)
	}
	w.opt.Operators = nil // the cleanup ends it
}

// Without cgroup.kill processes are ended one by one.
func TestEndWithoutCgroupKill(t *testing.T) {
	w := open(t, true)
	p, _ := start(t, w, 1, "setsid -f sleep 1000; setsid -f sleep 1000; echo here; exec sleep 1000")
	dir := groupOf(w.group, 1)
	pids := members(dir)
	if len(pids) != 3 {
		t.Errorf("%v are in the cgroup", pids)
	}
	if got := w.Processes(1); !slices.Equal(got, pids) || w.Processes(2) != nil {
		t.Errorf("%v, %v", got, w.Processes(2))
	}
	killEach(dir)
	<-p.Done()
	eventually(t, "the cgroup to be empty", func() bool { return len(members(dir)) == 0 })
}

// The cgroup of an earlier master is looked at, too.
func TestCgroupOfAnEarlierMaster(t *testing.T) {
	w := open(t, true)
	elsewhere := filepath.Join(filepath.Dir(w.group), filepath.Base(w.group)+"-before")
	if err := os.MkdirAll(groupOf(elsewhere, 5), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(groupOf(elsewhere, 5))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("sleep", "1000")
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd())}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	next := Open(Options{RuntimeDir: w.opt.RuntimeDir, Before: []string{elsewhere}, Marked: marked(t)})
	// One more takeover, from the first one's cgroup: none is forgotten.
	before := next.Cgroups()
	if want := append(w.groups(), elsewhere); !slices.Equal(before, want) {
		t.Errorf("the next master looks into %v, want %v", before, want)
	}
	next = Open(Options{RuntimeDir: w.opt.RuntimeDir, Before: before, Marked: marked(t)})
	if got := next.Left(); !slices.Equal(got, []uint64{5}) {
		t.Errorf("left: %v", got)
	}
	if got, err := next.End(Worker{ID: 5}); err != nil || !slices.Equal(got, []int{cmd.Process.Pid}) {
		t.Errorf("ended %v, %v", got, err)
	}
	<-ended
	if _, err := next.EndAll(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(elsewhere); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is left", elsewhere)
	}
}

func TestMountedAt(t *testing.T) {
	const mounts = `24 1 0:22 / /proc rw - proc proc rw
30 24 0:26 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids
31 24 0:27 /docker/abc /mnt/a\040b rw,nosuid shared:9 master:1 - cgroup2 cgroup2 rw
32 24 0:27 /system.slice /sys/fs/cgroup/unified ro - cgroup2 cgroup2 rw
`
	for path, want := range map[string]string{
		"/docker/abc":                     "/mnt/a b",
		"/docker/abc/x":                   "/mnt/a b/x",
		"/docker/abcd":                    "",
		"/system.slice/m.service":         "/sys/fs/cgroup/unified/m.service",
		"/../x":                           "",
		"/user.slice/session-1.scope":     "",
		"/system.slice/with a/blank":      "/sys/fs/cgroup/unified/with a/blank",
		"/system.slice/../docker/abc/sub": "/mnt/a b/sub",
	} {
		if got, err := mountedAt(strings.NewReader(mounts), path, ""); got != want || (err == nil) != (want != "") {
			t.Errorf("%s: %q, %v, want %q", path, got, err, want)
		}
	}
}

// A cgroup is found below where it is mounted, and nowhere else.
func FuzzMountedAt(f *testing.F) {
	f.Add("36 35 0:30 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw\n", "/a.service")
	f.Add("36 35 0:30 /a /mnt/with\\040blank rw - cgroup2 none rw\n1 2\n", "/a/../../b")
	f.Add("36 35 0:30 /../.. - cgroup2 \n", "/..")
	f.Fuzz(func(t *testing.T, mounts, path string) {
		dir, err := mountedAt(strings.NewReader(mounts), path, "")
		if err != nil {
			return
		}
		for line := range strings.Lines(mounts) {
			if fields := strings.Fields(line); len(fields) > 4 {
				at := filepath.Clean(unescape(fields[4]))
				if dir == at || strings.HasPrefix(dir, strings.TrimSuffix(at, "/")+"/") || at == "." {
					return
				}
			}
		}
		t.Errorf("%q in %q: %q", path, mounts, dir)
	})
}
