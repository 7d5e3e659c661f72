package master

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/manager"
)

// The line that the service manager shows says so too, and drops it with time alone.
func TestManagerIsToldOfALoop(t *testing.T) {
	cfg := testConfig()
	cfg.Restart.Loop = 100
	run(t, cfg, func(w *world, m *Master) {
		var line string // the loop's
		w.is("v1", behaviour{exit: 10 * time.Second})
		m.loop.Call(func() {
			m.operator.Manager = manager.New(func(s string) {
				if _, status, ok := strings.Cut(s, "STATUS="); ok {
					line, _, _ = strings.Cut(status, "\n")
				}
			}, 0)
		})
		said := func(text string) func() bool {
			return func() bool { var l string; m.loop.Call(func() { l = line }); return strings.Contains(l, text) }
		}
		until(t, "the loop is said", said("degraded: Workers ended unexpectedly 2 times"))
		w.is("v1", behaviour{})
		until(t, "it is over", func() bool { return !said("degraded")() })
	})
}

// A complaint about a file ends when the file can be used again, also where nobody
// looks at the status.
func TestMendedFileIsNoTrouble(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		broken, reread := true, m.generations.Reread
		m.loop.Call(func() {
			m.generations.SetDegraded("The configuration cannot be used.")
			m.generations.Reread = func() (*config.Config, error) {
				if broken {
					return nil, errors.New("not valid YAML")
				}
				return reread()
			}
		})
		time.Sleep(10 * m.operator.Manager.Interval())
		if st := m.operator.Status(); st.State != "degraded" || st.Reasons[0] != "The configuration cannot be used." {
			t.Errorf("%s %q", st.State, st.Reasons)
		}
		m.loop.Call(func() { broken = false })
		if st := m.operator.Status(); st.State != "serving" {
			t.Errorf("mended: %s %q", st.State, st.Reasons)
		}
		until(t, "it is forgotten", func() bool { var d string; m.loop.Call(func() { d = m.generations.Degraded() }); return d == "" })
	})
}
