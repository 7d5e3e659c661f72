package workers

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/conns"
	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	// parkedPoll and parkedShare are between two looks at the connections of a worker that is
	// parked, as closePoll and closeShare are for one that drains.
	parkedPoll  = 10 * time.Millisecond
	parkedShare = 20
	// parkedRate is how many connections of parked workers are closed a second, of all workers
	// of a generation together: their clients come back at once.
	parkedRate = 100
)

// park has the connections of a worker closed that gets no new ones, if that is asked for. The
// program notices nothing else, and stays warm. It ends with an activate or a drain.
func (a *activated) park(c rollout.Park) {
	set := a.set
	if !c.Close || a.parking != nil || a.draining != nil || set.System.Watch == nil || a.process == nil {
		return
	}
	ctx, cancel := context.WithCancel(set.Loop.Life())
	a.parking = cancel
	over := set.Sockets.Quiesce(int(a.Slot))
	clients := a.watchClients(time.Time{})
	rate := parkedRate / float64(max(a.Generation.Config.Worker.Processes, 1))
	set.Log.Info("connections of a parked worker are closed one at a time (drain.parked)", set.Fields(a.Worker)...)
	set.Loop.Go(func() {
		defer cancel()
		quiescence, end := context.WithTimeout(ctx, settleWait)
		waitUntil(quiescence, settlePoll, settlePoll, over)
		end()
		clients.bringOver(ctx, rate)
	})
}

// endParking has no more connections closed.
func (a *activated) endParking() {
	if a.parking != nil {
		a.parking()
		a.parking = nil
		a.left.Store(nil)
	}
}

// bringOver closes connections of a parked worker, at most so many a second, until ctx ends.
func (c *clients) bringOver(ctx context.Context, rate float64) {
	budget, last := 1.0, time.Now()
	for c.watch != nil && ctx.Err() == nil {
		now := time.Now()
		budget, last = min(budget+rate*now.Sub(last).Seconds(), parkedRate), now
		before := c.closed
		if _, err := c.closeSome(ctx, conns.Parked, int(budget)); errors.Is(err, conns.ErrNotAllowed) {
			c.log.Warn("a parked worker's connections cannot be closed one at a time; they stay until it drains",
				zap.Error(err))
			return
		}
		budget -= float64(c.closed - before)
		select {
		case <-ctx.Done():
		case <-c.process.Done():
			return
		case <-time.After(max(parkedPoll, parkedShare*c.previous)):
		}
	}
}
