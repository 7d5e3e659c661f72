package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/takeover"
)

// fakeDaemon notes what it is told, and ends when it is told to.
type fakeDaemon struct {
	told chan string
	code int
}

func (d *fakeDaemon) Run(ctx context.Context) int        { <-ctx.Done(); return d.code }
func (d *fakeDaemon) Hup()                               { d.told <- "hup" }
func (d *fakeDaemon) Usr2()                              { d.told <- "usr2" }
func (d *fakeDaemon) ReopenLogs()                        { d.told <- "reopen" }
func (d *fakeDaemon) Successor() (string, takeover.Self) { panic("nobody takes over") }
func (d *fakeDaemon) Quit()                              { d.told <- "quit" }
func (d *fakeDaemon) Terminate()                         { d.told <- "terminate" }

func TestDaemonGetsItsSignals(t *testing.T) {
	c := newCLI(t)
	file := c.file(filepath.Join(c.dir, "shop.yaml"), "shop")
	d := &fakeDaemon{told: make(chan string, 16)}
	var opt daemonOptions
	// One that comes while the master is being made waits for it.
	c.start = func(o daemonOptions) (daemon, error) {
		opt = o
		return d, syscall.Kill(os.Getpid(), syscall.SIGHUP)
	}
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(t.Context())
	defer cancel()
	done := make(chan int, 1)
	go func() { code, _, _ := c.run("--config", file); done <- code }()
	if got := <-d.told; got != "hup" {
		t.Errorf("was told %s", got)
	}
	for _, s := range []struct {
		sig  syscall.Signal
		want string
	}{
		{syscall.SIGPIPE, ""}, {syscall.SIGUSR1, "reopen"}, {syscall.SIGUSR2, "usr2"}, {syscall.SIGQUIT, "quit"},
		{syscall.SIGTERM, "terminate"}, {syscall.SIGINT, "terminate"}, {syscall.SIGHUP, "hup"},
	} {
		if err := syscall.Kill(os.Getpid(), s.sig); err != nil {
			t.Fatal(err)
		}
		if s.want == "" {
			continue
		}
		if got := <-d.told; got != s.want {
			t.Errorf("%v told it %s", s.sig, got)
		}
	}
	cancel()
	if code := <-done; code != 0 {
		t.Errorf("exit %d", code)
	}
	if opt.File != file || opt.Strict || opt.Version == "" {
		t.Errorf("started with %+v", opt)
	}
}

func TestDaemonsExit(t *testing.T) {
	c := newCLI(t)
	file := c.file(filepath.Join(c.dir, "shop.yaml"), "shop")
	var cancel context.CancelFunc
	c.ctx, cancel = context.WithCancel(t.Context())
	cancel()
	c.start = func(o daemonOptions) (daemon, error) {
		if !o.Strict {
			t.Error("--strict was lost")
		}
		return &fakeDaemon{code: 1}, nil
	}
	c.want(1, "", "", "run", "--strict", "--config", file)
	c.want(1, "", "", "--strict", "--config", file)
	c.start = func(daemonOptions) (daemon, error) {
		return nil, errors.New("listener http: tcp://127.0.0.1:8080 is taken by nginx (pid 12)")
	}
	c.want(2, "", "masterd: listener http: tcp://127.0.0.1:8080 is taken by nginx (pid 12)\n", "run", "--config", file)
}

func TestServiceManager(t *testing.T) {
	dir, err := os.MkdirTemp("", "sdn")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	path := filepath.Join(dir, "notify")
	l, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "20000000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	m := newManager(os.Getenv)
	if m.watchdog != 20*time.Second {
		t.Errorf("the watchdog's time is %v", m.watchdog)
	}
	for _, state := range []string{"READY=1", "STATUS=serving v1"} {
		m.notify(state)
		b := make([]byte, 100)
		n, err := l.Read(b)
		if err != nil || string(b[:n]) != state {
			t.Errorf("the manager was told %q, %v", b[:n], err)
		}
		for _, kv := range os.Environ() {
			if strings.HasPrefix(kv, "NOTIFY_SOCKET=") || strings.HasPrefix(kv, "WATCHDOG_") {
				t.Errorf("%s would be inherited", kv)
			}
		}
	}
	if m := newManager(os.Getenv); m.notify != nil || m.watchdog != 0 {
		t.Errorf("without a manager there is %+v", m)
	}
}

func TestCheck(t *testing.T) {
	c := newCLI(t)
	file := c.file(filepath.Join(c.dir, "shop.yaml"), "shop")
	for _, args := range [][]string{{"check"}, {"-t"}} {
		code, out, errs := c.run(append(args, "--config", file)...)
		if code != 0 || !strings.Contains(out, "service: shop") || !strings.HasPrefix(errs, "masterd: "+file+" is good\n") {
			t.Errorf("exit %d: %s%s", code, out, errs)
		}
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	changed := strings.Replace(string(text), "{command:", "{directory: /nonexistent, env: {A: \"${B}\"}, command:", 1)
	if err := os.WriteFile(file, []byte(changed), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errs := c.run("check", "--config", file)
	if code != 2 || !strings.Contains(out, "service: shop") || !strings.HasPrefix(errs, "masterd: "+file+": shop would not start: one thing is wrong\n"+
		"masterd: worker.directory: /nonexistent: ") || !strings.Contains(errs, "masterd: warning: worker.env.A: ${B} is not expanded") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
	if err := os.WriteFile(file, []byte("service: shop\nworkr: {}\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	code, out, errs = c.run("check", "--config", file)
	if code != 2 || out != "" || !strings.Contains(errs, file+":2: workr: ") {
		t.Errorf("exit %d: %s%s", code, out, errs)
	}
}
