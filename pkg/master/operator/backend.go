package operator

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// historyWait bounds the wait of a reader of the history for a slow disk.
const historyWait = time.Second

// The methods of the admin API run in its goroutines and ask the loop.

var _ admin.Backend = (*Backend)(nil)

func refused(status int, format string, args ...any) error {
	return &api.Problem{Status: status, Message: fmt.Sprintf(format, args...), Result: api.ResultInvalid}
}

// Reload reads the configuration and asks for a rollout of what it names. A bad
// one is answered here; the machine never hears of it.
func (b *Backend) Reload(by string, owner bool, r api.ReloadRequest) (<-chan api.Event, error) {
	cfg, err := b.reread()
	if err == nil && r.Binary != "" {
		if err := cfg.MayRun(r.Binary); err != nil && !owner {
			return nil, refused(403, "The reload was refused: %s.", err)
		}
		if cfg = config.WithCommand(cfg, r.Binary); !filepath.IsAbs(r.Binary) {
			err = fmt.Errorf("binary %q is not an absolute path", r.Binary)
		}
	}
	var settings rollout.Settings
	if err == nil {
		settings, err = canary(cfg, r)
	}
	if err != nil {
		// Before the answer: a service manager that asked shows nothing of it.
		b.Loop.Call(func() { b.notifyTrouble("reload refused: " + err.Error()) })
		return nil, &api.Problem{Status: 422, Message: "The configuration was not taken over and what runs is untouched: " +
			err.Error(), Result: api.ResultFailed}
	}
	until := rollout.UntilServing
	switch r.Until {
	case "", "serving":
	case "baked":
		until = rollout.UntilBaked
	default:
		return nil, refused(400, "until is %q; it can be \"serving\" or \"baked\".", r.Until)
	}
	if r.Confirm < 0 {
		return nil, refused(400, "confirm is negative: %s.", time.Duration(r.Confirm))
	}
	events := b.reload(cfg, rollout.ReloadAsked{
		By: by, Origin: rollout.Person, Why: r.Reason, Until: until, Confirm: time.Duration(r.Confirm), Replace: r.Replace,
		Settings: settings,
	}, r.Label)
	if r.Detach {
		return detached(events), nil
	}
	return events, nil
}

// reread is the configuration as it is on disk now, checked whole, and against
// what cannot change while the master runs. The master reads it, not the command
// line: what is checked is what the master can see.
func (b *Backend) reread() (*config.Config, error) {
	cfg, err := b.Generations.Reread()
	if err != nil {
		return nil, err
	}
	for _, c := range config.Diff(b.Config, cfg) {
		if c.Restart {
			return nil, fmt.Errorf(
				"%s changed and needs a restart of masterd; put it back, or restart the service when you can", c.Key)
		}
	}
	return cfg, nil
}

// reload asks the machine for a rollout of cfg, with the settings in ask.
func (b *Backend) reload(cfg *config.Config, ask rollout.ReloadAsked, label string) <-chan api.Event {
	return b.request(func(req rollout.Request) rollout.Event {
		ask.Req, ask.Token = req, token(req)
		b.Generations.Ask(ask.Token, cfg, label)
		return ask
	})
}

// Rollback asks for a rollout of an earlier version, or a way back at once.
func (b *Backend) Rollback(by string, r api.RollbackRequest) (<-chan api.Event, error) {
	var to *rollout.Version
	if r.Version != "" {
		v, err := b.Store.Resolve(r.Version)
		if err != nil {
			return nil, refused(404, "%s", err)
		}
		rv := generations.Ref(v)
		to = &rv
	}
	return b.request(func(req rollout.Request) rollout.Event {
		ask := rollout.RollbackAsked{Req: req, By: by, Origin: rollout.Person, Why: r.Reason, To: to}
		if to != nil {
			ask.Version = to.ID
		} else {
			ask.Stored = b.stored()
		}
		return ask
	}), nil
}

