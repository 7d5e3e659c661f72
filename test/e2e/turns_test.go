package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service/servicetest"
)

// cpuMost bounds what all but one in a hundred turns of the loop take of a processor. It is
// for a look at all processes or the like: 1 to 3 ms were measured on a busy machine.
const cpuMost = 20 * time.Millisecond

// The master's loop waits for no other goroutine, but for the locks of rooms that wait for
// nobody while they hold them. How long a turn takes is up to the machine, too: that is
// measured by `go run ./test/bench -only loop`.
func TestTheLoopWaitsForNobody(t *testing.T) {
	if _, err := exec.LookPath("go"); err != nil {
		t.Skip("it needs a masterd that measures its loop, which is built here: ", err)
	}
	besideOthers(t)
	masterd := filepath.Join(t.TempDir(), "masterd")
	build := exec.Command("go", "build", "-ldflags=-s -w", "-tags", "masterd_turns", "-o", masterd,
		"github.com/masterd/masterd/cmd/masterd")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, kind := range []string{"sdk", "socket-activation", "unmodified"} {
		t.Run(kind, func(t *testing.T) {
			besideOthers(t)
			file := filepath.Join(servicetest.ShortDir(t), "turns")
			s := newService(t)
			s.Argv = []string{"env", "MASTERD_TURNS=" + file, masterd, "run", "--config", s.File}
			s.Config.Set("worker.kind", kind).Set("worker.processes", 2).Set("rollout.bake", "100ms")
			if kind == "unmodified" {
				s.Config.Set("worker.command", []string{programs.Plain, s.Addr})
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			for i := range 3 { // the third is rolled back to the second
				next(t, s, i, "baked")
			}
			back(t, s, "")
			st, err := s.API.Status(t.Context())
			if err != nil || len(team(st)) == 0 {
				t.Fatalf("%+v, %v", st, err)
			}
			killed := team(st)[0]
			if err := syscall.Kill(killed.PID, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wait(t, s, "another worker", func(now api.Status) bool {
				return now.State == "serving" && !slices.ContainsFunc(team(now), func(w api.Worker) bool { return w.ID == killed.ID })
			})
			var got struct {
				Turns int64
				CPU   struct{ P99 time.Duration }
				Waits map[string]int64
			}
			at := time.Now()
			eventually(t, "what was measured", func() bool { // once a second, with all that was done before
				info, err := os.Stat(file)
				if err != nil || !info.ModTime().After(at) {
					return false
				}
				text, err := os.ReadFile(file)
				return err == nil && json.Unmarshal(text, &got) == nil
			})
			for where, n := range got.Waits {
				if !strings.HasPrefix(where, "sync.(*Mutex).Lock ") && !strings.HasPrefix(where, "sync.(*RWMutex).") {
					t.Errorf("the loop has waited %d times: %s", n, where)
				}
			}
			if got.CPU.P99 > cpuMost {
				t.Errorf("of %d turns of the loop one in a hundred takes %s of a processor or more, at most %s is expected",
					got.Turns, got.CPU.P99, cpuMost)
			}
		})
	}
}
