package workers

import (
	"context"
	"errors"
	"math"
	"net/netip"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/conns"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

const (
	// Between two looks at connections that are closed one at a time: closePoll, and longer
	// where a look takes so long that it would cost more than one part in closeShare of the time.
	closePoll  = 5 * time.Millisecond
	closeShare = 10
	hurryShare = 2 // in a hurry
	// countPoll and countShare are the same where they are only counted.
	countPoll  = 50 * time.Millisecond
	countShare = 50
	// Between two looks for one moment that is quiet for all; each is a little later than the
	// one before.
	connsPoll    = 50 * time.Millisecond
	connsPollMax = 250 * time.Millisecond
	// hurryBefore is how long before the end of a drain, at most a quarter of it, each
	// connection is judged by what itself has shown; or any moment will do at which nobody is just
	// waiting for an answer, where connections cannot be closed one at a time.
	hurryBefore = 5 * time.Second
	// lastBefore is how long before the end of a drain, at most a quarter of that, whatever was
	// just answered is closed: it would be cut in a moment.
	lastBefore = time.Second
)

// clients are the connections of one worker, as one goroutine beside the loop sees them.
type clients struct {
	*activated
	watch    *conns.Worker // nil: they cannot be closed one at a time
	at       []netip.AddrPort
	paths    []string
	err      error // why it is not known where they are
	pids     func() []int
	hurry    time.Time // zero: there is no hurry
	last     time.Time
	log      *zap.Logger
	warned   bool
	process  Process
	previous time.Duration // what the last look has cost
	closed   int           // so far
}

// watchClients begins to look at a worker's connections; a zero deadline is none.
func (a *activated) watchClients(deadline time.Time) *clients {
	set, w := a.set, a.Worker
	id, leader := uint64(w.ID), a.leads()
	c := &clients{activated: a, log: set.Log.With(set.Fields(w)...), process: w.process,
		pids: func() []int { return set.Processes(id, leader, set.System.Groups) }}
	if !deadline.IsZero() {
		hurry := min(time.Until(deadline)/4, hurryBefore)
		c.hurry, c.last = deadline.Add(-hurry), deadline.Add(-min(hurry/4, lastBefore))
	}
	var places []listen.Place
	places, c.err = set.Sockets.Places(int(w.Slot), w.Generation.Names())
	at, paths := clientPlaces(w.Generation.Config, places)
	for _, p := range at {
		c.at = append(c.at, p.At)
	}
	c.paths = paths
	if set.System.Watch != nil && c.err == nil {
		c.watch = set.System.Watch.Worker(c.pids, at, paths)
	}
	return c
}

// clientPlaces is where the clients of a configuration's workers are found.
func clientPlaces(c *config.Config, places []listen.Place) (at []conns.Place, paths []string) {
	for _, p := range places {
		if p.Path != "" {
			paths = append(paths, p.Path)
		} else {
			at = append(at, conns.Place{At: p.At, HTTP: c.SpeaksHTTP(p.Name)})
		}
	}
	return at, paths
}

// letGo lets the worker's connections go, one at a time where that is possible, and reports
// true when there are none left, or nobody asks for anything. false: ctx ended first.
func (c *clients) letGo(ctx context.Context) bool {
	for c.watch != nil {
		mode, share := c.mode(time.Now()), time.Duration(closeShare)
		if mode != conns.Drain {
			share = hurryShare
		}
		gone, err := c.closeSome(ctx, mode, math.MaxInt)
		switch {
		case gone:
			return true
		case errors.Is(err, conns.ErrNotAllowed):
			c.log.Warn("a worker's connections cannot be closed one at a time; "+
				"it is ended at a moment at which all of them are idle", zap.Error(err))
			c.watch = nil
			c.left.Store(nil)
			continue
		}
		select {
		case <-ctx.Done():
			return false
		case <-time.After(max(closePoll, share*c.previous)):
		}
	}
	return waitUntil(ctx, connsPoll, connsPollMax, c.allIdle)
}

// mode is how connections are let go now.
func (c *clients) mode(now time.Time) conns.Mode {
	switch {
	case c.hurry.IsZero() || now.Before(c.hurry):
		return conns.Drain
	case now.Before(c.last):
		return conns.Hurry
	}
	return conns.Last
}

// closeSome closes what may be closed in a mode, at most so many, and notes what is left.
func (c *clients) closeSome(ctx context.Context, m conns.Mode, most int) (gone bool, err error) {
	left, cost, err := c.watch.Look(ctx, m, most)
	c.previous = cost
	if err != nil {
		c.unknown(err)
		return false, err
	}
	c.closed = left.Closed
	if ctx.Err() != nil {
		return false, nil // it may have the traffic again
	}
	is := &looks{left, left}
	if was := c.left.Load(); m == conns.Count && was != nil {
		is.before = was.last
	}
	c.left.Store(is)
	return left.Open == 0, nil
}

// unknown says once that the worker's connections cannot be looked at.
func (c *clients) unknown(why error) {
	if !c.warned && !errors.Is(why, conns.ErrNotAllowed) { // for now: one of its processes may be about to end
		c.warned = true
		c.log.Warn("whether a worker still has clients cannot be known; if it stays so, it is given all of its drain",
			zap.Error(why))
	}
}

// allIdle reports whether a worker can be ended for the sake of its clients: they are gone, or
// ask for nothing. Towards the deadline a moment will do at which nobody waits for an answer.
// What cannot be known counts as somebody.
func (c *clients) allIdle() bool {
	open, why := conns.Open{}, c.err
	if why == nil {
		open, why = c.set.System.Conns(c.pids(), c.at, c.paths)
	}
	if why != nil {
		c.unknown(why)
		return false
	}
	return open.Busy == 0 || open.Asked == 0 && !c.hurry.IsZero() && time.Now().After(c.hurry)
}

// count notes what the worker has open until it has ended: what it has then is cut.
func (c *clients) count() {
	for c.watch != nil {
		if _, err := c.closeSome(c.set.Loop.Life(), conns.Count, 0); errors.Is(err, conns.ErrNotAllowed) {
			return
		}
		select {
		case <-c.process.Done():
			return
		case <-c.set.Loop.Life().Done():
			return
		case <-time.After(max(countPoll, countShare*c.previous)):
		}
	}
}

// looks are the last two at what a worker has open.
type looks struct{ last, before conns.Left }

// cutOf is what a worker took with it. The last look at one that was killed may have come when
// the kernel had closed its connections already.
func cutOf(is *looks, exit proc.Exit) rollout.Cut {
	if is == nil {
		return rollout.Cut{Unknown: true}
	}
	l := is.last
	if exit.Signal != 0 && is.before.Open > l.Open {
		l = is.before
	}
	c := rollout.Cut{Connections: uint64(l.Open + l.Ended), Requests: uint64(l.Waiting + l.Streams)}
	if runs := slices.Sorted(slices.Values(l.Runs)); len(runs) > 0 {
		c.Longest, c.Median = runs[len(runs)-1], runs[len(runs)/2]
	}
	return c
}

// describeClients is the form of it that people and programs read; nil: nobody looks.
func (a *activated) describeClients() *api.Clients {
	is := a.left.Load()
	if is == nil {
		return nil
	}
	l := is.last
	pause, quiet := a.set.System.Watch.Learnt()
	return &api.Clients{Open: l.Open, Waiting: l.Waiting, Streams: l.Streams, Closed: l.Closed,
		PauseMS: pause.Milliseconds(), QuietMS: quiet.Milliseconds()}
}
