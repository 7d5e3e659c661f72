package proc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"os/user"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func report(t *testing.T, s Spec) picture {
	t.Helper()
	var p picture
	text := run(t, s)
	if err := json.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%v: %q", err, text)
	}
	return p
}

func TestEnvironmentArgumentsAndDirectoryAreExact(t *testing.T) {
	s := spec(t, "report")
	s.Args[0] = "shop: \xff not UTF-8" // exact, whatever it is
	s.Env = []string{"B=2", "A=1", "EMPTY=", "BYTES=\xfe\xff", "LONG=" + strings.Repeat("x", 100_000)}
	s.Dir = t.TempDir()
	text := output(t, &s)
	raw := `cat /proc/self/environ | tr '\0' '\n'; pwd`
	p := mustStart(t, Spec{Program: "/bin/sh", Args: []string{"sh", "-c", raw}, Env: append(s.Env, "PATH=/bin:/usr/bin"), Dir: s.Dir, Stdout: s.Stdout, Stderr: s.Stderr})
	if e := ended(t, p); e != (Exit{}) {
		t.Fatal(e, text())
	}
	for _, kv := range append(s.Env, s.Dir) {
		if !strings.Contains(text(), kv+"\n") {
			t.Errorf("%.20q is not in its environment, or its directory is another", kv)
		}
	}
	s.Env = []string{"B=2", "A=1", "EMPTY="}
	got := report(t, s)
	if !slices.Equal(got.Env, s.Env) {
		t.Errorf("environment %q, want %q", got.Env, s.Env)
	}
	if got.Dir != s.Dir {
		t.Errorf("directory %s, want %s", got.Dir, s.Dir)
	}
	if len(got.Args) != len(s.Args) || got.Args[1] != "as-worker" {
		t.Errorf("arguments %q", got.Args)
	}
}

