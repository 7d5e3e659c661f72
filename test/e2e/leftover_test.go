package e2e

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// What refused versions have left behind, each with its slot's socket, gets no client,
// whatever it does by that: ten refusals, and then a good version has every answer. It
// lives on only where there is no cgroup to end it by.
func TestLeftoversGetNoClient(t *testing.T) {
	besideOthers(t)
	for _, way := range []string{"daemonizes", "daemonizes-attacks"} {
		for _, kind := range []string{"unmodified", "socket-activation", "unix"} {
			if kind == "unix" && way != "daemonizes" {
				continue // there is no group that it could attack
			}
			t.Run(way+"/"+kind, func(t *testing.T) {
				t.Parallel()
				if way == "daemonizes-attacks" && os.Geteuid() != 0 {
					t.Skip("a socket can be given to another user by root only")
				}
				leftovers(t, kind, way)
			})
		}
	}
}

func leftovers(t *testing.T, kind, way string) {
	s := unprepared(t)
	if os.Geteuid() == 0 { // another user rarely has any
		withoutCgroups(t, s)
	}
	left := filepath.Join(s.Dir, "left")
	if err := os.WriteFile(left, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, pid := range living(t, left) {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	})
	s.Config.Set("worker.env.LEFT", left).Set("rollout.bake", "0s").Set("drain.timeout", "500ms").Set("drain.kill_after", "200ms")
	if kind != "unmodified" {
		s.Config.Set("worker.kind", "socket-activation")
	}
	if kind == "unix" {
		s.Addr = s.Dir + "/s"
		s.Config.Set("listeners", listeners("http", "unix://"+s.Addr))
	}
	as := func(way string) { s.Config.Set("worker.command", []string{programs.Hostile, way, s.Addr}) }
	as("serves")
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if group := status(t, s).Master.Cgroup; group != "" {
		t.Skip("what is left behind is ended, by the cgroup ", group)
	}
	for i := range times(10, 2) {
		as(way)
		s.Config.Set("worker.env.RELEASE", "bad"+strconv.Itoa(i))
		if out := reload(t, s, api.ReloadRequest{}); out.Result != api.ResultFailed && out.Result != api.ResultRolledBack {
			t.Fatalf("it was taken: %+v", out)
		}
		if err := os.WriteFile(left+".bad"+strconv.Itoa(i), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if alive := living(t, left); len(alive) != i+1 {
			t.Fatalf("after refusal %d processes %v are left", i, alive)
		}
	}
	as("serves")
	// An attack ends with the quarantine of the last slot, which the reload did not wait for.
	eventually(t, "the last one to have no effect", func() bool {
		if over, _ := os.ReadFile(left + ".over"); way == "daemonizes-attacks" && strings.Count(string(over), "\n") < len(living(t, left)) {
			return false
		}
		for range 50 {
			if _, body, err := ask(s.Addr, "/", 5*time.Second); err != nil || !strings.HasPrefix(body, "v1 ") {
				return false
			}
		}
		return true
	})
	freshly(t, s, func() {
		for i := 2; i <= 3; i++ {
			s.Config.Set("worker.env.RELEASE", label(i))
			out := reload(t, s, api.ReloadRequest{Label: label(i), Until: "baked"})
			if out.Result != api.ResultDone {
				t.Logf("LOG\n%s", s.Log(400))
			}
			if out.Result != api.ResultDone {
				t.Fatalf("reload to %s: %+v", label(i), out)
			}
			from(t, s, label(i), times(200, 60))
		}
	})
}

// from asks many times, and wants each answer from one version.
func from(t *testing.T, s *service.Service, version string, n int) {
	t.Helper()
	got := map[string]int{}
	for range n {
		code, body, err := ask(s.Addr, "/", 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		release, _, _ := strings.Cut(body, " ")
		if code != 200 {
			release = strconv.Itoa(code)
		}
		got[release]++
	}
	if got[version] != n {
		t.Errorf("of %d answers, %d are from %s: %v", n, got[version], version, got)
	}
}

// living are those whose numbers are in a file.
func living(t *testing.T, file string) (pids []int) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Error(err)
	}
	for _, line := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(line)
		if err != nil {
			t.Error(err)
			continue
		}
		if stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid)); err == nil && !bytes.Contains(stat, []byte(") Z ")) {
			pids = append(pids, pid)
		}
	}
	return pids
}
