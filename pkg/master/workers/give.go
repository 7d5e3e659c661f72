package workers

import (
	"errors"
	"fmt"
	"slices"
	"syscall"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// Give opens the ways over which a worker gives its connections to others, or a share of
// them, in place of those that it had; none: what is open stays with it.
func (set *Set) Give(c rollout.Give) {
	from := set.sdk(c.Worker)
	if from == nil {
		return
	}
	from.gives, from.split, from.giveSent = c.To, c.Split, true
	if !from.session.Connected() {
		return // told once it is back: see repeatGive
	}
	if c.Split != nil && c.Split.Rollout == from.refused.in {
		return // it would refuse each step
	}
	instead := true
	for _, id := range c.To {
		to := set.sdk(id)
		if to == nil || !to.session.Connected() {
			continue
		}
		if err := handoverLink(from, to, instead, c.Split); err != nil {
			set.warn(from.Worker, "a worker's connections cannot be moved; it serves them itself",
				zap.Uint64("to_worker", uint64(id)), zap.Error(err))
			continue
		}
		instead = false
	}
	if instead { // there is nobody, or nobody can be told now
		if err := from.session.Stay(); err != nil {
			set.warn(from.Worker, "a worker cannot be told to keep its connections", zap.Error(err))
		}
	}
}

// handoverLink makes a link and gives each its end. If only one can be told, the
// end of the other is closed, and so is the link. split is the share that is given; nil: all.
func handoverLink(from, to *sdk, instead bool, split *rollout.Split) error {
	if to.session.Capacity() == 0 { // one link too many would cost it its control connection
		return errors.New("the worker that would take them has not read what it was told before")
	}
	names, err := renamed(from.Generation.Config.Listeners, to.Generation.Config.Listeners)
	if err != nil {
		return err
	}
	a, b, err := ipc.Pair()
	if err != nil {
		return err
	}
	if err := to.session.Take(b, ipc.Peer{Worker: uint64(from.ID), Generation: uint64(from.Generation.ID),
		Names: names}); err != nil {
		_ = syscall.Close(a)
		return fmt.Errorf("telling the worker that would take them: %w", err)
	}
	peer := ipc.Peer{Worker: uint64(to.ID), Generation: uint64(to.Generation.ID), Instead: instead}
	if split == nil {
		from.refused.seqs = nil
		return from.session.Give(a, peer)
	}
	share := ipc.Split{Rollout: uint64(split.Rollout), Weight: split.Weight, Salt: split.Sticky}
	seq, err := from.session.Split(a, peer, share)
	seqs := append(from.refused.seqs, seq)
	from.refused.seqs = seqs[max(0, len(seqs)-maxRefusable):]
	return err
}

// maxRefusable is how many of the newest requests a worker may refuse and be understood.
const maxRefusable = 64

// refusedSplit is what is known of a worker that does not give shares: its SDK is older.
type refusedSplit struct {
	seqs []uint64        // of the requests that it may refuse yet
	in   rollout.Rollout // in which it has refused one; zero: in none
}

// splitRefused reports whether the worker has refused to give a share, and has it asked no more
// in this rollout: its connections stay until it is parked.
func (s *sdk) splitRefused(seq uint64) bool {
	if s.split == nil || !slices.Contains(s.refused.seqs, seq) {
		return false
	}
	s.refused.in = s.split.Rollout
	return true
}

// renamed are the listeners that the giver calls otherwise, by its names. It is an
// error if one name means two of them: a taker that knows nothing of other names would
// serve a connection as another listener's.
func renamed(giver, taker []config.Listener) (map[string]string, error) {
	var names map[string]string
	for _, g := range giver {
		for _, t := range taker {
			switch same := listen.Same(g, t); {
			case same && g.Name != t.Name:
				if names == nil {
					names = map[string]string{}
				}
				names[g.Name] = t.Name
			case !same && g.Name == t.Name && slices.ContainsFunc(taker,
				func(x config.Listener) bool { return listen.Same(g, x) }):
				return nil, fmt.Errorf("listener %s is another one there", g.Name)
			}
		}
	}
	return names, nil
}

// repeatGive repeats what may have been lost with a worker's control connection.
// Its own links have outlived that, but nobody knows whether it was told of them.
func (set *Set) repeatGive(back *sdk) {
	for _, w := range set.sdks() {
		if w.giveSent && (w == back || slices.Contains(w.gives, back.ID)) {
			set.Give(w.give())
		}
	}
}

// give is what the worker was last told to give.
func (s *sdk) give() rollout.Give {
	return rollout.Give{Worker: s.ID, To: s.gives, Split: s.split}
}