func TestDescriptorsAreExact(t *testing.T) {
	// Descriptors that leak if anything leaks: one without CLOEXEC, high ones.
	leak, err := unix.Dup(0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	high, err := unix.FcntlInt(0, unix.F_DUPFD, 200)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)

	dir := t.TempDir()
	s := spec(t, "report")
	for _, name := range []string{"http", "debug", "metrics"} {
		f, err := os.Create(dir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		s.Files = append(s.Files, File{Name: name, FD: int(f.Fd())})
	}
	s.ListenEnv = true
	s.Env = []string{"A=1"}
	got := report(t, s)
	for i, f := range s.Files {
		if got.FDs[3+i] != dir+"/"+f.Name {
			t.Errorf("descriptor %d is %q, want %s", 3+i, got.FDs[3+i], f.Name)
		}
	}
	if got.FDs[0] != os.DevNull {
		t.Errorf("standard input is %q", got.FDs[0])
	}
	if len(got.FDs) != 6 || len(got.CloseOnExec) != 0 {
		t.Errorf("descriptors %v, flagged %v", got.FDs, got.CloseOnExec)
	}
	want := []string{"A=1", "LISTEN_FDS=3", "LISTEN_PID=" + strconv.Itoa(got.PID), "LISTEN_FDNAMES=http:debug:metrics"}
	if got.Pidfd != 0 { // where it names one process, and no other
		want = append(want, "LISTEN_PIDFDID="+strconv.FormatUint(got.Pidfd, 10))
	}
	if !slices.Equal(got.Env, want) {
		t.Errorf("environment %q, want %q", got.Env, want)
	}
}

func TestSameDescriptorTwiceAndInAnyOrder(t *testing.T) {
	// Numbers that collide with the places they are to go to.
	dir := t.TempDir()
	var s Spec
	var fds []int
	for i := range 6 {
		f, err := os.Create(fmt.Sprintf("%s/%d", dir, i))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		fds = append(fds, int(f.Fd()))
	}
	s = spec(t, "report")
	for _, i := range []int{5, 4, 3, 3, 0, 1, 2} {
		s.Files = append(s.Files, File{FD: fds[i]})
	}
	got := report(t, s)
	for place, i := range []int{5, 4, 3, 3, 0, 1, 2} {
		if want := fmt.Sprintf("%s/%d", dir, i); got.FDs[3+place] != want {
			t.Errorf("descriptor %d is %s, want %s", 3+place, got.FDs[3+place], want)
		}
	}
	if slices.ContainsFunc(got.Env, func(kv string) bool { return strings.HasPrefix(kv, "LISTEN_") }) {
		t.Errorf("environment %q", got.Env)
	}
}

func TestOwnGroupLimitsAndSignals(t *testing.T) {
	signal.Ignore(syscall.SIGHUP, syscall.SIGINT) // as nohup does
	defer signal.Reset(syscall.SIGHUP, syscall.SIGINT)
	s := spec(t, "report")
	s.NoFile, s.OOMScoreAdj = 512, 321
	got := report(t, s)
	if got.PGID != got.PID {
		t.Errorf("process group %d of process %d", got.PGID, got.PID)
	}
	if got.SID != got.PID {
		t.Errorf("session %d of process %d", got.SID, got.PID)
	}
	// The runtime of a Go program raises its soft limit to one below the hard.
	if got.NoFile[1] != 512 || got.NoFile[0] < 511 {
		t.Errorf("limits %v", got.NoFile)
	}
	if got.OOM != "321" {
		t.Errorf("oom_score_adj %s", got.OOM)
	}
	// Only the signals that a program can know of: 32 and 33 are the C library's,
	// and whoever started the test may have left them ignored.
	if got.Status["SigBlk"] != "0000000000000000" || !strings.HasSuffix(got.Status["SigIgn"], "00000000") && !strings.HasSuffix(got.Status["SigIgn"], "80000000") {
		t.Errorf("signals blocked %s, ignored %s", got.Status["SigBlk"], got.Status["SigIgn"])
	}
}

// Without a limit of its own a worker has the one the master was given, not
// the one that the Go runtime raised for the master.
func TestLimitIsTheOneTheMasterWasGiven(t *testing.T) {
	given, err := os.ReadFile("/proc/self/limits")
	if err != nil {
		t.Fatal(err)
	}
	sh := Spec{Program: "/bin/sh", Args: []string{"sh", "-c", "ulimit -Sn; ulimit -Hn"}}
	soft := strings.Fields(run(t, sh))
	// A shell between us and the limit: what exec.Cmd gives its child.
	want := shellLimits(t)
	if !slices.Equal(soft, want) {
		t.Errorf("limits %v, want %v\n%s", soft, want, given)
	}
}

func shellLimits(t *testing.T) []string {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	pr, err := os.StartProcess("/bin/sh", []string{"sh", "-c", "ulimit -Sn; ulimit -Hn"}, &os.ProcAttr{Files: []*os.File{nil, w, nil}})
	w.Close()
	if err != nil {
		t.Fatal(err)
	}
	text, _ := io.ReadAll(r)
	pr.Wait()
	return strings.Fields(string(text))
}

func TestAnotherUser(t *testing.T) {
	needRoot(t)
	u, err := user.Lookup("nobody")
	if err != nil {
		t.Skip(err)
	}
	s := Spec{Program: "/bin/sh", User: "nobody", Dir: publicDir(t),
		Args: []string{"sh", "-c", "id -u; id -g; id -G; pwd; cat /proc/self/oom_score_adj; grep CapEff /proc/self/status"}, Env: []string{"PATH=/bin:/usr/bin"}, OOMScoreAdj: 50}
	lines := strings.Split(strings.TrimSpace(run(t, s)), "\n")
	groups, _ := u.GroupIds()
	want := []string{u.Uid, u.Gid, strings.Join(groups, " "), s.Dir, "50", "CapEff:\t0000000000000000"}
	if !slices.Equal(lines, want) {
		t.Errorf("%q, want %q", lines, want)
	}

	s.Group = "0"
	lines = strings.Split(strings.TrimSpace(run(t, s)), "\n")
	if lines[0] != u.Uid || lines[1] != "0" || slices.Contains(strings.Fields(lines[2]), u.Gid) {
		t.Errorf("with another group: %q", lines)
	}

	s.User, s.Group = "12345", "54321" // numbers that nobody has
	lines = strings.Split(strings.TrimSpace(run(t, s)), "\n")
	if !slices.Equal(lines[:3], []string{"12345", "54321", "54321"}) {
		t.Errorf("by number: %q", lines)
	}
}

// What a master that is not root is told: its whole test binary would have to
// run as somebody else, so a shim's step is taken on a thread of its own.
func TestOtherUserWithoutRoot(t *testing.T) {
	needRoot(t)
	said := make(chan string)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		if _, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 65534, 65534, 65534); errno != 0 {
			said <- errno.Error()
			return
		}
		_, _, errno := syscall.RawSyscall(unix.SYS_SETRESUID, 4321, 4321, 4321)
		said <- mayNot(identity{User: "shop", UID: 4321}, errno).Text
	}()
	if text := <-said; !strings.Contains(text, "may not make a worker user shop: run the master as root") {
		t.Error(text)
	}
}

