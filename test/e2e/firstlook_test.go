package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A first look needs no file: the program serves, other verbs find it by the name that is
// printed, another masterd takes over, and nothing is left when it has stopped.
func TestFirstLook(t *testing.T) {
	t.Parallel()
	home, err := os.MkdirTemp("", "look") // t.TempDir's paths are too long for sockets
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(home) })
	at := freePort(t)
	environ := append(os.Environ(), "HOME="+home, "TMPDIR="+home, "XDG_RUNTIME_DIR=", "XDG_STATE_HOME=", "MASTERD_CONFIG=")
	name := "look-" + strings.ToLower(filepath.Base(home)) // root's services are all in one directory
	program := filepath.Join(home, name)
	if err := os.Symlink(programs.Plain, program); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 4*patience)
	defer cancel()
	verb := func(args ...string) (string, error) {
		cmd := exec.CommandContext(ctx, programs.Masterd, args...)
		cmd.Env, cmd.Dir = environ, home
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	master := exec.CommandContext(ctx, programs.Masterd, "run", "--", "./"+name, at)
	var said bytes.Buffer
	master.Env, master.Dir, master.Stdout, master.Stderr = environ, home, &said, &said
	if err := master.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- master.Wait() }()
	defer func() { _ = master.Process.Kill() }()
	eventually(t, "the program to serve", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("it has ended: %v\n%s", err, said.String())
		default:
		}
		code, _, err := ask(at, "/", time.Second)
		return err == nil && code == 200
	})
	looks, err := filepath.Glob(filepath.Join(home, "masterd-look-*"))
	if err != nil || len(looks) != 1 {
		t.Fatalf("%v, %v", looks, err)
	}
	for _, args := range [][]string{{"reload", "--service", name}, {"status", "--service", name}, {"upgrade", "--service", name}, {"rollback", "--service", name}} {
		if out, err := verb(args...); err != nil {
			t.Fatalf("masterd %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	if err := master.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err != nil {
			t.Errorf("%v\n%s", err, said.String())
		}
	case <-time.After(2 * patience):
		t.Fatal("it does not stop")
	}
	if left, _ := filepath.Glob(filepath.Join(home, "masterd-look-*")); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
	for _, want := range []string{"service " + name + " on http://" + at, "masterd reload --service " + name, "masterd init -- ./" + name + " " + at} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it did not say %q:\n%s", want, said.String())
		}
	}
	// One that cannot be started leaves nothing either.
	if out, err := verb("run", "--", "./missing"); err == nil || !strings.Contains(out, "build the program first") {
		t.Errorf("%v\n%s", err, out)
	}
	if left, _ := filepath.Glob(filepath.Join(home, "masterd-look-*")); len(left) > 0 {
		t.Errorf("left is %v", left)
	}
}
