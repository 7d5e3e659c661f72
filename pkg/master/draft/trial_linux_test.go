package draft

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/proc"
)

func TestMain(m *testing.M) {
	proc.ShimMain()
	if len(os.Args) > 2 && os.Args[1] == "as-program" {
		program(os.Args[2], os.Args[3:])
		return
	}
	os.Exit(m.Run())
}

// program is one of those that are started once.
func program(what string, args []string) {
	fmt.Println("it begins as", what)
	answer := func(address string, paths ...string) {
		mux := http.NewServeMux()
		for _, path := range paths {
			mux.HandleFunc("GET "+path, func(http.ResponseWriter, *http.Request) {})
		}
		l, err := net.Listen("tcp", address)
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
		go func() { _ = http.Serve(l, mux) }()
	}
	switch what {
	case "well":
		answer(args[1], "/metrics")
		answer(args[0], "/readyz", "/{$}")
		_ = os.WriteFile("program.pid", []byte(strconv.Itoa(os.Getpid())), 0o600)
	case "every":
		answer(args[0], "/")
	case "named":
		fmt.Printf("INFO worker: serving listener=web address=%s\n", args[0])
		answer(args[0], "/healthz")
	case "ends":
		fmt.Println("no database")
		os.Exit(4)
	case "background", "stubborn":
		cmd := exec.Command(os.Args[0], "as-program", "every", args[0])
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := cmd.Start(); err != nil {
			os.Exit(3)
		}
		for c, err := net.Dial("tcp", args[0]); ; c, err = net.Dial("tcp", args[0]) {
			if err == nil {
				c.Close()
				break
			}
			time.Sleep(10 * time.Millisecond)
		}
		if what == "background" {
			time.Sleep(2 * trialLook)
			os.Exit(0)
		}
		signal.Ignore(syscall.SIGTERM)
	}
	time.Sleep(time.Hour)
}

func free(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// once starts this test as a program.
func once(t *testing.T, what string, args ...string) (*Trial, *Program) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// Where races are looked for a program takes a second to end, if nobody says that it should not.
	p := &Program{Typed: append([]string{self, "as-program", what}, args...), Path: self, Dir: t.TempDir(),
		Env: map[string]string{"GORACE": "atexit_sleep_ms=0"}}
	trial, err := p.Once(t.Context(), nil)
	if errors.Is(err, ErrCalls) {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, at := range args {
		if c, err := net.Dial("tcp", at); err == nil {
			c.Close()
			t.Errorf("%s: somebody is left who listens on %s", what, at)
		}
	}
	return trial, p
}

func TestOnce(t *testing.T) {
	at, side := free(t), free(t)
	trial, p := once(t, "well", at, side)
	main, others := trial.Main()
	if main == nil || main.At.String() != at || main.Answer != (Answer{true, "http", "/readyz", false}) || len(others) != 1 || others[0].At.String() != side {
		t.Errorf("its address is %+v, others are %+v; its output: %q", main, others, trial.Output)
	}
	if want := filepath.Join(p.Dir, "program.pid"); len(trial.Beside) != 1 || trial.Beside[0] != want {
		t.Errorf("it has %v beside that, and not %s", trial.Beside, want)
	}
	if trial.Ended != "" || trial.Background || !strings.Contains(trial.Last(5), "it begins as well") {
		t.Errorf("%+v", trial)
	}
}

func TestOnceOfOthers(t *testing.T) {
	at := free(t)
	if trial, _ := once(t, "every", at); len(trial.Binds) != 1 || trial.Binds[0].Answer != (Answer{true, "http", "/", true}) {
		t.Errorf("one that answers everything: %+v", trial)
	}
	at = free(t)
	if trial, _ := once(t, "named", at); len(trial.Binds) != 1 || trial.Binds[0].Name != "web" {
		t.Errorf("one that is built on the SDK: %+v", trial)
	}
	if trial, _ := once(t, "ends"); trial.Ended != "exit status 4" || trial.Background || !strings.Contains(trial.Last(1), "no database") {
		t.Errorf("one that ends: %+v", trial)
	}
	for try := 1; ; try++ { // on a busy machine it answers before its parent has ended
		trial, _ := once(t, "background", free(t))
		if trial.Background {
			break
		}
		if try == 5 {
			t.Fatalf("one that goes into the background: %+v", trial)
		}
	}
	at = free(t)
	if trial, _ := once(t, "stubborn", at); trial.Ended != "" || len(trial.Binds) != 1 {
		t.Errorf("one that does not end, with a child in a session of its own: %+v", trial)
	}
}

// A port that somebody else has is seen all the same, and nobody else's answer is taken for
// the program's.
func TestOnceWithATakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	other := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
	go func() { _ = other.Serve(l) }()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &Program{Typed: []string{self, "as-program", "every", l.Addr().String()}, Path: self, Dir: t.TempDir()}
	trial, err := p.Once(t.Context(), nil)
	if errors.Is(err, ErrCalls) {
		t.Skip(err)
	}
	other.Close()
	if err != nil || len(trial.Binds) != 1 || trial.Binds[0].Answer.Taken || trial.Ended != "exit status 3" {
		t.Errorf("%+v, %v", trial, err)
	}
}
