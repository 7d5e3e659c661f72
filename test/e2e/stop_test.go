package e2e

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// Nobody hangs while a service stops: workers that finish what they have take
// nothing more, so the master answers who still comes, at once.
func TestWhoComesDuringAStopIsAnswered(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(service.Config){
		"sdk":               func(c service.Config) {},
		"sdk, two":          func(c service.Config) { c.Set("worker.processes", 2) },
		"shared":            func(c service.Config) { c["listeners"].([]any)[0].(map[string]any)["steering"] = "shared" },
		"hold":              func(c service.Config) { c.Set("unavailable.answer", "hold") },
		"at once":           func(c service.Config) { c.Set("unavailable", map[string]any{"after": "0s", "answer": "503"}) },
		"socket-activation": func(c service.Config) { c.Set("worker.kind", "socket-activation") },
		"two of their own slots": func(c service.Config) {
			c.Set("worker.kind", "socket-activation").Set("worker.processes", 2).Set("unavailable.answer", "hold")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := started(t, change)
			baked(t, s)
			a := slowly(t, s, 3*time.Second)
			if err := s.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			wait(t, s, "state stopping", func(st api.Status) bool { return st.State == "stopping" })
			left := false // no worker accepts any more; the status may say so a moment before they hear of it
			for asked := 0; ; asked++ {
				select {
				case <-a.done:
					if asked == 0 {
						t.Error("nobody came while it stopped")
					}
					a.good(t)
					if code := s.ExitCode(); code != 0 {
						t.Errorf("exit code %d", code)
					}
					return
				default:
				}
				begun := time.Now()
				code, _, err := ask(s.Addr, "/ping", 2*time.Second)
				select {
				case <-a.done: // the end may cut it
					continue
				default:
				}
				if code == 200 && !left {
					continue
				}
				left = true
				if code != 503 && !errors.Is(err, syscall.ECONNREFUSED) {
					t.Fatalf("who came during the stop got %d, %v after %s", code, err, time.Since(begun))
				}
				time.Sleep(20 * time.Millisecond)
			}
		})
	}
}
