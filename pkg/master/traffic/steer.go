// Package traffic moves new connections to the workers that the machine has chosen, and
// sees to those that came where nobody takes them: another worker does, or the master
// answers by itself.
//
// A [Router] belongs to the master's loop: all methods are called there, unless they say
// otherwise.
package traffic

import (
	"slices"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/answer"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/loop"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/workers"
)

const (
	// holdTime is how long a client is kept waiting by "unavailable.answer: hold".
	holdTime = 30 * time.Second
	// retryAfter is what a client is told to wait after a 503 of the master's.
	retryAfter = time.Second
)

// Options are what a room needs. Sockets may be set later.
type Options struct {
	Loop    *loop.Loop
	Log     *zap.Logger
	Workers *workers.Set
	Sockets Sockets
	Master  Master
}

// Sockets is [listen.Set].
type Sockets interface {
	Steer(shares []listen.Share, sticky uint32) error
	Quarantine(slot int)
	Shared() []string
	Places(slot int, names []string) ([]listen.Place, error)
}

// Master is the loop's owner, as far as traffic matters to it.
type Master interface {
	Step(ev rollout.Event)   // tells the machine a fact
	Machine() rollout.Status // what the machine knows
	InForce() *config.Config // the configuration in force
}

// Router is where new connections go.
type Router struct {
	Options
	answers     map[string]*answer.Answerer // by mode: a reload may change it
	shares      []rollout.Share             // the steering in force
	nobody      bool                        // the machine has said that nobody is alive
	waiting     []unaccepted
	retrying    bool      // some of them are tried again in a moment
	unreachable time.Time // when it turned out that no slot is reached over loopback
}

// New makes a room that steers to nobody, and cannot answer yet.
func New(o Options) *Router { return &Router{Options: o, answers: map[string]*answer.Answerer{}} }

// Open has it answer clients that nobody can serve.
func (t *Router) Open() {
	for _, mode := range []string{answer.Mode503, answer.ModeReset, answer.ModeHold} {
		t.answers[mode] = answer.New(mode, holdTime, retryAfter)
	}
}

// Close closes what still waits.
func (t *Router) Close() {
	for _, o := range t.waiting {
		fdpass.DiscardConn(o.fd)
	}
	t.waiting = nil
	for _, a := range t.answers {
		a.Close()
	}
}

// Steer moves new connections, at once: it takes some tens of microseconds.
func (t *Router) Steer(c rollout.Steer) {
	shares := Shares(c.Shares)
	if len(c.Shares) > 0 {
		if len(t.Sockets.Shared()) > 0 {
			t.Workers.PauseOthers(func(s rollout.Slot) bool { return contains(c.Shares, s) })
		}
	}
	if err := t.Sockets.Steer(shares, c.Sticky); err != nil {
		t.Log.Error("steering", zap.Error(err))
		t.Master.Step(rollout.SteerFailed{Seq: c.Seq, Reason: err.Error()})
		return
	}
	before := t.shares
	t.shares, t.nobody = c.Shares, len(c.Shares) == 0
	if len(c.Shares) == 0 {
		for _, s := range before {
			t.Abandon(s.Slot)
		}
	}
	t.Log.Info("steered", zap.Any("shares", c.Shares))
	t.Master.Step(rollout.Steered{Seq: c.Seq})
	t.Place()
}

// Shares are those of the machine as the sockets know them.
func Shares(all []rollout.Share) []listen.Share {
	shares := make([]listen.Share, len(all))
	for i, s := range all {
		shares[i] = listen.Share{Slot: int(s.Slot), Weight: s.Weight, Canary: s.Canary}
	}
	return shares
}

// Abandon has the master answer the clients in the queue of a slot that was steered to
// before nobody was alive, unless a worker is assigned the slot that may yet serve them.
func (t *Router) Abandon(slot rollout.Slot) {
	for _, w := range t.Workers.All() {
		if w.Slot == slot && w.HasSlot() {
			return
		}
	}
	t.Sockets.Quarantine(int(slot))
}

// steered reports whether new connections go to this slot.
func (t *Router) steered(s rollout.Slot) bool { return contains(t.shares, s) }

func contains(shares []rollout.Share, s rollout.Slot) bool {
	return slices.ContainsFunc(shares, func(sh rollout.Share) bool { return sh.Slot == s })
}

// Nobody reports whether new connections go to no slot.
func (t *Router) Nobody() bool { return len(t.shares) == 0 }

// Waiting is how many connections wait for a worker.
func (t *Router) Waiting() int { return len(t.waiting) }
