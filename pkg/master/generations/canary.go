package generations

import (
	"fmt"
	"slices"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// canary is what a rollout by steps shares with the generation that has the traffic.
type canary struct {
	listeners []config.Listener // of that one; none: there is nothing to share
	baked     []rollout.Version // that go without steps
}

// canary is known when a preparation begins. What goes back to a kept version, or follows
// nobody, has no steps.
func (s *Set) canary(r preparation) (c canary) {
	st := s.Master.Machine()
	active := s.all[st.Active]
	if r.kept != nil || len(r.leaders) == 0 || active == nil || st.Rollout == nil || len(st.Rollout.Steps) == 0 {
		return c
	}
	c.listeners = active.Config.Listeners
	if r.cfg.Rollout.Canary.SkipBaked {
		c.baked = st.Kept
	}
	return c
}

// splittable refuses steps where the sockets cannot split new connections: there the candidate
// would have all clients with the first step. What a configuration says of it by itself is
// refused before; what the kernel can do is known once the listeners are open.
func (s *Set) splittable(c canary, v version.Version) error {
	if slices.ContainsFunc(c.baked, func(b rollout.Version) bool { return b.ID == v.ID }) {
		return nil
	}
	if err := s.Sockets.CanSplit(c.listeners); err != nil {
		return fmt.Errorf("a canary by steps is not possible here: %w; reload with --skip-canary, "+
			"or remove rollout.canary.steps", err)
	}
	return nil
}
