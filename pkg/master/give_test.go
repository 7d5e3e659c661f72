package master

import (
	"slices"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/session"
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

// shares are those that a program's worker was told of, as weights.
func (w *world) shares(program string) (told []ipc.Split, weights []uint32) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, f := range w.workers {
		if f.program == program {
			told = append(told, f.shares...)
		}
	}
	for _, s := range told {
		weights = append(weights, s.Weight)
	}
	return told, weights
}

func canaryConfig() *config.Config {
	cfg := testConfig()
	cfg.Drain.Handover = true
	cfg.Rollout.Bake = time.Second
	cfg.Rollout.Canary.Steps = []config.Step{{Weight: 1000, Hold: time.Hour}, {Weight: 5000, Hold: time.Hour}}
	return cfg
}

// canary reloads in the background; done is closed when it is over.
func canary(t *testing.T, w *world, m *Master, program string) (done chan struct{}) {
	w.install(program)
	done = make(chan struct{})
	go func() {
		defer close(done)
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
			t.Errorf("outcome %+v", out)
		}
	}()
	return done
}

func TestIdleConnectionsFollowTheWeights(t *testing.T) {
	for _, sticky := range []bool{false, true} {
		cfg := canaryConfig()
		if sticky {
			cfg.Rollout.Canary.Sticky = config.StickyClient
		}
		run(t, cfg, func(w *world, m *Master) {
			until(t, "v1 serves", serves(w, "v1"))
			time.Sleep(time.Minute)
			done := canary(t, w, m, "v2")
			until(t, "it is told of a share", func() bool { _, told := w.shares("v1"); return len(told) == 1 })
			if gives, parked := w.givers("v1"); !slices.Equal(gives, []uint64{w.idOf("v2")}) || parked {
				t.Errorf("v1 gives to %v, parked %v", gives, parked)
			}
			// What was told may have been lost with a connection, of either of them.
			w.of("v1").fact(session.Fact{Kind: session.Connected, Hello: &ipc.Hello{State: ipc.StateActive}})
			until(t, "it is told again", func() bool { _, told := w.shares("v1"); return len(told) > 1 })
			_, before := w.shares("v1")
			w.of("v2").fact(session.Fact{Kind: session.Connected, Hello: &ipc.Hello{State: ipc.StateActive}})
			until(t, "and again", func() bool { _, told := w.shares("v1"); return len(told) > len(before) })
			<-done
			until(t, "v1 is parked", func() bool { _, parked := w.givers("v1"); return parked })
			told, weights := w.shares("v1")
			if want := []uint32{1000, 5000}; !slices.Equal(slices.Compact(weights), want) {
				t.Errorf("it was told of %v, want %v", weights, want)
			}
			for _, s := range told {
				if s.Rollout != told[0].Rollout || s.Rollout == 0 || (s.Salt != 0) != sticky || s.Salt != told[0].Salt {
					t.Errorf("of %+v after %+v", s, told[0])
				}
			}
			if gives, _ := w.givers("v1"); !slices.Equal(gives, []uint64{w.idOf("v2")}) {
				t.Errorf("the rest is given to %v", gives)
			}
		})
	}
}

// Background work that may begin is begun by an activate, which ends a share.
func TestAShareOutlivesTheBackgroundWorkOfAnother(t *testing.T) {
	run(t, canaryConfig(), func(w *world, m *Master) {
		w.is("v1", behaviour{drains: true})
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(time.Minute)
		<-canary(t, w, m, "v2")
		done := canary(t, w, m, "v3")
		until(t, "v2 is told of a share", func() bool { _, told := w.shares("v2"); return len(told) == 1 })
		w.of("v1").fact(session.Fact{Kind: session.Parked}) // its work has ended, and v2's begins
		time.Sleep(time.Second)
		if gives, _ := w.givers("v2"); !slices.Equal(gives, []uint64{w.idOf("v3")}) {
			t.Errorf("v2 gives to %v", gives)
		}
		<-done
	})
}

// An SDK that does not know shares refuses the first one, and is asked no more.
func TestASplitThatIsRefusedCostsNothing(t *testing.T) {
	run(t, canaryConfig(), func(w *world, m *Master) {
		w.is("v1", behaviour{older: true})
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(time.Minute)
		core, all := observer.New(zap.WarnLevel)
		m.loop.Call(func() { m.workers.Log = zap.New(core) })
		done := canary(t, w, m, "v2")
		until(t, "it is told of a share", func() bool { _, told := w.shares("v1"); return len(told) == 1 })
		time.Sleep(time.Minute)
		w.of("v1").fact(session.Fact{Kind: session.Connected, Hello: &ipc.Hello{State: ipc.StateActive}})
		<-done
		until(t, "v1 is parked", func() bool { _, parked := w.givers("v1"); return parked })
		if _, told := w.shares("v1"); len(told) != 1 {
			t.Errorf("it was told of %v", told)
		}
		lines := all.FilterField(zap.String("reason", refusal))
		if n := lines.FilterMessageSnippet("moves no share of its connections").Len(); n != 1 || lines.Len() != 1 {
			t.Errorf("%d of the lines: %v", n, lines.All())
		}
		if gives, _ := w.givers("v1"); !slices.Equal(gives, []uint64{w.idOf("v2")}) {
			t.Errorf("in the end it gives to %v", gives)
		}
	})
}
