package e2e

import (
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// A program that goes into the background is refused, and who asked is told that it did, and
// how its server is kept from that.
func TestProgramsThatGoIntoTheBackground(t *testing.T) {
	besideOthers(t)
	for kind, set := range map[string]map[string]any{
		"unmodified":        {"worker.kind": "unmodified"},
		"socket-activation": {"worker.kind": "socket-activation"},
		"preset":            {"worker.preset": "nginx", "worker.kind": "socket-activation", "worker.non_blocking": false},
		"no cgroup":         {"worker.kind": "unmodified"},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t, programs.Hostile, "serves")
			if kind == "no cgroup" {
				withoutCgroups(t, s)
			}
			want := "run it in the foreground (leave out what makes it a daemon"
			if kind == "preset" {
				want = "run it in the foreground (nginx -g 'daemon off;')"
			}
			for key, value := range set {
				s.Config.Set(key, value)
			}
			s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			baked(t, s)
			s.Config.Set("worker.command", []string{programs.Hostile, "leaves-daemon", s.Addr}).Set("worker.env.RELEASE", "bad")
			out := reload(t, s, api.ReloadRequest{Label: "bad"})
			if out.Result != api.ResultFailed || !strings.Contains(out.Reason, "exit status 0; it went into the background") || !strings.Contains(out.Reason, want) {
				t.Errorf("%+v does not say %q", out, want)
			}
			// One that fails and leaves nothing, or is ended, has not gone there.
			s.Config.Set("worker.command", []string{programs.Hostile, "exits", s.Addr})
			if out := reload(t, s, api.ReloadRequest{Label: "worse"}); out.Result != api.ResultFailed || strings.Contains(out.Reason, "background") {
				t.Errorf("%+v", out)
			}
		})
	}
}