// Every way in which a program cannot be run names itself.
func TestRefusals(t *testing.T) {
	dir := publicDir(t)
	closed := dir + "/closed"
	write(t, closed+"/in/prog", "#!/bin/sh\n", 0o755)
	if err := os.Chmod(closed, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(dir+"/nowhere", dir+"/dangling"); err != nil {
		t.Fatal(err)
	}
	ok := write(t, dir+"/ok", "#!/bin/sh\n", 0o755)
	foreign := "\x7fELF\x02\x01\x01" + strings.Repeat("\x00", 9) + "\x02\x00\x16\x00\x01\x00\x00\x00" + strings.Repeat("\x00", 28) + "\x40\x00\x38\x00\x00\x00\x40\x00\x00\x00\x00\x00"
	for _, c := range []struct {
		name string
		root bool
		spec Spec
		want string
		is   error
	}{
		{"relative program", false, Spec{Program: "bin/shop"}, "must be absolute", nil},
		{"missing program", false, Spec{Program: dir + "/no/shop"}, "there is no " + dir + "/no", fs.ErrNotExist},
		{"dangling link", false, Spec{Program: dir + "/dangling"}, "symbolic link to " + dir + "/nowhere", fs.ErrNotExist},
		{"directory", false, Spec{Program: dir}, "it is a directory", fs.ErrPermission},
		{"device", false, Spec{Program: "/dev/null"}, "not a regular file", fs.ErrPermission},
		{"not executable", false, Spec{Program: write(t, dir+"/plain", "#!/bin/sh\n", 0o644)}, "not executable; chmod +x", fs.ErrPermission},
		{"file as directory on the way", false, Spec{Program: ok + "/shop"}, "not a directory", syscall.ENOTDIR},
		{"missing interpreter", false, Spec{Program: write(t, dir+"/py", "#!/usr/bin/python9 -u\n", 0o755)}, "needs the interpreter /usr/bin/python9, which does not exist", fs.ErrNotExist},
		{"Windows line ends", false, Spec{Program: write(t, dir+"/crlf", "#!/bin/sh\r\n", 0o755)}, "as on Windows", fs.ErrNotExist},
		{"empty", false, Spec{Program: write(t, dir+"/empty", "", 0o755)}, "the file is empty", syscall.ENOEXEC},
		{"text", false, Spec{Program: write(t, dir+"/text", "echo hello\n", 0o755)}, "first line must name its interpreter", syscall.ENOEXEC},
		{"another machine", false, Spec{Program: write(t, dir+"/s390", foreign, 0o755)}, "it is a program for S390", syscall.ENOEXEC},
		{"missing directory", false, Spec{Program: ok, Dir: dir + "/no/where"}, "there is no directory " + dir + "/no;", fs.ErrNotExist},
		{"file as directory", false, Spec{Program: ok, Dir: ok}, "is not a directory", syscall.ENOTDIR},
		{"NUL", false, Spec{Program: ok, Env: []string{"A=\x00"}}, "NUL byte", nil},
		{"too much", false, Spec{Program: ok, Env: []string{"A=" + strings.Repeat("x", 4<<20)}}, "more than the kernel takes", syscall.E2BIG},
		{"unknown user", false, Spec{Program: ok, User: "no-such-user"}, "the worker's user no-such-user cannot be found", nil},
		{"unknown group", false, Spec{Program: ok, Group: "no-such-group"}, "the worker's group no-such-group cannot be found", nil},
		{"closed descriptor", false, Spec{Program: ok, Files: []File{{"http", 9999}}}, `pass "http" (descriptor 9999)`, syscall.EBADF},
		{"bad name", false, Spec{Program: ok, Files: []File{{"a:b", 0}}}, "no colon", nil},
		{"missing shim", false, Spec{Program: ok, Shim: []string{dir + "/no-shim"}}, "its shim " + dir + "/no-shim could not be run", fs.ErrNotExist},
		{"a shim that is none", false, Spec{Program: ok, Shim: []string{"/bin/false"}}, "its shim died before it could run it: exit status 1", nil},
		{"too many files", false, Spec{Program: ok, Limits: Limits{NoFile: 1 << 40}}, "a limit of 1099511627776 open files cannot be set", fs.ErrPermission},
		{"unreachable directory", true, Spec{Program: "/bin/true", User: "nobody", Dir: closed}, "the worker's user nobody cannot enter " + closed + ": permission denied; chmod o+x " + closed, fs.ErrPermission},
		{"beneath an unreachable directory", true, Spec{Program: "/bin/true", User: "nobody", Dir: closed + "/in"}, "cannot enter " + closed + ": permission denied", fs.ErrPermission},
		{"unreachable program", true, Spec{Program: closed + "/in/prog", User: "nobody"}, "cannot enter " + closed + ": permission denied; chmod o+x " + closed, fs.ErrPermission},
		{"somebody else's program", true, Spec{Program: write(t, dir+"/root-only", "#!/bin/sh\n", 0o700), User: "nobody"}, "user nobody may not execute it (mode -rwx------, owner 0:0)", fs.ErrPermission},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.root {
				needRoot(t)
			}
			p, err := Start(c.spec)
			if err == nil {
				p.Signal(syscall.SIGKILL)
				<-p.Done()
				p.Close()
				t.Fatal("it was started")
			}
			t.Log(err)
			for _, want := range []string{"cannot start " + c.spec.Program, c.want} {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q does not say %q", err, want)
				}
			}
			if c.spec.User != "" && !strings.Contains(err.Error(), " as user "+c.spec.User) {
				t.Errorf("%q does not name the user", err)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%q is not %v", err, c.is)
			}
			if started, ok := errors.AsType[*StartError](err); !ok || started.Program != c.spec.Program {
				t.Errorf("%T", err)
			}
		})
	}
	// Nobody is left, waited for or not.
	if _, err := syscall.Wait4(-1, nil, syscall.WNOHANG, nil); err != syscall.ECHILD {
		t.Errorf("children are left: %v", err)
	}
}

