package workers

import (
	"fmt"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/conns"
	"github.com/masterd/masterd/pkg/master/proc"
)

const (
	// Between two looks at the connections of workers that serve: watchPause, and longer where
	// that would cost more than one part in watchShare of the time.
	watchPause = time.Second
	watchShare = 100
	// A look is watchTimes looks, watchApart from each other: what comes between two of them
	// is mostly one thing.
	watchTimes = 4
	watchApart = 8 * time.Millisecond
)

// WatchClients has remembered what the connections of workers of other kinds than sdk show,
// until the loop ends. It is called beside the loop.
func (set *Set) WatchClients() {
	if set.System.Watch == nil {
		return
	}
	life := set.Loop.Life()
	for pause := watchPause; ; {
		select {
		case <-life.Done():
			return
		case <-time.After(pause):
		}
		at, cost := set.clientsAt(), time.Duration(0)
		for i := 0; i < watchTimes && len(at) > 0 && life.Err() == nil; i++ {
			c, _ := set.System.Watch.Look(at) // who closes some says what is wrong
			cost += c
			time.Sleep(watchApart)
		}
		pause = max(watchPause, watchShare*cost)
	}
}

// clientsAt is where clients of workers of other kinds than sdk are found.
func (set *Set) clientsAt() (at []conns.Place) {
	slots := map[*Generation]int{}
	set.Loop.Call(func() {
		for _, w := range set.workers {
			if w.activated() != nil && w.process != nil {
				slots[w.Generation] = int(w.Slot)
			}
		}
	})
	for g, slot := range slots {
		places, _ := set.Sockets.Places(slot, g.Names())
		its, _ := clientPlaces(g.Config, places)
		at = append(at, its...)
	}
	return at
}

// activated is the worker if it is of another kind than sdk.
func (w *Worker) activated() *activated {
	switch k := w.kind.(type) {
	case *activated:
		return k
	case *unmodified:
		return &k.activated
	}
	return nil
}

// TryClients says why connections of a configuration's workers could not be closed one at a
// time, as far as that can be known before there are any; nil: they can, or need not.
func TryClients(c *config.Config) error {
	tcp := func(l config.Listener) bool { return l.Network != "unix" }
	if !closesClients(c) || !slices.ContainsFunc(c.Listeners, tcp) {
		return nil
	}
	uid, _, _, err := proc.Credentials(c.Worker.User, c.Worker.Group)
	if err != nil {
		return nil // said elsewhere
	}
	if err := conns.TryTake(uid); err != nil {
		return fmt.Errorf("drain: connections of an old version cannot be closed one at a time, it is ended at a "+
			"moment at which all of them are idle, and what comes just then is lost: %w", err)
	}
	return nil
}

// closesClients reports whether the master closes the connections of workers that drain: they
// have no way of their own.
func closesClients(c *config.Config) bool {
	d := c.Drain
	return c.Worker.Kind != config.KindSDK && len(d.Command) == 0 && (d.Signal == "" || d.Signal == signalNone)
}
