package process

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Processes that come and go meanwhile are no trouble.
func TestFindWorkersWhileOthersVanish(t *testing.T) {
	stop := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
				exec.Command("/bin/true").Run()
			}
		}
	}()
	for range 20 {
		Find("/", func(env []string) bool { return false })
	}
	close(stop)
	<-done
}

// Who is being given another program at that moment has no environment to be read,
// and is found all the same.
func TestFindWhoExecutes(t *testing.T) {
	const mark = "FIND_EXECUTES=1"
	script := filepath.Join(t.TempDir(), "again")
	if err := os.WriteFile(script, []byte("exec /bin/sh $0\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/bin/sh", script)
	cmd.Env = []string{mark}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	marked := func(env []string) bool { return slices.Contains(env, mark) }
	for unseen := 0; unseen < 20; {
		if Environ(cmd.Process.Pid) == nil {
			unseen++
		}
		var environs Environs
		if env := environs.Of(cmd.Process.Pid); !marked(env) {
			t.Fatalf("its environment is %q, after %s", env, environs.waited)
		}
	}
	if found := Find("/", marked); len(found) != 1 || found[0].PID != cmd.Process.Pid {
		t.Errorf("found %+v, want process %d", found, cmd.Process.Pid)
	}
}

// Who has no environment is not waited for.
func TestNoEnviron(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "1000")
	cmd.Env = []string{}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cmd.Process.Kill(); cmd.Wait() }()
	for {
		if s, err := StatusOf(cmd.Process.Pid); err != nil {
			t.Fatal(err)
		} else if s.NoEnviron {
			break
		}
	}
	for _, pid := range []int{cmd.Process.Pid, 2} { // and a thread of the kernel's
		var environs Environs
		if env := environs.Of(pid); len(env) > 0 || environs.waited > 0 {
			t.Errorf("process %d: %q, after %s", pid, env, environs.waited)
		}
	}
}

func FuzzParseStatus(f *testing.F) {
	text, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(string(text))
	f.Add("1 (a) b) c) S 0 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1")
	f.Add(")")
	f.Fuzz(func(t *testing.T, text string) {
		if s, ok := parseStatus(text); ok && (s.Begun == "" || strings.ContainsAny(s.Begun, " \t\n")) {
			t.Errorf("%+v", s)
		}
	})
}

func TestParseStatus(t *testing.T) {
	s, ok := parseStatus("17 (a) b) c) Z 3 17 5 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4711 1")
	if want := (Status{State: 'Z', Parent: 3, Group: 17, Session: 5, Begun: "4711", NoEnviron: true}); !ok || s != want {
		t.Errorf("%+v, %v", s, ok)
	}
}

// Who may open no more files does not take everybody for gone.
func TestOutOfDescriptors(t *testing.T) {
	var was unix.Rlimit
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, nil, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &unix.Rlimit{Max: was.Max}, nil); err != nil {
		t.Fatal(err)
	}
	_, err := StatusOf(os.Getpid())
	ended := Ended(os.Getpid())
	if err := unix.Prlimit(0, unix.RLIMIT_NOFILE, &was, nil); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, unix.EMFILE) || errors.Is(err, ErrGone) || ended {
		t.Errorf("%v, ended: %t", err, ended)
	}
	if _, err := StatusOf(1 << 30); !errors.Is(err, ErrGone) || !Ended(1<<30) {
		t.Errorf("of nobody: %v", err)
	}
}

// A process is called what it likes.
func TestStatusOfAHostileName(t *testing.T) {
	was, err := StatusOf(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const comm = "/proc/self/comm"
	name, err := os.ReadFile(comm)
	if err != nil {
		t.Fatal(err)
	}
	defer os.WriteFile(comm, name, 0)
	for _, hostile := range []string{"a) Z 1 1 (", "\n", ") Z\n1 (x) Z 1", ""} {
		if err := os.WriteFile(comm, []byte(hostile), 0); err != nil {
			t.Fatal(err)
		}
		is, err := StatusOf(os.Getpid())
		if is.State, is.Wait = was.State, was.Wait; err != nil || is != was {
			t.Errorf("as %q: %+v, %v; want %+v", hostile, is, err, was)
		}
	}
}
