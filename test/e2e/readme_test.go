package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// readmeBlocks are the blocks of the README's first service, as they are printed.
func readmeBlocks(t *testing.T) (blocks []string) {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(text), "\n## Your service in five minutes\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, m := range regexp.MustCompile("(?s)```(sh|go|yaml)\n(.*?)```").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, m[2])
	}
	if len(blocks) != 5 {
		t.Fatalf("%d blocks, want: prepare, main.go, masterd.yaml, run, what is typed then", len(blocks))
	}
	return blocks
}

// The README's service runs as it is printed, in an empty directory, with Go and the clone and
// nothing else; only its port is another.
func TestReadmeService(t *testing.T) {
	t.Parallel()
	for _, tool := range []string{"go", "curl", "sh"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Skip(err)
		}
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	home, at := t.TempDir(), freePort(t)
	if err := os.Symlink(root, filepath.Join(home, "masterd")); err != nil {
		t.Fatal(err)
	}
	cache, err := exec.CommandContext(t.Context(), "go", "env", "GOCACHE", "GOMODCACHE").Output()
	if err != nil {
		t.Fatal(err)
	}
	caches := strings.Fields(string(cache))
	blocks := readmeBlocks(t)
	for i := range blocks {
		blocks[i] = strings.ReplaceAll(blocks[i], "127.0.0.1:8080", at)
	}
	// As make build does, so that what that has compiled is there: else all of masterd is compiled
	// for the directory that this test has made.
	environ := append(os.Environ(), "HOME="+home, "GOCACHE="+caches[0], "GOMODCACHE="+caches[1],
		"GOFLAGS=-buildvcs=false -trimpath", "CGO_ENABLED=0", "GOPROXY=off",
		"GOSUMDB=off", "GOWORK=", "MASTERD_RUNTIME_DIR="+filepath.Join(home, "run"), "MASTERD_STATE_DIR="+filepath.Join(home, "state"))
	shell := func(dir, script string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), "sh", "-ec", script)
		cmd.Dir, cmd.Env = dir, environ
		return cmd
	}
	if out, err := shell(home, blocks[0]).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s\n%s", err, blocks[0], out)
	}
	shop := filepath.Join(home, "shop")
	for name, text := range map[string]string{"main.go": blocks[1], "masterd.yaml": blocks[2]} {
		if err := os.WriteFile(filepath.Join(shop, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if out, err := shell(shop, "go mod tidy").CombinedOutput(); err != nil && strings.Contains(string(out), "GOPROXY=off") {
		t.Skipf("what the SDK needs is not in the module cache, and a test asks no proxy: %s", out)
	}
	const run = "\nmasterd run"
	build, flags, ok := strings.Cut(blocks[3], run)
	if !ok {
		t.Fatalf("nothing is run by\n%s", blocks[3])
	}
	// A compiler beside other tests takes as long as it takes: only what it has made is waited for.
	built, err := shell(shop, "PATH=$HOME/bin:$PATH\n"+build).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, build, built)
	}
	if !strings.Contains(string(built), "masterd.yaml is good") {
		t.Errorf("check did not say that it is good:\n%s", built)
	}
	master := shell(shop, "PATH=$HOME/bin:$PATH"+run+flags)
	var said strings.Builder
	master.Stdout, master.Stderr = &said, &said
	master.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	master.Cancel = func() error { return nil } // it is asked to end below
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = master.Wait(); close(ended) }()
	stop := func() {
		_ = syscall.Kill(-master.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = syscall.Kill(-master.Process.Pid, syscall.SIGKILL)
			<-ended
		}
	}
	defer stop()
	eventually(t, "the service to serve", func() bool {
		select {
		case <-ended:
			t.Fatalf("it has ended:\n%s", said.String())
		default:
		}
		code, _, err := ask(at, "/", time.Second)
		return err == nil && code == 200
	})
	ctx, cancel := context.WithTimeout(t.Context(), 2*patience)
	defer cancel()
	typed := exec.CommandContext(ctx, "sh", "-ec", blocks[4])
	typed.Dir, typed.Env = shop, environ
	out, err := typed.Output()
	if err != nil {
		t.Errorf("%v\n%s\n%s", err, blocks[4], out)
	}
	var answers []string
	for line := range strings.Lines(string(out)) {
		if line = strings.TrimSpace(line); line == "hello" || line == "welcome" {
			answers = append(answers, line)
		}
	}
	if fmt.Sprint(answers) != "[hello welcome hello]" {
		t.Errorf("it answered %v:\n%s", answers, out)
	}
	stop()
}