func TestNoexec(t *testing.T) {
	needRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("proc-test", dir, "tmpfs", unix.MS_NOEXEC, "size=64k"); err != nil {
		t.Skip(err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	_, err := Start(Spec{Program: write(t, dir+"/prog", "#!/bin/sh\n", 0o755)})
	if err == nil || !strings.Contains(err.Error(), "mounted noexec") {
		t.Error(err)
	}
}

// Something hangs before the program runs: nothing of it stays.
func TestHangs(t *testing.T) {
	dir := t.TempDir()
	s := Spec{Program: "/bin/true", Shim: []string{"/bin/sh", "-c", "echo $$ > " + dir + "/pid; sleep 1000; :"}}
	_, err := start(&s, 200*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "not run within 200ms") {
		t.Error(err)
	}
	text, err := os.ReadFile(dir + "/pid")
	if err != nil {
		t.Skip("the shell was not even that quick")
	}
	if pid, _ := strconv.Atoi(strings.TrimSpace(string(text))); running(pid) {
		t.Errorf("process %d is there", pid)
	}
}

// A program that is still open for writing for a moment, as after a copy while
// somebody else forks, is waited for.
func TestBusyProgram(t *testing.T) {
	self, err := os.ReadFile("/bin/true")
	if err != nil {
		t.Skip(err)
	}
	path := write(t, t.TempDir()+"/busy", string(self), 0o755)
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = Start(Spec{Program: path})
	if !errors.Is(err, syscall.ETXTBSY) || !strings.Contains(err.Error(), "open for writing") {
		t.Error(err)
	}
	timer := time.AfterFunc(20*time.Millisecond, func() { f.Close() })
	defer timer.Stop()
	if e := ended(t, mustStart(t, Spec{Program: path})); e.Code != 0 {
		t.Error(e)
	}
}

func TestHundredAtOnceShareAListener(t *testing.T) {
	const n = 100
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	raw, err := l.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fd := -1
	raw.Control(func(n uintptr) { fd, _ = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) })
	if fd < 0 {
		t.Fatal("no duplicate")
	}
	defer unix.Close(fd)

	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			s := Spec{Program: "/bin/sh", Args: []string{"sh", "-c", "exit " + strconv.Itoa(i)}}
			s.Files, s.ListenEnv = []File{{"http", fd}}, true
			p, err := Start(s)
			if err != nil {
				t.Error(err)
				return
			}
			defer p.Close()
			if e := p.Exit(); e != (Exit{Code: i}) {
				t.Errorf("worker %d: %s", i, e)
			}
		})
	}
	wg.Wait()
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_NONBLOCK == 0 {
		t.Errorf("the shared listener lost O_NONBLOCK: %#x, %v", flags, err)
	}
	// And it is of use to a worker.
	s := spec(t, "accept")
	s.Files = []File{{"http", fd}}
	p := mustStart(t, s)
	c, err := net.Dial("tcp4", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if text, err := io.ReadAll(c); string(text) != "hello" {
		t.Errorf("%q, %v", text, err)
	}
	ended(t, p)
}

