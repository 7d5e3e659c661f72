package proc

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

func TestMain(m *testing.M) {
	ShimMain()
	if len(os.Args) > 1 && os.Args[1] == "as-worker" {
		worker(os.Args[2:])
	}
	os.Exit(m.Run())
}

// worker is what the tests start: this binary, being told what to do.
func worker(args []string) {
	switch args[0] {
	case "report": // what it is, as JSON, on standard output
		json.NewEncoder(os.Stdout).Encode(selfie())
	case "terminal": // whether it has one
		tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
		if err == nil {
			tty.Close()
		}
		fmt.Println(strings.Join(args, " "), "has a terminal:", err == nil)
		if len(args) == 1 { // the same of what it starts
			p, err := Start(Spec{Program: os.Args[0], Args: []string{os.Args[0], "as-worker", "terminal", "worker"}, Stdout: 1, Stderr: 2})
			if err != nil {
				panic(err)
			}
			p.Exit()
		}
	case "exit":
		code, _ := strconv.Atoi(args[1])
		os.Exit(code)
	case "wait":
		fmt.Println("here")
		select {}
	case "deaf": // to TERM
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("here")
		select {}
	case "parent": // of one that is deaf to TERM, in the same group
		child := exec.Command(os.Args[0], "as-worker", "deaf")
		child.Stdout = os.Stdout
		if err := child.Start(); err != nil {
			panic(err)
		}
		fmt.Println("child", child.Process.Pid)
		if len(args) > 1 && args[1] == "leaves" {
			os.Exit(0)
		}
		select {}
	case "master": // that starts workers, one for each argument but the first, and lives on
		var all []*Process
		for _, script := range args[1:] {
			p, err := Start(Spec{Program: "/bin/sh", Args: []string{"sh", "-c", script}, Env: []string{"PATH=/bin:/usr/bin", "SHOP_WORKER=" + strconv.Itoa(len(all)+1)}, Stdout: 1, Stderr: 2})
			if err != nil {
				panic(err)
			}
			begun, err := process.Begun(p.PID())
			if err != nil {
				panic(err)
			}
			fmt.Println("started", p.PID(), begun)
			all = append(all, p)
		}
		if os.Getenv("THEN") == "exec" {
			begun, _ := process.Begun(all[0].PID())
			syscall.Exec("/proc/self/exe", []string{os.Args[0], "as-worker", "adopt", strconv.Itoa(all[0].PID()), begun}, nil)
		}
		select {}
	case "adopt": // one worker, and end it
		pid, _ := strconv.Atoi(args[1])
		p, err := Adopt(pid, args[2], 0)
		if err != nil {
			panic(err)
		}
		if err := p.Signal(syscall.SIGTERM); err != nil {
			panic(err)
		}
		fmt.Println("ended with", p.Exit())
	case "shim": // a master that dies before its shim has its order
		pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			panic(err)
		}
		pid, _, _, err := fork(&Spec{}, pair[1])
		if err != nil {
			panic(err)
		}
		unix.Close(pair[1])
		unix.Write(pair[0], []byte(args[1]))
		begun, _ := process.Begun(pid)
		fmt.Println("started", pid, begun)
		select {}
	case "accept": // one connection of descriptor 3
		l, err := net.FileListener(os.NewFile(3, "listener"))
		if err != nil {
			panic(err)
		}
		c, err := l.Accept()
		if err != nil {
			panic(err)
		}
		c.Write([]byte("hello"))
		c.Close()
	}
	os.Exit(0)
}

// picture is what a worker finds itself to be.
type picture struct {
	PID, PGID, PPID int
	SID             int
	UID, GID        int
	Groups          []int
	Dir             string
	Args            []string
	Env             []string
	FDs             map[int]string // number to what it is
	CloseOnExec     []int
	NoFile          [2]uint64
	OOM             string
	Status          map[string]string // of /proc/self/status
	Pidfd           uint64            // inode of its own pidfd, where that names it
}

func sid() int { n, _ := unix.Getsid(0); return n }

func selfie() picture {
	// Before anything in here opens something.
	fds := map[int]string{}
	var flagged []int
	for fd := range 256 {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil {
			continue
		}
		target, _ := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", fd))
		if strings.HasPrefix(target, "anon_inode:[event") || strings.HasPrefix(target, "/sys/fs/cgroup/") {
			continue // the runtime of this program, not what it inherited
		}
		fds[fd] = target
		if flags&unix.FD_CLOEXEC != 0 {
			flagged = append(flagged, fd)
		}
	}
	var limit syscall.Rlimit
	unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, (*unix.Rlimit)(&limit))
	dir, _ := os.Getwd()
	groups, _ := os.Getgroups()
	oom, _ := os.ReadFile("/proc/self/oom_score_adj")
	p := picture{
		PID: os.Getpid(), PGID: syscall.Getpgrp(), PPID: os.Getppid(), SID: sid(), UID: os.Getuid(), GID: os.Getgid(), Groups: groups,
		Dir: dir, Args: os.Args, Env: os.Environ(), FDs: fds, CloseOnExec: flagged,
		NoFile: [2]uint64{limit.Cur, limit.Max}, OOM: strings.TrimSpace(string(oom)), Status: map[string]string{},
	}
	p.Pidfd, _ = ownPidfd()
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		p.Status[key] = strings.TrimSpace(value)
	}
	return p
}

// spec runs this binary as a worker.
func spec(t testing.TB, args ...string) Spec {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return Spec{Program: self, Args: append([]string{self, "as-worker"}, args...)}
}

// output is a file for a worker's standard output and error, with its content.
func output(t testing.TB, s *Spec) func() string {
	t.Helper()
	f, err := os.CreateTemp(t.TempDir(), "out")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	s.Stdout, s.Stderr = int(f.Fd()), int(f.Fd())
	return func() string {
		text, err := os.ReadFile(f.Name())
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
}

func mustStart(t testing.TB, s Spec) *Process {
	t.Helper()
	p, err := Start(s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		p.Signal(syscall.SIGKILL)
		<-p.Done()
		p.Close()
	})
	return p
}

// run starts s to the end and returns what it wrote.
func run(t testing.TB, s Spec) string {
	t.Helper()
	text := output(t, &s)
	p := mustStart(t, s)
	if e := ended(t, p); e.Code != 0 {
		t.Fatalf("%s: %s", e, text())
	}
	return text()
}

func ended(t testing.TB, p *Process) Exit {
	t.Helper()
	select {
	case <-p.Done():
		return p.Exit()
	case <-time.After(20 * time.Second):
		t.Fatal("the process does not end")
		return Exit{}
	}
}

// eventually waits for a fact.
func eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !fact(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func needRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
}

// publicDir is a directory that every user can reach, which t.TempDir is not.
func publicDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "proc")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t testing.TB, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(path, mode); err != nil {
		t.Fatal(err)
	}
	return path
}
