package workers

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/claims"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/loop"
	"github.com/masterd/masterd/pkg/master/rollout"
)

type activeMaster struct {
	Master
	active rollout.Generation
}

func (m activeMaster) Machine() rollout.Status { return rollout.Status{Active: m.active} }

func (activeMaster) Trace(rollout.Rollout) string { return "" }

type oneProcess struct{ Containment }

func (oneProcess) Processes(uint64) []int { return []int{1} }

type leader struct{ kind }

func (leader) leads() int { return 1 }

type started struct{ Process }

func (started) PID() int { return 1 }

// What an older version takes along is noticed also when it ends while it is still looked what
// the newer one has.
func TestWhoEndsDuringTheLook(t *testing.T) {
	path := filepath.Join(t.TempDir(), "side.sock") // it is gone already
	ended := make(chan struct{})
	set := New(Options{Loop: loop.New(4), Log: zap.NewNop(), Master: activeMaster{active: 2}, Contain: oneProcess{},
		System: System{Claims: func([]int, []string) (claims.Claims, error) {
			<-ended
			return claims.Claims{Sockets: []string{path}}, nil
		}}})
	worker := func(id rollout.Worker) *Worker {
		w := &Worker{ID: id, Generation: &Generation{ID: rollout.Generation(id), Config: &config.Config{}}, process: started{}, kind: leader{}}
		set.workers[id] = w
		return w
	}
	older, newer := worker(1), worker(2)
	set.lookAtClaims(newer, 0)
	set.lookForLost(older)
	close(ended)
	for range 2 { // what was found, and what of it is gone
		select {
		case call := <-set.Loop.Calls():
			call.Do()
		case <-time.After(10 * time.Second):
			t.Fatal("what the older one has taken along was not looked for")
		}
	}
	if text := newer.Generation.beside.lost[0].text; !strings.HasPrefix(text, path+" is gone: worker 2 of generation 2") || !strings.Contains(text, "worker 1 of generation 1") {
		t.Error(text)
	}
}
