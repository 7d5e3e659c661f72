package workers

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// Patience is how long a worker that an earlier master has started, and that is to be
// told something, has to connect again before it is signalled instead.
const Patience = 5 * time.Second

// noteAssigned notes that a worker has its slots.
func (set *Set) noteAssigned(w *Worker, listeners []string) {
	if err := set.Sockets.Assigned(int(w.Slot), listeners, uint64(w.Generation.ID)); err != nil {
		set.Log.Error("a worker's slot is not there", append(set.Fields(w), zap.Error(err))...)
	}
}

// mustWait reports whether the worker, or one that it gives its connections to, has not
// come back to this master yet: then it would have no other place for its clients. The
// command is kept, and carried out once they are back.
func (s *sdk) mustWait(c rollout.Command) bool {
	s.pending = nil
	if time.Since(s.set.started) > Patience || !s.away && !s.receiversAway() {
		return false
	}
	s.pending = c
	return true
}

func (s *sdk) receiversAway() bool {
	return slices.ContainsFunc(s.gives, func(id rollout.Worker) bool {
		to := s.set.sdk(id)
		return to != nil && to.away
	})
}

// CatchUp tells workers what has waited until now.
func (set *Set) CatchUp() {
	for _, s := range set.sdks() {
		if c := s.pending; c != nil {
			set.send(c) // or it waits on
		}
	}
}

// send carries out a command that may have had to wait for the worker.
func (set *Set) send(c rollout.Command) {
	switch c := c.(type) {
	case rollout.Activate:
		set.Activate(c)
	case rollout.Park:
		set.Park(c)
	case rollout.Drain:
		set.Drain(c)
	}
}

// reconnected finds out what a worker that has come back has missed: what the
// last master had decided and not said.
func (s *sdk) reconnected(h *ipc.Hello) {
	s.away = false
	if len(h.Listeners) > 0 && !s.assigned { // the last master died before it could note it
		s.assigned = true
		s.set.noteAssigned(s.Worker, s.Generation.Names())
	}
	if s.pending != nil || s.leaving {
		return
	}
	switch phase := s.set.phaseOf(s.ID); {
	case (phase == rollout.PhaseActive || phase == rollout.PhaseActivating) && h.State != ipc.StateActive:
		s.pending = rollout.Activate{Worker: s.ID}
	case phase == rollout.PhaseParked && h.State == ipc.StateActive:
		s.pending = rollout.Park{Worker: s.ID}
	}
}

// phaseOf is what the machine takes a worker to be.
func (set *Set) phaseOf(id rollout.Worker) rollout.Phase {
	for _, g := range set.Master.Machine().Generations {
		for _, w := range g.Workers {
			if w.ID == id {
				return w.Phase
			}
		}
	}
	return ""
}
