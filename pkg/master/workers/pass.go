package workers

import (
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// PauseOthers is what steering means where all generations share one socket: those that
// are steered to accept, and only then do the others pause.
func (set *Set) PauseOthers(steered func(rollout.Slot) bool) {
	for _, resume := range []bool{true, false} {
		for _, s := range set.sdks() {
			if !s.assigned || steered(s.Slot) != resume || s.paused != resume {
				continue
			}
			tell := s.session.Pause
			if resume {
				tell = s.session.Resume
			}
			if err := tell(); err != nil {
				set.Log.Warn("a worker cannot be told to pause or resume", append(set.Fields(s.Worker), zap.Error(err))...)
				continue
			}
			s.paused = !resume
		}
	}
}

// Receivers are workers that can be passed connections.
type Receivers []*sdk

// Receivers are those that are steered to, and are connected.
func (set *Set) Receivers(steered func(rollout.Slot) bool) (able Receivers) {
	for _, s := range set.sdks() {
		if s.assigned && s.process != nil && steered(s.Slot) && s.session.Connected() {
			able = append(able, s)
		}
	}
	return able
}

// Pass passes a connection to the n-th of them, or to the next that can be told more;
// false: none can, and the descriptor is still the caller's. called names the listener.
func (t Receivers) Pass(n int, called func(*config.Config) string, fd int) bool {
	for i := range t {
		s := t[(n+i)%len(t)]
		if s.session.Capacity() == 0 {
			continue
		}
		// took the descriptor all the same
		if err := s.session.Conn(called(s.Generation.Config), ipc.PurposeServe, fd); err != nil {
			s.set.Log.Warn("a connection found in a queue cannot be passed on",
				append(s.set.Fields(s.Worker), zap.Error(err))...)
		}
		return true
	}
	return false
}
