package workers

import (
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/rollout"
)

// Queue makes a slot a generation's of which nobody lives yet, with what waits there: a
// socket as it is, and not a fresh one as for a slot that changes hands otherwise. Whoever
// had it before has ended.
func (set *Set) Queue(c rollout.Queue, g *Generation) {
	set.Sockets.Name(int(c.Slot), g.Config.Listeners)
	if err := set.Sockets.Assigned(int(c.Slot), g.Names(), uint64(g.ID)); err != nil {
		set.Log.Error("clients cannot be kept waiting for the next version", zap.Uint64("generation", uint64(g.ID)),
			zap.Int("slot", int(c.Slot)), zap.Error(err))
	}
}
