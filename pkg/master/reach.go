package master

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/rollout"
)

// A worker that speaks the protocol is checked by connections that come over its control
// socket. Whether clients reach it by its slots is another question: its program can
// have set an option there by which nothing comes in, or no answer goes out. So a
// candidate that accepts gets a connection by each slot before anybody is steered to it.
// Workers of other kinds have all their checks that way.

const (
	// reachTry is how long one connection may take, its answer included.
	reachTry = 1500 * time.Millisecond
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

// accepts takes the word of a worker that it accepts. That of a candidate is tried
// first, beside the loop.
func (m *Master) accepts(w *worker) {
	names := m.toReach(w)
	if len(names) == 0 {
		m.step(rollout.Accepting{Worker: w.id})
		return
	}
	checked, checker, serving := checkedListener(w.generation.cfg.Health), w.generation.checker, sharesOf(m.shares)
	allowed := w.generation.cfg.Health.Active.Timeout
	reach := func(slot int, name string) error {
		ctx, cancel := context.WithTimeout(m.life, reachTry)
		defer cancel()
		c, err := m.dialSlot(slot, name)(ctx)
		if err != nil || name != checked {
			if err == nil {
				_ = c.Close()
			}
			return err
		}
		m.awaitAccepted(slot, name)
		err = checker.Reach(ctx, func(context.Context) (net.Conn, error) { return c, nil })
		if err != nil && ctx.Err() != nil && allowed > reachTry {
			return errSlow // a check has more time
		}
		return err
	}
	m.beside(func() {
		var err error
		end := time.Now().Add(reachLimit)
		for _, name := range names {
			if err = m.reach(int(w.slot), name, reach, serving[0].Slot, end); err != nil {
				break
			}
		}
		m.at(func() { m.reached(w, err) })
	})
}

// awaitAccepted waits until a worker has accepted a connection, and most likely waits for
// what comes by it: some options spoil nothing but that wait.
func (m *Master) awaitAccepted(slot int, name string) {
	for end := time.Now().Add(reachAccept); time.Now().Before(end); {
		time.Sleep(reachPause)
		if places, err := m.sockets.Places(slot, []string{name}); err != nil || len(places) != 1 || places[0].Queue == 0 {
			return
		}
	}
}

var (
	// errUnknown: it is not the worker's fault that it is not reached.
	errUnknown = errors.New("who serves is not reached in this way either")
	// errSlow: what answers slowly may be as it should be.
	errSlow = errors.New("answers take too long to wait for them")
)

// reach tries one slot of a listener, and another one, of somebody who serves, if that
// fails: a firewall may be in the way, or the machine be too busy.
func (m *Master) reach(slot int, name string, try func(int, string) error, serving int, end time.Time) error {
	for left, failed := 1, false; left > 0; left-- {
		if time.Now().After(end) {
			return errSlow
		}
		err := try(slot, name)
		if err == nil { // another socket may have been in the place of one that is shut down
			places, bad := m.sockets.Places(slot, []string{name})
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
func (m *Master) toReach(w *worker) (names []string) {
	st := m.machine.Status()
	if w.process == nil || w.reached || st.Rollout == nil || st.Rollout.Generation != w.generation.id ||
		!st.Serving || len(m.shares) == 0 || steeredTo(m.shares, w.slot) || time.Since(m.unreachable) < reachLater {
		return nil
	}
	shared := m.sockets.Shared()
	for _, other := range m.workers {
		if other.slot != m.shares[0].Slot {
			continue
		}
		for _, name := range w.generation.names() {
			// A shared one would be answered by whoever accepts first, and of one that is
			// new nobody can say whether it can be reached at all.
			if !slices.Contains(shared, name) && slices.Contains(other.generation.names(), name) {
				names = append(names, name)
			}
		}
		break
	}
	return names
}

// reached takes what came of it.
func (m *Master) reached(w *worker, err error) {
	switch {
	case m.workers[w.id] != w:
		return
	case errors.Is(err, errUnknown):
		m.unreachable = time.Now()
		m.log.Info("it cannot be tried whether clients reach a worker by its socket: "+err.Error(), append(m.fields(w), zap.Duration("again_after", reachLater))...)
	case errors.Is(err, errSlow):
		m.log.Info("it was not tried to the end whether clients reach a worker by its socket: "+err.Error(), m.fields(w)...)
	case err != nil:
		m.step(rollout.Unfit{Worker: w.id, Why: "it passes its checks, but clients do not reach it by its socket (" + err.Error() +
			"): its program has shut it down, has set an option there that keeps them out, or does not accept; look at what it does with its listeners"})
		return
	}
	w.reached = true
	m.step(rollout.Accepting{Worker: w.id})
}
