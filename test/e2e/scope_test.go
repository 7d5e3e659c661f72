package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// Where there is no systemd to give a worker its limits, check and reload say so and what
// to do, and what runs goes on.
func TestLimitsWithoutSystemd(t *testing.T) {
	t.Parallel()
	if _, err := os.Stat("/run/systemd/private"); err == nil && os.Getuid() == 0 {
		t.Skip("there is a systemd here; test/systemd tries it")
	}
	s := unprepared(t)
	s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	baked(t, s)
	pid := status(t, s).Generations[0].Workers[0].PID
	s.Config.Set("worker.limits.tasks", 100).Set("worker.env.RELEASE", "v2")
	out := reload(t, s, api.ReloadRequest{Label: "v2"})
	const why, what = "worker.limits.tasks, memory and memory_high need a scope of systemd's", "leave these limits out"
	if out.Result != api.ResultFailed || !strings.Contains(out.Reason, why) || !strings.Contains(out.Reason, what) {
		t.Errorf("%+v", out)
	}
	if out := cli(t, s, 2, "check"); !strings.Contains(out, why) || !strings.Contains(out, what) {
		t.Errorf("masterd check:\n%s", out)
	}
	if now := status(t, s).Generations[0].Workers[0].PID; now != pid {
		t.Errorf("the worker was %d and is %d", pid, now)
	}
	from(t, s, "v1", 20)
}