func TestNothingLeaks(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(names)
	}
	run(t, spec(t, "exit", "0")) // the poller is there from now on
	before := count()
	for range 10 {
		p, err := Start(Spec{Program: "/bin/true"})
		if err != nil {
			t.Fatal(err)
		}
		p.Exit()
		p.Close()
		if _, err := Start(Spec{Program: "/no/such"}); err == nil {
			t.Fatal("started")
		}
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		p, err := Start(Spec{Program: "/bin/true", Env: os.Environ()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		p.Exit()
		p.Close()
		b.StartTimer()
	}
}

// A worker of a master that was started in a terminal has no terminal: it could put
// input there that root's shell reads.
func TestNoTerminal(t *testing.T) {
	ptmx, err := unix.Open("/dev/ptmx", unix.O_RDWR|unix.O_NOCTTY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Skip(err)
	}
	defer unix.Close(ptmx)
	if err := unix.IoctlSetPointerInt(ptmx, unix.TIOCSPTLCK, 0); err != nil {
		t.Skip(err)
	}
	n, err := unix.IoctlGetInt(ptmx, unix.TIOCGPTN)
	if err != nil {
		t.Skip(err)
	}
	pts, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer pts.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self, "as-worker", "terminal")
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = pts, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	if want := "terminal has a terminal: true\nterminal worker has a terminal: false\n"; out.String() != want {
		t.Errorf("%q, want %q", out.String(), want)
	}
}
