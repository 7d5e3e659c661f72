package probe

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
)

// TestMain lets the test binary stand for the commands that are run.
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "command" {
		command(os.Args[2], os.Args[3:])
		return
	}
	os.Exit(m.Run())
}

// command is what a check's command does.
func command(what string, args []string) {
	switch what {
	case "pass":
	case "fail":
		fmt.Println("looking")
		fmt.Fprintln(os.Stderr, "the queue is\tlong")
		os.Exit(3)
	case "flood":
		for range 10_000 {
			fmt.Println(strings.Repeat("x", 1000))
		}
		fmt.Println("last")
		os.Exit(1)
	case "environment":
		fmt.Println(strings.Join(os.Environ(), ","))
		os.Exit(1)
	case "hang": // leaves its number in a file, and ignores what can be ignored
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
		note(args[0])
		select {}
	case "parent": // starts one that hangs and ends, or waits, itself
		child := exec.Command(os.Args[0], "command", "hang", args[0])
		child.Stdout, child.Stderr = os.Stdout, os.Stderr
		if err := child.Start(); err != nil {
			panic(err)
		}
		for {
			if _, err := os.Stat(args[0]); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		if args[1] == "wait" {
			_ = child.Wait()
		}
	}
}

func note(path string) {
	if err := os.WriteFile(path+".tmp", []byte(strconv.Itoa(os.Getpid())), 0o600); err != nil {
		panic(err)
	}
	if err := os.Rename(path+".tmp", path); err != nil {
		panic(err)
	}
}

func run(t *testing.T, ctx context.Context, args ...string) error {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	c := New(config.Health{Command: append([]string{self, "command"}, args...)})
	err = c.Check(ctx, Worker{ID: 7, Generation: 3, PID: 4711, Version: "v1"}, nil)
	if err != nil {
		return fmt.Errorf("%s", strings.Replace(err.Error(), self, "SELF", 1))
	}
	return nil
}

func TestCommand(t *testing.T) {
	for what, want := range map[string]string{
		"pass":        "<nil>",
		"fail":        "command SELF: exit status 3: the queue is long",
		"flood":       "command SELF: exit status 1: last",
		"environment": "command SELF: exit status 1: PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin,MASTERD_WORKER_ID=7,MASTERD_WORKER_GENERATION=3,MASTERD_WORKER_PID=4711,MASTERD_WORKER_VERSION=v1",
	} {
		if got := fmt.Sprint(run(t, within(t, enough), what)); got != want {
			t.Errorf("%s: %s", what, got)
		}
	}
	c := New(config.Health{Command: []string{"/nowhere/check"}})
	if err := c.Check(within(t, enough), Worker{}, nil); err == nil || !strings.Contains(err.Error(), "no such file") {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := run(t, ctx, "pass"); err == nil || !strings.Contains(err.Error(), "not started") {
		t.Error(err)
	}
}

// gone waits until a process is no more: killed ones that were orphaned are
// reaped by init when it gets to it.
func gone(t *testing.T, file string) {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pid, err := strconv.Atoi(string(data))
	if err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(enough)
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("process %d lives: %s", pid, stat)
		}
		time.Sleep(time.Millisecond)
	}
}

// Whoever hangs is killed with all that it started, when its time is over or
// when it is called off.
func TestCommandHangs(t *testing.T) {
	for _, args := range [][]string{{"hang"}, {"parent", "wait"}} {
		file := t.TempDir() + "/pid"
		ctx, cancel := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- run(t, ctx, append([]string{args[0], file}, args[1:]...)...) }()
		for {
			if _, err := os.Stat(file); err == nil {
				break
			}
			time.Sleep(time.Millisecond)
		}
		cancel()
		if err := <-ended; err == nil || err.Error() != "command SELF: the check was called off" {
			t.Error(err)
		}
		gone(t, file)
	}
	if err := run(t, within(t, 100*time.Millisecond), "hang", t.TempDir()+"/pid"); err == nil || !strings.Contains(err.Error(), "killed") {
		t.Error(err)
	}
}

// A command that passes and leaves somebody behind passes; the one left is killed.
func TestCommandLeavesSomebody(t *testing.T) {
	file := t.TempDir() + "/pid"
	if err := run(t, within(t, enough), "parent", file, "leave"); err != nil {
		t.Error(err)
	}
	gone(t, file)
}

// A check has a session of its own, and with that no terminal.
func TestCommandHasASessionOfItsOwn(t *testing.T) {
	c := New(config.Health{Command: []string{"/bin/sh", "-c", `read -r a b c d e session rest </proc/$$/stat; test "$session" = $$`}})
	if err := c.Check(t.Context(), Worker{}, nil); err != nil {
		t.Error(err)
	}
}
