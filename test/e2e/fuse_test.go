package e2e

import (
	"os"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

// The server of a worker's own file system need not answer, and then the thread that asks
// it ends of no signal. An exec waits for all threads: so there is none, and the operator
// is told whom to end. As soon as that one has ended, there is.
func TestAnUpgradeDoesNotHangInAWorkersFileSystem(t *testing.T) {
	besideOthers(t)
	if _, err := os.Stat("/dev/fuse"); err != nil || os.Geteuid() != 0 {
		t.Skip("it takes root and /dev/fuse")
	}
	const flush, statfs = "25", "17"
	for name, c := range map[string]struct {
		kind, silent, with string
		free               bool // it gets hold of nobody
	}{
		"closed":              {"socket-activation", flush, "BARRIER=1", false},
		"looked at":           {"socket-activation", statfs, "FDSTORE=1\nFDNAME=a", false},
		"looked at in vain":   {"socket-activation", flush, "FDSTORE=1\nFDNAME=a", false},
		"bound like a socket": {"unmodified", flush, "bind", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := unprepared(t)
			s.Config.Set("worker.kind", c.kind).Set("worker.fd_store", 2).Set("worker.capabilities", []string{"CAP_SYS_ADMIN"}). // to mount one
																		Set("rollout.bake", "0s").Set("worker.command", []string{programs.Hostile, "hangs-in-file", s.Addr, c.silent, c.with})
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			turnedInLog(t, s)
			if !c.free {
				eventually(t, "it to be noticed", func() bool { return strings.Contains(s.Log(10_000), "take long to be closed") })
				before := status(t, s).Master
				if out := cli(t, s, 1, "upgrade"); !strings.Contains(out, "1 descriptors that workers or clients have sent cannot be closed") {
					t.Error(out)
				}
				if now := status(t, s).Master; now.PID != before.PID || !now.Since.Equal(before.Since) {
					t.Errorf("%+v runs, and %+v before", now, before)
				}
				s.Config.Set("worker.command", []string{programs.Hostile, "serves", s.Addr})
				if out := reload(t, s, api.ReloadRequest{Label: "v2", Until: "baked"}); out.Result != api.ResultDone {
					t.Fatalf("%+v", out)
				}
			}
			before := status(t, s).Master
			eventually(t, "an upgrade", func() bool { _, code := s.CLI(t.Context(), "upgrade"); return code == 0 })
			if now := status(t, s).Master; now.PID != before.PID || now.Since.Equal(before.Since) || now.Restored != "" {
				t.Errorf("%+v runs, and %+v before", now, before)
			}
		})
	}
}
