package main

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/admin/admintest"
)

// outside runs this test program as masterd, as another user if cred is set.
// The program may lie where that user cannot go: /proc/self/exe leads there.
func (c *cli) outside(cred *syscall.Credential, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, "/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asMasterd+"="+c.dir, "TMPDIR="+c.dir, "MASTERD_CONFIG=")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: cred}
	cmd.Dir = "/"
	return cmd
}

func finish(t *testing.T, cmd *exec.Cmd) (code int, out, errs string) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if e := (*exec.ExitError)(nil); !errors.As(err, &e) {
			t.Fatal(err)
		}
	}
	return cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()
}

func TestOtherUsers(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be others")
	}
	if _, err := os.Stat("/proc/self/exe"); err != nil {
		t.Skip("needs /proc")
	}
	c := newCLI(t)
	b := named("shop", "")
	c.service("shop", b, func(o *admin.Options) { o.ReadersGroup, o.OperatorsGroup, o.MasterUID = "54001", "54002", 54900 })
	const (
		changeRefused = "masterd: uid 54100 may not change the service shop; that is for root, masterd's own user (uid 54900) and members of the group \"54002\".\n"
		lookRefused   = "masterd: uid 54100 may not look at the service shop; that is for root, masterd's own user (uid 54900), members of the group \"54002\" and members of the group \"54001\".\n"
	)
	for _, u := range []struct {
		who            string
		cred           syscall.Credential
		status, reload int
		look, change   string
	}{
		{"an operator by a second group", syscall.Credential{Uid: 54100, Gid: 54100, Groups: []uint32{54003, 54002}}, 0, 0, "", ""},
		{"the master's own user", syscall.Credential{Uid: 54900, Gid: 54900}, 0, 0, "", ""},
		{"a reader by a second group", syscall.Credential{Uid: 54100, Gid: 54100, Groups: []uint32{54001}}, 0, 1, "", changeRefused},
		{"a stranger", syscall.Credential{Uid: 54100, Gid: 54100}, 4, 1, lookRefused, changeRefused},
	} {
		code, _, errs := finish(t, c.outside(&u.cred, "status"))
		if code != u.status || errs != u.look {
			t.Errorf("%s asks for the status: exit %d, want %d\n%s", u.who, code, u.status, errs)
		}
		code, _, errs = finish(t, c.outside(&u.cred, "reload"))
		if code != u.reload || errs != u.change {
			t.Errorf("%s reloads: exit %d, want %d\n%s", u.who, code, u.reload, errs)
		}
	}
	for _, call := range b.Calls() {
		if call.By != "uid 54100" && call.By != "uid 54900" {
			t.Errorf("the master was told %+v", call)
		}
	}
}

func TestClosedToAll(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root, to be another")
	}
	c := newCLI(t)
	c.service("shop", named("shop", "")) // 0600: the kernel refuses
	stranger := &syscall.Credential{Uid: 54100, Gid: 54100}
	want := "masterd: the system does not let you talk to the master behind " + filepath.Join(c.dir, "shop", adminSocket) +
		": dial unix " + filepath.Join(c.dir, "shop", adminSocket) + ": connect: permission denied; root, masterd's own user and members of admin.operators_group and admin.readers_group may\n"
	if code, _, errs := finish(t, c.outside(stranger, "reload")); code != 1 || errs != want {
		t.Errorf("exit %d: %s\nwant: %s", code, errs, want)
	}
	if code, _, errs := finish(t, c.outside(stranger, "status")); code != 4 || errs != want {
		t.Errorf("exit %d: %s", code, errs)
	}
}

func TestSudo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	c := newCLI(t)
	b := &admintest.Backend{}
	c.service("shop", b)
	cmd := c.outside(nil, "reload")
	cmd.Env = append(cmd.Env, "SUDO_USER=alice")
	if code, _, errs := finish(t, cmd); code != 0 {
		t.Fatalf("exit %d: %s", code, errs)
	}
	if calls := b.Calls(); len(calls) != 1 || calls[0].By != "root for alice" {
		t.Errorf("the master was told %+v", calls)
	}
}

func TestBrokenPipeIsQuiet(t *testing.T) {
	c := newCLI(t)
	var long []api.LogLine
	for range 20_000 {
		long = append(long, api.LogLine{Worker: 1, Text: strings.Repeat("x", 100)})
	}
	b := named("shop", "")
	b.Lines = long
	c.service("shop", b)
	cmd := c.outside(nil, "logs", "-n", "20000")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(out, make([]byte, 100)); err != nil {
		t.Error(err)
	}
	out.Close()
	err = cmd.Wait()
	if stderr.Len() > 0 {
		t.Errorf("it said: %s", stderr.String())
	}
	if st, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !st.Signaled() || st.Signal() != syscall.SIGPIPE {
		t.Errorf("it ended with %v, want a broken pipe's signal, as any tool", err)
	}
}
