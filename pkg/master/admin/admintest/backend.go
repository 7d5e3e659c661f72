// Package admintest is a master that does as it is told, for tests of what
// talks to one.
package admintest

import (
	"context"
	"sync"

	"github.com/masterd/masterd/pkg/api"
)

// Backend answers with what its fields hold and remembers what it was asked.
// The fields are set before it is used and left alone then.
type Backend struct {
	StatusIs    api.Status
	VersionsAre []api.Version
	DiffIs      []string
	HistoryIs   []api.Entry
	Lines       []api.LogLine

	// Change answers every change; nil: done, at once.
	Change func(c Call) (<-chan api.Event, error)
	// Following is called for logs that are followed, with the end of which the
	// channel has to be closed; nil: nothing more comes.
	Following func(ctx context.Context, to chan<- api.LogLine)

	mu    sync.Mutex
	calls []Call
	wait  sync.WaitGroup
}

// Call is one change that was asked for.
type Call struct {
	What    string // "reload", "pin", ...
	By      string
	Request any // as the method took it; for pin and unpin the reference
}

// Calls are those so far, oldest first.
func (b *Backend) Calls() []Call {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]Call(nil), b.calls...)
}

// Wait returns when nothing that the backend started runs any more.
func (b *Backend) Wait() { b.wait.Wait() }

// Events is a stream of these, closed.
func Events(events ...api.Event) <-chan api.Event {
	c := make(chan api.Event, len(events))
	for _, e := range events {
		c <- e
	}
	close(c)
	return c
}

// Ended is a stream of nothing but an outcome.
func Ended(o api.Outcome) <-chan api.Event { return Events(api.Event{Outcome: &o}) }

func (b *Backend) change(what, by string, r any) (<-chan api.Event, error) {
	c := Call{what, by, r}
	b.mu.Lock()
	b.calls = append(b.calls, c)
	b.mu.Unlock()
	if b.Change == nil {
		return Ended(api.Outcome{Result: api.ResultDone}), nil
	}
	return b.Change(c)
}

func (b *Backend) Status() api.Status { return b.StatusIs }

func (b *Backend) Reload(by string, _ bool, r api.ReloadRequest) (<-chan api.Event, error) {
	return b.change("reload", by, r)
}

func (b *Backend) Rollback(by string, r api.RollbackRequest) (<-chan api.Event, error) {
	return b.change("rollback", by, r)
}

func (b *Backend) Promote(by string, r api.PromoteRequest) (<-chan api.Event, error) {
	return b.change("promote", by, r)
}

func (b *Backend) Pause(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.change("pause", by, r)
}

func (b *Backend) Resume(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.change("resume", by, r)
}

func (b *Backend) Abort(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.change("abort", by, r)
}

func (b *Backend) Hold(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.change("hold", by, r)
}

func (b *Backend) Unhold(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.change("unhold", by, r)
}

func (b *Backend) Scale(by string, r api.ScaleRequest) (<-chan api.Event, error) {
	return b.change("scale", by, r)
}

func (b *Backend) Upgrade(by string, r api.UpgradeRequest) (<-chan api.Event, error) {
	return b.change("upgrade", by, r)
}

func (b *Backend) Stop(by string, r api.StopRequest) (<-chan api.Event, error) {
	return b.change("stop", by, r)
}

func (b *Backend) Versions() []api.Version { return b.VersionsAre }

// PinVersion knows versions by id or label.
func (b *Backend) PinVersion(by, ref string, on bool) (api.Version, error) {
	what := "unpin"
	if on {
		what = "pin"
	}
	if _, err := b.change(what, by, ref); err != nil {
		return api.Version{}, err
	}
	for _, v := range b.VersionsAre {
		if ref == v.ID || ref == v.Label {
			v.Held = on
			return v, nil
		}
	}
	return api.Version{}, &api.Problem{Status: 404, Message: "There is no version " + ref + "."}
}

func (b *Backend) DiffVersions(x, y string) ([]string, error) { return b.DiffIs, nil }

func (b *Backend) History(n int) api.History {
	return api.History{Entries: b.HistoryIs[:min(n, len(b.HistoryIs))]}
}

// Events are those of HistoryIs, which are newest first.
func (b *Backend) Events(ctx context.Context, since *uint64, n int, follow bool) <-chan api.Entry {
	c := make(chan api.Entry, len(b.HistoryIs))
	for i := len(b.HistoryIs) - 1; i >= 0; i-- {
		if e := b.HistoryIs[i]; since != nil && e.N > *since || since == nil && i < n {
			c <- e
		}
	}
	if !follow {
		close(c)
		return c
	}
	b.wait.Go(func() { defer close(c); <-ctx.Done() })
	return c
}

func (b *Backend) Logs(ctx context.Context, _ uint32, worker uint64, n int, follow bool) (<-chan api.LogLine, error) {
	var lines []api.LogLine
	for _, l := range b.Lines {
		if worker == 0 || l.Worker == worker {
			lines = append(lines, l)
		}
	}
	lines = lines[max(0, len(lines)-n):]
	c := make(chan api.LogLine, len(lines))
	for _, l := range lines {
		c <- l
	}
	if !follow {
		close(c)
		return c, nil
	}
	b.wait.Go(func() {
		defer close(c)
		if b.Following != nil {
			b.Following(ctx, c)
		} else {
			<-ctx.Done()
		}
	})
	return c, nil
}
