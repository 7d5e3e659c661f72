package systemd

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// bootTimeout is how long a box may take until its systemd is up.
	bootTimeout = 30 * time.Second
	// commandTimeout bounds one command in a box.
	commandTimeout = 60 * time.Second
	// factTimeout is how long a fact may take to come true.
	factTimeout = 40 * time.Second
	// poll is after how long a fact is looked for again, at first; each look after that
	// waits twice as long, up to pollMost: most are commands in the box, which cost more
	// than what is waited for.
	poll, pollMost = 10 * time.Millisecond, 160 * time.Millisecond
	// goneTimeout is how long the kernel may take to empty a cgroup of killed
	// processes.
	goneTimeout = 30 * time.Second
)

// cgroupPrefix, the test's pid and a number name a box's cgroup.
const cgroupPrefix = "masterd-box-"

// box is a systemd of one test's own, in pid, mount, cgroup, ipc, uts and net
// namespaces of its own. It ends with its first process, and that one ends
// with the test: nothing is left of it but an empty cgroup if this process is
// killed, and the next run removes that.
type box struct {
	t      *testing.T
	pid    int    // of its systemd, seen from here
	root   string // its root directory, seen from here
	cgroup string // seen from here
	v1     string // names its cgroups of version 1, where it has some
	log    string // what was written before there was a journal
	ended  chan struct{}
}

// boot boots a box, which ends with the test.
func boot(t *testing.T) *box {
	t.Helper()
	return bootWith(t, false)
}

// bootWith boots a box, if asked for one with controllers of cgroups.
func bootWith(t *testing.T, controllers bool) *box {
	t.Helper()
	if why := missing(); why != "" {
		cannot(t, why)
	}
	cgroup, err := makeCgroup()
	if err != nil {
		cannot(t, "a cgroup of its own cannot be made: "+err.Error())
	}
	b := &box{t: t, cgroup: cgroup, log: filepath.Join(t.TempDir(), "box.log"), ended: make(chan struct{})}
	t.Cleanup(b.close)
	if controllers && !b.hasControllers() {
		b.v1 = filepath.Base(cgroup)
		if err := makeV1(b.v1); err != nil {
			close(b.ended)
			cannot(t, "there are no controllers: "+err.Error())
		}
	}
	if err := b.start(); err != nil {
		close(b.ended)
		cannot(t, "new namespaces cannot be made: "+err.Error())
	}
	if err := b.up(); err != nil {
		said, _ := os.ReadFile(b.log)
		cannot(t, fmt.Sprintf("systemd does not boot here: %v\n%s", err, said))
	}
	return b
}

// cannot skips the test, or fails it where boxes must be had.
func cannot(t *testing.T, why string) {
	t.Helper()
	if *must {
		t.Fatal(why)
	}
	t.Skip(why)
}

// missing says what this host lacks.
func missing() string {
	if os.Getuid() != 0 {
		return "only root can boot a systemd in namespaces of its own"
	}
	if !slices.ContainsFunc(systemdPaths, func(path string) bool { _, err := os.Stat(path); return err == nil }) {
		return fmt.Sprintf("there is no systemd here: none of %q", systemdPaths)
	}
	for _, tool := range []string{"systemctl", "journalctl", "nsenter"} {
		if _, err := exec.LookPath(tool); err != nil {
			return err.Error()
		}
	}
	return ""
}

// start starts the first process, this very program, in its namespaces.
func (b *box) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	log, err := os.Create(b.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(self)
	cmd.Env = []string{stageEnv + "=" + b.cgroup, stageV1Env + "=" + b.v1}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET,
		Pdeathsig:  syscall.SIGKILL,
	}
	started := make(chan error)
	go func() {
		// The signal comes with the end of the thread that started the process:
		// this one stays until the box has ended.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // killed, by close
			close(b.ended)
		}
	}()
	if err := <-started; err != nil {
		return err
	}
	b.pid = cmd.Process.Pid
	b.root = fmt.Sprintf("/proc/%d/root", b.pid)
	return nil
}

// up waits until systemd has booted.
func (b *box) up() error {
	late := time.After(bootTimeout)
	for {
		if _, err := os.Stat(b.path("/run/systemd/private")); err == nil && b.comm() == "systemd" {
			break
		}
		select {
		case <-b.ended:
			return errors.New("its first process has ended")
		case <-late:
			return fmt.Errorf("not within %s", bootTimeout)
		case <-time.After(poll):
		}
	}
	out, _ := b.run("systemctl", "is-system-running", "--wait")
	if state := strings.TrimSpace(out); state != "running" {
		failed, _ := b.run("systemctl", "--failed", "--no-legend")
		return fmt.Errorf("it says that it is %q\n%s", state, failed)
	}
	return nil
}

func (b *box) comm() string {
	c, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", b.pid))
	return strings.TrimSpace(string(c))
}

// close ends the box with all that is in it: the kernel kills a pid namespace
// with its first process, and mounts and network go with the last one.
func (b *box) close() {
	if b.pid != 0 {
		if b.t.Failed() {
			b.tell()
		}
		if err := syscall.Kill(b.pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			b.t.Errorf("ending the box: %v", err)
		}
	}
	<-b.ended
	for _, dir := range append(v1Dirs(b.v1), b.cgroup) {
		if err := removeCgroup(dir); err != nil {
			b.t.Errorf("left behind: %v", err)
		}
	}
}

