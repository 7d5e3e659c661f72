package e2e

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

const nobody = 65534

// asNobody has workers run as nobody a program in a directory of nobody's.
func asNobody(t *testing.T, mode os.FileMode) (s *service.Service, program string) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root, to have workers of another user")
	}
	s = newService(t)
	if err := os.MkdirAll(filepath.Join(s.Dir, "bin/now"), 0o755); err != nil {
		t.Fatal(err)
	}
	program = copied(t, s, "bin/now/shop-server")
	give(t, program, nobody)
	if err := os.Chmod(program, mode); err != nil {
		t.Fatal(err)
	}
	s.Config.Set("worker.user", "nobody").Set("worker.command", []string{program}).
		Set("restart.initial", "10ms").Set("restart.max", "10ms").Set("restart.loop", 100)
	return s, program
}

// give makes a program and the two directories above it a user's.
func give(t *testing.T, program string, uid int) {
	t.Helper()
	for _, path := range []string{program, filepath.Dir(program), filepath.Dir(filepath.Dir(program))} {
		if err := os.Chown(path, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
}

// executed is the digest of what a process executes.
func executed(t *testing.T, pid int) string {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		t.Fatal(err)
	}
	return fmt.Sprintf("sha256:%x", sha256.Sum256(b))
}

// The worker's user exchanges the program again and again, and what runs is what status says.
func TestTheProgramIsExchangedBeforeItIsExecuted(t *testing.T) {
	t.Parallel()
	s, program := asNobody(t, 0o755)
	now := filepath.Dir(program)
	other := filepath.Join(filepath.Dir(now), "other") // exchanged whole: no file in it shows a change
	if err := os.Mkdir(other, 0o755); err != nil {
		t.Fatal(err)
	}
	variant(t, s, filepath.Join(other, filepath.Base(program)), "evil")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	var swapper sync.WaitGroup
	swapper.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-end:
				return
			case <-time.After(time.Duration(i%7) * time.Millisecond):
			}
			if err := unix.Renameat2(unix.AT_FDCWD, now, unix.AT_FDCWD, other, unix.RENAME_EXCHANGE); err != nil {
				t.Error(err)
				return
			}
		}
	})
	defer func() { close(end); swapper.Wait() }()
	var seen []string
	for range times(60, 12) {
		pid, err := s.Worker(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		st := status(t, s)
		if got := executed(t, pid); got != st.Active.Version.Digest {
			seen = append(seen, got)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wait(t, s, "another worker", func(st api.Status) bool {
			all := team(st)
			return len(all) == 1 && all[0].PID != pid && all[0].PID > 0
		})
	}
	if len(seen) > 0 {
		t.Errorf("%d times another program ran than status says: %v", len(seen), seen)
	}
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); string(comm) != "shop-server\n" {
		t.Errorf("ps shows %q", comm)
	}
}

// The copy of a program that not everybody may read is not for everybody, and its
// worker is taken over by a next master as any other.
func TestACopyIsAsTightAsItsOriginal(t *testing.T) {
	t.Parallel()
	s, _ := asNobody(t, 0o700)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	v := status(t, s).Active.Version
	list, err := s.API.Versions(t.Context())
	if err != nil || len(list) != 1 || list[0].ID != v.ID {
		t.Fatalf("%+v, %v", list, err)
	}
	reads := func(uid uint32) error {
		cmd := exec.CommandContext(t.Context(), "/bin/cat", list[0].Pinned)
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		return cmd.Run()
	}
	if reads(54321) == nil {
		t.Errorf("a stranger reads %s, a copy of a program of mode 0700", list[0].Pinned)
	}
	if err := reads(nobody); err != nil {
		t.Errorf("its user cannot read it: %v", err)
	}
	if info, err := os.Stat(filepath.Dir(list[0].Pinned)); err != nil || info.Mode().Perm() != 0o710 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	// One that nobody can read but its user (dumpable) belongs to that user.
	if info, err := os.Stat(fmt.Sprintf("/proc/%d/environ", pid)); err != nil || info.Sys().(*syscall.Stat_t).Uid != nobody {
		t.Errorf("it cannot open itself: %+v, %v", info, err)
	}
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "the worker of before", func(st api.Status) bool { all := team(st); return len(all) == 1 && all[0].PID == pid })
	if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone {
		t.Errorf("%+v", out)
	}
	baked(t, s)
	back(t, s, v.ID)
}

// A program that its worker may execute and not read is started and taken over.
func TestAnUnreadableProgramIsTakenOver(t *testing.T) {
	t.Parallel()
	s, program := asNobody(t, 0o711)
	give(t, program, 0)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if at, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid)); err != nil || at != program {
		t.Errorf("%s, %v", at, err)
	}
	s.Kill()
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wait(t, s, "the worker of before", func(st api.Status) bool { all := team(st); return len(all) == 1 && all[0].PID == pid })
	next(t, s, 2, "serving")
}

// An operator who is not root has no other program run as root than one that was
// put where the configuration allows it.
func TestOperatorsRunWhatIsAllowed(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root to be somebody else")
	}
	t.Parallel()
	operators := []uint32{gid(t, "bin")}
	s := newService(t)
	if err := errors.Join(os.Mkdir(filepath.Join(s.Dir, "bin"), 0o755), os.Mkdir(filepath.Join(s.Dir, "other"), 0o755)); err != nil {
		t.Fatal(err)
	}
	mark := filepath.Join(s.Dir, "mark")
	evil := write(t, s, "other/x", "#!/bin/sh\nid >"+mark+"\n", 0o755)
	link := filepath.Join(s.Dir, "bin/link")
	if err := os.Symlink(evil, link); err != nil {
		t.Fatal(err)
	}
	next := filepath.Join(s.Dir, "bin/next")
	s.Config.Set("worker.command", []string{copied(t, s, "bin/shop")}).Set("admin.operators_group", "bin").Set("health.start.timeout", "5s")
	variant(t, s, next, "next")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, program := range []string{evil, link, s.Dir + "/bin/../other/x", "/bin/sh", "/etc/shadow"} {
		if out := as(t, s, 1, operators, "reload", "--binary", program); !strings.Contains(out, "versions.allow") {
			t.Errorf("%s:\n%s", program, out)
		}
	}
	if text, err := os.ReadFile(mark); err == nil {
		t.Errorf("it was run: %s", text)
	}
	as(t, s, 0, operators, "reload", "--binary", next, "--label", "next")
	serves(t, s, "next")
	as(t, s, 1, operators, "upgrade", "--binary", evil)
	s.Config.Set("versions.allow", []string{filepath.Join(s.Dir, "other")})
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	if out := as(t, s, 1, operators, "reload", "--binary", next); !strings.Contains(out, "versions.allow") {
		t.Errorf("what was allowed before:\n%s", out)
	}
	if out := as(t, s, 1, operators, "reload", "--binary", evil); strings.Contains(out, "versions.allow") {
		t.Errorf("what is allowed now:\n%s", out)
	}
	if cli(t, s, 0, "reload", "--binary", next, "--label", "root's"); status(t, s).Active.Version.Label != "root's" {
		t.Error("root may not name a program")
	}
}
