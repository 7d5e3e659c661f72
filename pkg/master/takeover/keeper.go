package takeover

import (
	"errors"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/workers"
)

const keeperSocket = "keeper.sock" // in the runtime directory

// Keeper is [keeper.Registry].
type Keeper interface {
	workers.Keeper
	Inherits() bool
	Take(prefix string) []keeper.Held
	Rest() (names []string)
	Settle()
	Guard(g keeper.Guard) error
	Unguard() error
	PID() int
	End() error
	Leave()
}

// Open reads what the last master has left, which is nil if it cannot be taken over, and
// joins the keeper.
func (t *Takeover) Open() (*state.Live, error) {
	t.boot = state.Boot()
	left, err := state.LoadLive(t.RuntimeDir, t.boot)
	var newer *state.NewerError
	switch {
	case errors.As(err, &newer):
		return nil, err
	case err == nil && left != nil:
		err = rollout.CheckSnapshot(left.Machine)
	}
	if err != nil {
		left = nil
		t.Log.Error("what the last master has left cannot be read; its workers cannot be taken over", zap.Error(err))
	}
	// A keeper that takes the place of a lost one is given everything once the loop runs:
	// all that this master takes over was put by then.
	k, err := keeper.Join(keeper.Options{Path: filepath.Join(t.RuntimeDir, keeperSocket),
		Ready: func() bool { return t.Loop.Call(func() {}) }, Log: t.Log})
	if err != nil {
		t.Log.Error("there is no keeper: should this master die, what it holds is lost", zap.Error(err))
	} else {
		t.Keeper = k
	}
	t.left, t.inherits = left, left != nil || t.Keeper.Inherits()
	return left, nil
}

// Rest has the keeper let go of what nobody has taken over.
func (t *Takeover) Rest() {
	for _, name := range t.Keeper.Rest() {
		// of workers that are gone
		if !strings.HasPrefix(name, notify.HeldPrefix) && !strings.HasPrefix(name, bindsub.HeldPrefix) {
			t.Log.Warn("the keeper holds what this masterd does not know", zap.String("name", name))
		}
	}
}

// noKeeper stands where there is none.
type noKeeper struct{ keeper.Nobody }

func (noKeeper) Inherits() bool             { return false }
func (noKeeper) Take(string) []keeper.Held  { return nil }
func (noKeeper) TakeOne(string) (int, bool) { return -1, false }
func (noKeeper) Rest() []string             { return nil }
func (noKeeper) Settle()                    {}
func (noKeeper) Guard(keeper.Guard) error   { return errors.New("there is no keeper") }
func (noKeeper) Unguard() error             { return nil }
func (noKeeper) PID() int                   { return 0 }
func (noKeeper) End() error                 { return nil }
func (noKeeper) Leave()                     {}
