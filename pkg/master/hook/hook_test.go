package hook

import (
	"context"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func sh(script string) []string { return []string{"/bin/sh", "-c", script} }

func TestFactsAreInTheEnvironmentAndNothingElse(t *testing.T) {
	t.Setenv("MASTERD_TEST_SECRET", "hunter2")
	out, err := Run(t.Context(), sh("env"), Facts{Environ: []string{"PATH=/bin:/usr/bin"}, Hook: "after", Service: "shop", Generation: 7, Reason: "two words"})
	if err != nil {
		t.Fatal(err)
	}
	got := string(out)
	for _, want := range []string{"MASTERD_HOOK=after\n", "MASTERD_SERVICE=shop\n", "MASTERD_GENERATION=7\n", "MASTERD_REASON=two words\n", "PATH=/bin:/usr/bin\n"} {
		if !strings.Contains(got, want) {
			t.Errorf("no %q in\n%s", want, got)
		}
	}
	for _, no := range []string{"hunter2", "MASTERD_ROLLOUT", "MASTERD_STAGE"} {
		if strings.Contains(got, no) {
			t.Errorf("%q in\n%s", no, got)
		}
	}
}

// Reasons are people's and workers' words: none keeps a hook from being run.
func TestNoReasonStopsAHook(t *testing.T) {
	out, err := Run(t.Context(), []string{"/bin/sh", "-c", "echo $MASTERD_REASON"}, Facts{Reason: "be\x00fore\x00"})
	if err != nil || strings.TrimSpace(string(out)) != "before" {
		t.Errorf("%q, %v", out, err)
	}
}

func TestAFailureSaysItsLastLine(t *testing.T) {
	out, err := Run(t.Context(), sh("echo first; echo the tests are red >&2; exit 3"), Facts{})
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "the tests are red") {
		t.Errorf("%v", err)
	}
	if !strings.HasPrefix(string(out), "first\n") {
		t.Errorf("output %q", out)
	}
}

func TestOutputIsBounded(t *testing.T) {
	out, err := Run(t.Context(), sh("yes | head -c 1000000"), Facts{Environ: []string{"PATH=" + os.Getenv("PATH")}})
	if err != nil || len(out) != maxOutput {
		t.Errorf("%d bytes, %v", len(out), err)
	}
}

// A hook that takes too long is killed with everything it started.
func TestTheWholeGroupIsKilled(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		_, err := Run(ctx, sh("sleep 1000 & echo $! > "+file+".new; mv "+file+".new "+file+"; wait"), Facts{Environ: []string{"PATH=" + os.Getenv("PATH")}})
		ended <- err
	}()
	var pid int
	for pid == 0 {
		b, _ := os.ReadFile(file)
		pid, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("%v", err)
	}
	for syscall.Kill(pid, 0) == nil { // until whoever adopted it has reaped it
		b, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if strings.Contains(string(b), ") Z ") {
			return
		}
		time.Sleep(time.Millisecond)
	}
}

func TestAProgramThatIsNotThere(t *testing.T) {
	if _, err := Run(t.Context(), []string{"/nonexistent/hook"}, Facts{}); err == nil || !strings.Contains(err.Error(), "/nonexistent/hook") {
		t.Errorf("%v", err)
	}
}

// A hook has a session of its own, and with that no terminal.
func TestASessionOfItsOwn(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("it is read from /proc")
	}
	out, err := Run(t.Context(), []string{"/bin/sh", "-c", `read -r a b c d e session rest </proc/$$/stat; echo $session $$`}, Facts{})
	ids := strings.Fields(string(out))
	if err != nil || len(ids) != 2 || ids[0] != ids[1] {
		t.Errorf("session and process: %q, %v", out, err)
	}
}