// tell logs what a failed test's reader wants to see first.
func (b *box) tell() {
	units, _ := b.run("systemctl", "list-units", "--all", "--no-legend", "--plain", "masterd*")
	journal, _ := b.run("journalctl", "--no-pager", "-o", "short-monotonic", "-n", "60")
	b.t.Logf("units:\n%s\nthe end of the journal:\n%s", units, journal)
}

// path is where a path of the box is, seen from here.
func (b *box) path(path string) string { return b.root + path }

// write writes a file in the box, whole or not at all.
func (b *box) write(path, text string) {
	b.t.Helper()
	to := b.path(path)
	if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to+".new", []byte(text), 0o644), os.Rename(to+".new", to)); err != nil {
		b.t.Fatal(err)
	}
}

// install puts a built program into the box, over the one that is there.
func (b *box) install(name, as string) {
	b.t.Helper()
	bin, err := os.ReadFile(program(b.t, name))
	if err != nil {
		b.t.Fatal(err)
	}
	to := b.path("/usr/local/bin/" + as)
	// Another test that forks now would hold the file open for writing until it
	// execs, and nobody could run it.
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	if err := errors.Join(os.WriteFile(to+".new", bin, 0o755), os.Rename(to+".new", to)); err != nil {
		b.t.Fatal(err)
	}
}

// command makes a command that runs in the box.
func (b *box) command(ctx context.Context, args ...string) *exec.Cmd {
	enter := []string{"-t", strconv.Itoa(b.pid), "-m", "-u", "-i", "-n", "-p", "-C", "--"}
	cmd := exec.CommandContext(ctx, "nsenter", append(enter, args...)...)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "SYSTEMD_UNIT_PATH=/etc/systemd/system"}
	cmd.WaitDelay = time.Second
	return cmd
}

// run runs a command in the box and returns all that it wrote, and its exit
// code.
func (b *box) run(args ...string) (string, int) {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	var out bytes.Buffer
	cmd := b.command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if err != nil && cmd.ProcessState == nil {
		return err.Error(), -1
	}
	return out.String(), cmd.ProcessState.ExitCode()
}

// must runs a command in the box that has to succeed.
func (b *box) must(args ...string) string {
	b.t.Helper()
	out, code := b.run(args...)
	if code != 0 {
		b.t.Fatalf("%s: exit code %d\n%s", strings.Join(args, " "), code, out)
	}
	return out
}

// eventually waits until a fact is there; ok tells what it sees.
func (b *box) eventually(what string, ok func() (bool, string)) {
	b.t.Helper()
	late := time.Now().Add(factTimeout)
	for pause := poll; ; pause = min(2*pause, pollMost) {
		done, seen := ok()
		if done {
			return
		}
		if time.Now().After(late) {
			b.t.Fatalf("waiting for %s: not within %s; what is seen is %s", what, factTimeout, seen)
		}
		time.Sleep(pause)
	}
}

// inNetwork calls f in the box's network: sockets that it makes are there.
func (b *box) inNetwork(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and never unlock: the thread ends with us
		ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", b.pid))
		if err == nil {
			err = unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
			_ = ns.Close()
		}
		if err == nil {
			err = f()
		}
		done <- err
	}()
	return <-done
}

// dial connects to an address of the box.
func (b *box) dial(ctx context.Context, network, addr string) (c net.Conn, err error) {
	err = b.inNetwork(func() error {
		var d net.Dialer
		c, err = d.DialContext(ctx, network, addr)
		return err
	})
	return c, err
}

// listen takes an address of the box.
func (b *box) listen(network, addr string) (l net.Listener, err error) {
	err = b.inNetwork(func() error {
		l, err = net.Listen(network, addr)
		return err
	})
	return l, err
}

// process is one process of the box.
type process struct {
	pid   int // seen from here
	inBox int // seen from inside
	name  string
}

// processes are those in a unit's cgroup, now.
func (b *box) processes(cgroup string) (list []process) {
	root := filepath.Join(b.cgroup, cgroup)
	_ = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil
		}
		procs, _ := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		for _, field := range strings.Fields(string(procs)) {
			if pid, err := strconv.Atoi(field); err == nil {
				list = append(list, process{pid: pid, inBox: innermost(pid), name: comm(pid)})
			}
		}
		return nil
	})
	return list
}

// may tells whether the box's root has a capability.
func (b *box) may(capability uint) bool {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.pid))
	for line := range strings.Lines(string(status)) {
		if set, ok := strings.CutPrefix(line, "CapEff:"); ok {
			bits, _ := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return bits&(1<<capability) != 0
		}
	}
	return false
}

func comm(pid int) string {
	b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid))
	return strings.TrimSpace(string(b))
}

// innermost is a process's pid as it knows it itself.
func innermost(pid int) int {
	status, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(status)) {
		if pids, ok := strings.CutPrefix(line, "NSpid:"); ok {
			f := strings.Fields(pids)
			n, _ := strconv.Atoi(f[len(f)-1])
			return n
		}
	}
	return 0
}
