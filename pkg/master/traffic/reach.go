package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/workers"
)

// A worker that speaks the protocol is checked by connections that come over its control
// socket. Whether clients reach it by its slots is another question: its program can
// have set an option there by which nothing comes in, or no answer goes out. So a
// candidate that accepts gets a connection by each slot before anybody is steered to it.
// Workers of other kinds have all their checks that way.

const (
	// reachTry is how long one connection may take, its answer included.
	reachTry = 1500 * time.Millisecond
	// reachQuick is within which a check over the control socket is answered if a program is
	// not slow: where that is so, one that has no answer by its slot does not get it there.
	reachQuick = 500 * time.Millisecond
	// reachLimit is how long after the first one another is begun. So all end before
	// acceptTimeout does.
	reachLimit = 3300 * time.Millisecond
	// reachAgain is how many connections have to succeed once one has failed: an option
	// can spoil some of them and leave others alone.
	reachAgain = 3
	// reachLater is when it is tried again once it has turned out that it cannot be.
	reachLater = 10 * time.Minute
	// reachPause is before the question, so that the worker waits for it; reachAccept is
	// how long it is waited for that it has accepted.
	reachPause  = 2 * time.Millisecond
	reachAccept = 100 * time.Millisecond
)

var errShut = errors.New("its socket has been shut down")

// Accepting takes the word of a worker that it accepts. That of a candidate is tried
// first, beside the loop.
func (t *Router) Accepting(w *workers.Worker) {
	names := t.toReach(w)
	if len(names) == 0 {
		t.accepted(w)
		return
	}
	g, serving := w.Generation, Shares(t.shares)
	checked, checker := workers.CheckedListener(g.Config.Health), g.Checker
	allowed, control := w.Generation.Config.Health.Active.Timeout, w.Dial(checked)
	end := time.Now().Add(reachLimit)
	// slow tells whether more time would help: its program may be as it should be, also if
	// the first answers take long.
	slow := func() bool {
		ctx, cancel := context.WithDeadline(t.Loop.Life(), end.Add(reachTry))
		defer cancel()
		ctx, cancel = context.WithTimeout(ctx, reachQuick)
		defer cancel()
		return allowed > reachTry && checker.Reach(ctx, control) != nil
	}
	reach := func(slot int, name string) error {
		over := time.Now().Add(reachTry)
		ctx, cancel := context.WithDeadline(t.Loop.Life(), over)
		defer cancel()
		c, err := t.Workers.DialSlot(slot, name)(ctx)
		if err != nil || name != checked {
			if err == nil {
				_ = c.Close()
			}
			return err
		}
		t.awaitAccepted(slot, name)
		err = checker.Reach(ctx, func(context.Context) (net.Conn, error) { return c, nil })
		if err != nil && !time.Now().Before(over) && slow() { // the connection may say so before the context does
			return errSlow
		}
		return err
	}
	t.Loop.Go(func() {
		var err error
		for _, name := range names {
			if err = t.reach(int(w.Slot), name, reach, serving[0].Slot, end); err != nil {
				break
			}
		}
		t.Loop.Post(func() { t.reached(w, err) })
	})
}

// awaitAccepted waits until a worker has accepted a connection, and most likely waits for
// what comes by it: some options spoil nothing but that wait. On a busy machine it takes as
// long from there to the wait as it has taken to there.
func (t *Router) awaitAccepted(slot int, name string) {
	begun := time.Now()
	for time.Since(begun) < reachAccept {
		time.Sleep(reachPause)
		if places, err := t.Sockets.Places(slot, []string{name}); err != nil || len(places) != 1 || places[0].Queue == 0 {
			break
		}
	}
	time.Sleep(min(time.Since(begun), reachAccept))
}

var (
	// errUnknown says that it is not the worker's fault that it is not reached.
	errUnknown = errors.New("who serves is not reached in this way either")
	// errSlow says that the answer was late: that may be as it should be.
	errSlow = errors.New("answers take too long to wait for them")
)

// reach tries one slot of a listener, and another one, of somebody who serves, if that
// fails: a firewall may be in the way, or the machine be too busy.
func (t *Router) reach(slot int, name string, try func(int, string) error, serving int, end time.Time) error {
	for left, failed := 1, false; left > 0; left-- {
		if time.Now().After(end) {
			return errSlow
		}
		err := try(slot, name)
		if err == nil { // another socket may have been in the place of one that is shut down
			places, bad := t.Sockets.Places(slot, []string{name})
			if bad == nil && len(places) == 1 && !places[0].Listens {
				return fmt.Errorf("listener %s: %w", name, errShut)
			}
		}
		switch {
		case errors.Is(err, errSlow):
			return err
		case err != nil && failed:
			return fmt.Errorf("listener %s: %w", name, err)
		case err != nil && try(serving, name) != nil:
			return errUnknown
		case err != nil:
			left, failed = reachAgain+1, true
		}
	}
	return nil
}

// toReach are the listeners in which a worker is to be tried: none, unless it is a
// candidate that has been given its slots while somebody else serves.
func (t *Router) toReach(w *workers.Worker) (names []string) {
	st := t.Master.Machine()
	if w.Leads() == 0 || w.Reached || st.Rollout == nil || st.Rollout.Generation != w.Generation.ID ||
		!st.Serving || len(t.shares) == 0 || t.steered(w.Slot) || time.Since(t.unreachable) < reachLater {
		return nil
	}
	shared := t.Sockets.Shared()
	for _, other := range t.Workers.All() {
		if other.Slot != t.shares[0].Slot {
			continue
		}
		for _, name := range w.Generation.Names() {
			// A shared one would be answered by whoever accepts first, and of one that is
			// new nobody can say whether it can be reached at all.
			if !slices.Contains(shared, name) && slices.Contains(other.Generation.Names(), name) {
				names = append(names, name)
			}
		}
		break
	}
	return names
}

// reached takes what came of it.
func (t *Router) reached(w *workers.Worker, err error) {
	switch {
	case t.Workers.Get(w.ID) != w:
		return
	case errors.Is(err, errUnknown):
		t.unreachable = time.Now()
		t.Log.Info("it cannot be tried whether clients reach a worker by its socket: "+err.Error(),
			append(t.Workers.Fields(w), zap.Duration("again_after", reachLater))...)
	case errors.Is(err, errSlow):
		t.Log.Info("it was not tried to the end whether clients reach a worker by its socket: "+err.Error(),
			t.Workers.Fields(w)...)
	case err != nil:
		t.Master.Step(rollout.Unfit{Worker: w.ID,
			Why: "it passes its checks, but clients do not reach it by its socket (" + err.Error() +
				"): its program has shut it down, has set an option there that keeps them out, or does not accept; " +
				"look at what it does with its listeners"})
		return
	}
	w.Reached = true
	t.accepted(w)
}

// accepted tells the machine. Where one version comes after the other new connections go to
// the worker's slot before it accepts, and no Steer comes after that: who was found in
// another queue meanwhile is passed on now.
func (t *Router) accepted(w *workers.Worker) {
	t.Master.Step(rollout.Accepting{Worker: w.ID})
	t.Place()
}
