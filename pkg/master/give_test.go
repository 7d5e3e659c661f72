package master

import (
	"slices"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// givers are the workers of a program that give, and to whom.
func (w *world) givers(program string) (gives []uint64, parked bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.workers {
		if f.program == program {
			gives, parked = append(gives, f.gives...), parked || f.parked
		}
	}
	return gives, parked
}

func (w *world) idOf(program string) (id uint64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.workers {
		if f.program == program {
			id = f.id
		}
	}
	return id
}

func TestConnectionsFollowTheTraffic(t *testing.T) {
	for name, handover := range map[string]bool{"on": true, "off": false} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Drain.Handover = handover
			run(t, cfg, func(w *world, m *Master) {
				until(t, "v1 serves", serves(w, "v1"))
				time.Sleep(cfg.Rollout.Bake + time.Second)
				w.install("v2")
				if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
					t.Fatalf("outcome %+v", out)
				}
				until(t, "v1 is parked", func() bool { _, parked := w.givers("v1"); return parked })
				var want []uint64
				if handover {
					want = []uint64{w.idOf("v2")}
				}
				if got, _ := w.givers("v1"); !slices.Equal(got, want) {
					t.Errorf("v1 gives to %v, want %v", got, want)
				}
			})
		})
	}
}