// Abort ends a rollout.
func (b *Backend) Abort(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.request(func(q rollout.Request) rollout.Event {
		return rollout.AbortAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

// Hold refuses reloads until Unhold.
func (b *Backend) Hold(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	if r.Reason == "" {
		return nil, refused(400, "A hold needs a reason: the next person will want to know it.")
	}
	return b.request(func(q rollout.Request) rollout.Event {
		return rollout.HoldAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

// Unhold ends a hold.
func (b *Backend) Unhold(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.request(func(q rollout.Request) rollout.Event {
		return rollout.UnholdAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

// Scale asks for another number of workers.
func (b *Backend) Scale(by string, r api.ScaleRequest) (<-chan api.Event, error) {
	if r.Processes > 0 && r.Processes <= rollout.MaxProcesses {
		need := 0
		if !b.Loop.Call(func() { need = generations.SlotsFor(b.Generations.InForce(), r.Processes) }) {
			return nil, refused(503, "The master is ending.")
		}
		if err := b.Generations.Grow(need); err != nil {
			return nil, &api.Problem{Status: 409, Message: err.Error(), Result: api.ResultFailed}
		}
	}
	return b.request(func(q rollout.Request) rollout.Event {
		return rollout.ScaleAsked{Req: q, By: by, Why: r.Reason, Processes: r.Processes}
	}), nil
}

// Stop asks for the end of the service.
func (b *Backend) Stop(by string, r api.StopRequest) (<-chan api.Event, error) {
	if r.Announce != nil && *r.Announce < 0 {
		return nil, refused(400, "announce is negative: %s.", time.Duration(*r.Announce))
	}
	return b.request(func(q rollout.Request) rollout.Event {
		announce := b.Generations.InForce().Announce
		if r.Announce != nil {
			announce = time.Duration(*r.Announce)
		}
		return rollout.StopAsked{Req: q, By: by, Why: r.Reason, Now: r.Now, Patient: r.Patient, Announce: announce}
	}), nil
}

// Versions are the pinned ones.
func (b *Backend) Versions() []api.Version {
	var st rollout.Status
	b.Loop.Call(func() { st = b.Master.Machine() })
	list := b.Store.List()
	tried := b.Audit.Last(api.MaxHistory)
	out := make([]api.Version, len(list))
	for i, v := range list {
		out[i] = describe(v)
		out[i].Use = use(st, v.ID)
		out[i].Result = result(st, tried, v)
		out[i].Settings = config.ShowOwn(v.Settings)
		for _, d := range st.Closed {
			out[i].Closed = out[i].Closed || d == v.Digest
		}
	}
	return out
}

// PinVersion keeps a version, or lets it go again.
func (b *Backend) PinVersion(by, version string, on bool) (api.Version, error) {
	v, err := b.Store.Resolve(version)
	if err != nil {
		return api.Version{}, refused(404, "%s", err)
	}
	if err := b.Store.Hold(v.ID, on); err != nil {
		return api.Version{}, refused(500, "%s", err)
	}
	v.Held = on
	e := api.Entry{At: time.Now(), What: "pin", By: by, Version: v.Label, Digest: v.Digest, Outcome: api.ResultDone}
	if !on {
		e.What = "unpin"
	}
	b.Disk.Later("the history", func() error { return b.Audit.Append(e) })
	return describe(v), nil
}

// DiffVersions tells how two versions differ.
func (b *Backend) DiffVersions(x, y string) ([]string, error) {
	from, err := b.Store.Resolve(x)
	if err != nil {
		return nil, refused(404, "%s", err)
	}
	to, err := b.Store.Resolve(y)
	if err != nil {
		return nil, refused(404, "%s", err)
	}
	changes, err := b.Store.Diff(from.ID, to.ID)
	if err != nil {
		return nil, refused(500, "%s", err)
	}
	lines := make([]string, len(changes))
	for i, c := range changes {
		lines[i] = c.String()
	}
	return append(lines, diffSettings(from, to)...), nil
}

// diffSettings tells how what two versions keep of their settings differs. All other keys are
// those of the service, whichever of them runs.
func diffSettings(from, to version.Version) (lines []string) {
	for _, v := range []version.Version{from, to} {
		if len(v.Settings) == 0 {
			lines = append(lines, fmt.Sprintf("  settings: %s has none of its own, as an earlier masterd has kept it: "+
				"today's would be used", v))
		}
	}
	if len(lines) > 0 {
		return lines
	}
	for _, c := range config.DiffOwn(from.Settings, to.Settings) {
		lines = append(lines, version.Change{What: "setting", Name: c.Key, From: c.Old, To: c.New}.String())
	}
	return lines
}

// written waits, for a moment at most, for what is still on its way to the disk: who
// rolled back a second ago wants to see it.
func (b *Backend) written() {
	written := make(chan struct{})
	wait := time.NewTimer(historyWait)
	defer wait.Stop()
	if b.Disk.Put(func() { close(written) }, wait.C) {
		select {
		case <-written:
		case <-wait.C:
		}
	}
}

// History is the last n entries, newest first.
func (b *Backend) History(n int) api.History {
	b.written()
	entries := b.Audit.Last(n)
	slices.Reverse(entries)
	end := b.Audit.End()
	return api.History{Entries: entries, File: end.File, Line: end.Line, LineDigest: end.Digest}
}

// Events sends entries of the history to one reader, who holds up nobody else.
func (b *Backend) Events(ctx context.Context, since *uint64, n int, follow bool) <-chan api.Entry {
	b.written()
	var r *history.Reader
	if since != nil {
		r = b.Audit.After(*since)
	} else {
		r = b.Audit.Newest(n)
	}
	out := make(chan api.Entry)
	send := func() {
		defer close(out)
		for {
			entries, more := r.Next()
			for _, e := range entries {
				select {
				case out <- e:
				case <-ctx.Done():
					return
				case <-b.Loop.Life().Done():
					return
				}
			}
			if !follow {
				return
			}
			select {
			case <-more:
			case <-ctx.Done():
				return
			case <-b.Loop.Life().Done():
				return
			}
		}
	}
	if !b.Loop.Go(send) {
		close(out)
	}
	return out
}

// Logs sends the last lines of a worker's output, and with follow what comes.
func (b *Backend) Logs(ctx context.Context, uid uint32, worker uint64, n int, follow bool) (<-chan api.LogLine, error) {
	if follow {
		return b.Output.Follow(ctx, uid, worker, n)
	}
	lines := b.Output.Lines(worker, n)
	out := make(chan api.LogLine, len(lines))
	for _, l := range lines {
		out <- l
	}
	close(out)
	return out, nil
}

// describe is the form of a version that people and programs read. Values of
// its environment stay here: they may be secrets.
func describe(v version.Version) api.Version {
	out := api.Version{
		ID: v.ID, Label: v.Label, Digest: v.Digest, Program: v.Program, Pinned: v.Pinned, Mode: v.Mode, Why: v.Why,
		Args: v.Args, Dir: v.Dir, Created: v.Created, Size: v.Size, Held: v.Held,
	}
	for name := range v.Env {
		out.Env = append(out.Env, name)
	}
	slices.Sort(out.Env)
	return out
}

// use says what a version is needed for.
func use(st rollout.Status, id string) string {
	best := ""
	for _, g := range st.Generations {
		if g.Version.ID != id {
			continue
		}
		switch {
		case g.ID == st.Active:
			return "active"
		case g.ID == st.Parked:
			best = "parked"
		case g.Phase == rollout.PhaseDraining || g.Phase == rollout.PhaseStopping || g.Phase == rollout.PhaseKilled:
			if best == "" {
				best = "draining"
			}
		case best == "":
			best = "candidate"
		}
	}
	if best != "" {
		return best
	}
	if st.Baked != nil && st.Baked.ID == id {
		return "baked"
	}
	for _, k := range st.Kept {
		if k.ID == id {
			return "kept"
		}
	}
	return ""
}
