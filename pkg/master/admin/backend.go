package admin

import (
	"context"

	"github.com/masterd/masterd/pkg/api"
)

// Backend is what the admin API talks to: the master, or a fake. Its methods
// are called by many goroutines at once and after their arguments were checked
// as far as that needs no knowledge of the service. by says who asks, such as
// "alice (uid 1000)" or "root for alice".
//
// An error that is an *[api.Problem] is answered with its status; any other
// with 500.
//
// Those that return a channel send stages, then exactly one outcome, and close
// it. They never wait for the reader: it may go away at any time, and that
// changes nothing of what it has asked for.
type Backend interface {
	// Status is what an operator asks for first.
	Status() api.Status

	// Reload is told whether who asks is root or the master's own user, who may have
	// any program run; others may name those of versions.allow.
	Reload(by string, owner bool, r api.ReloadRequest) (<-chan api.Event, error)
	Rollback(by string, r api.RollbackRequest) (<-chan api.Event, error)
	Promote(by string, r api.PromoteRequest) (<-chan api.Event, error)
	Pause(by string, r api.ReasonRequest) (<-chan api.Event, error)
	Resume(by string, r api.ReasonRequest) (<-chan api.Event, error)
	Abort(by string, r api.ReasonRequest) (<-chan api.Event, error)
	Hold(by string, r api.ReasonRequest) (<-chan api.Event, error)
	Unhold(by string, r api.ReasonRequest) (<-chan api.Event, error)
	// Upgrade is called for root and the master's own user only: it runs a
	// program as that user.
	Upgrade(by string, r api.UpgradeRequest) (<-chan api.Event, error)
	Scale(by string, r api.ScaleRequest) (<-chan api.Event, error)
	// Stop is called when the service's name was said, if that is wanted.
	Stop(by string, r api.StopRequest) (<-chan api.Event, error)

	// Versions are the pinned ones, newest first.
	Versions() []api.Version
	// PinVersion keeps the version that ref names (id, label or beginning of a
	// digest) from being pruned, or lets it go again.
	PinVersion(by, ref string, on bool) (api.Version, error)
	// DiffVersions tells how b differs from a, in lines ready to print.
	DiffVersions(a, b string) ([]string, error)

	// History is the last n entries, newest first.
	History(n int) api.History
	// Events sends what follows the entry of the history with a number (since nil: the last
	// n), oldest first, and closes the channel; with follow it goes on until ctx ends.
	Events(ctx context.Context, since *uint64, n int, follow bool) <-chan api.Entry
	// Logs sends the last n lines of a worker's output (worker zero: of all) and
	// closes the channel; with follow it goes on until ctx ends.
	Logs(ctx context.Context, uid uint32, worker uint64, n int, follow bool) (<-chan api.LogLine, error)
}
