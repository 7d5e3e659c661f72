package browser

import (
	"fmt"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// Each state that matters at night is shown at both ends of what screens there are, dark and
// light: nothing scrolls sideways, and nothing goes wrong.
func TestStates(t *testing.T) {
	stories := map[string]func() (api.Status, []api.Entry){
		"resting": func() (api.Status, []api.Entry) { return serving(), past() },
		"canary":  func() (api.Status, []api.Entry) { return canary(37.5), past() },
		"rolled-back": func() (api.Status, []api.Entry) {
			st, e := rolledBack()
			return st, append([]api.Entry{e}, past()...)
		},
		"crash-loop": func() (api.Status, []api.Entry) {
			st, all := crashLoop()
			return st, append(all, past()...)
		},
		"hostile": hostile,
		"empty": func() (api.Status, []api.Entry) {
			return api.Status{Service: "shop", State: "down", Now: time.Now(), Reasons: []string{"No worker is alive."}}, nil
		},
	}
	for name, story := range stories {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			st, all := story()
			m := play(t, st, "promote", "abort", "rollback", "hold")
			m.set(func(m *master) { m.history = all })
			b := newTab(t, 1920)
			for _, scheme := range []string{"dark", "light"} {
				for _, width := range []int64{360, 1920} {
					b.scheme(scheme)
					b.size(width)
					b.open(m.URL)
					if name == "canary" {
						for i := range 12 {
							m.send("status", canary(1.3+float64(i*i)/3))
						}
						b.says("#evidence-text", "41.6 of the 100")
					}
					b.clean()
					b.picture(fmt.Sprintf("%s-%d-%s", name, width, scheme))
				}
			}
			b.quiet()
			if eval[bool](b, `window.ran !== undefined || document.querySelector("main img, main script, header img") !== null`) {
				t.Error("a name was more than a name")
			}
		})
	}
}
