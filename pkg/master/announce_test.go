package master

import (
	"context"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/manager"
)

// announced says whether every living worker was told.
func (w *world) announced() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 0
	for _, f := range w.workers {
		if f.accepting {
			if !f.announced.Load() {
				return false
			}
			n++
		}
	}
	return n > 0
}

// A stop is announced for as long as is configured, or as is asked for; a second
// one does not wait for the rest.
func TestStopIsAnnounced(t *testing.T) {
	for name, x := range map[string]struct {
		stop func(t *testing.T, m *Master)
		took time.Duration
	}{
		"by TERM": {func(t *testing.T, m *Master) { m.Terminate() }, 30 * time.Second},
		"by QUIT": {func(t *testing.T, m *Master) { m.Quit() }, 30 * time.Second},
		"by the admin API": {func(t *testing.T, m *Master) {
			if _, err := m.operator.Stop("alice", api.StopRequest{}); err != nil {
				t.Error(err)
			}
		}, 30 * time.Second},
		"for another time": {func(t *testing.T, m *Master) {
			d := api.Duration(-time.Second)
			if _, err := m.operator.Stop("alice", api.StopRequest{Announce: &d}); err == nil {
				t.Error("a negative time is taken")
			}
			d = api.Duration(5 * time.Second)
			if _, err := m.operator.Stop("alice", api.StopRequest{Announce: &d}); err != nil {
				t.Error(err)
			}
		}, 5 * time.Second},
		"not at all": {func(t *testing.T, m *Master) {
			d := api.Duration(0)
			if _, err := m.operator.Stop("alice", api.StopRequest{Announce: &d}); err != nil {
				t.Error(err)
			}
		}, 0},
		"and asked for again": {func(t *testing.T, m *Master) {
			m.Terminate()
			time.Sleep(10 * time.Second)
			m.Terminate()
		}, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := testConfig()
			cfg.Announce = 30 * time.Second
			synctest.Test(t, func(t *testing.T) {
				var mu sync.Mutex
				var told []string
				w := newWorld(t)
				m := w.master(cfg)
				m.operator.Manager = manager.New(func(s string) { mu.Lock(); told = append(told, s); mu.Unlock() }, 0)
				ended := make(chan int)
				// the story says first what v1 is like
				go func() { time.Sleep(time.Nanosecond); ended <- m.Run(context.Background()) }()
				until(t, "v1 serves", serves(w, "v1"))
				begun := time.Now()
				go x.stop(t, m)
				if x.took > 0 {
					time.Sleep(x.took - 2*time.Second)
					st := m.Status()
					if st.State != "stopping" || st.Drains.IsZero() || len(st.Reasons) == 0 ||
						!strings.HasPrefix(st.Reasons[0], "Announced: ") {
						t.Errorf("status %+v", st)
					}
					if !serves(w, "v1")() || !w.announced() {
						t.Errorf("%v serve, announced %v", w.serving(), w.announced())
					}
					mu.Lock()
					all := strings.Join(told, "\n")
					mu.Unlock()
					if !strings.Contains(all, "STOPPING=1") || !strings.Contains(all, "STATUS=stopping: announced, drains at ") {
						t.Errorf("the service manager was told\n%s", all)
					}
				}
				if code := <-ended; code != 0 {
					t.Errorf("ended with %d", code)
				}
				if took := time.Since(begun); took < x.took || took > x.took+time.Second {
					t.Errorf("it took %s", took)
				}
			})
		})
	}
}
