package master

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/admin"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// maxAsked is how many reloads may wait for the machine to say Prepare; a
// newer one takes the oldest one's place anyway.
const maxAsked = 64

// historyWait bounds the wait of a reader of the history for a slow disk.
const historyWait = time.Second

// backend is the master as the admin API sees it. Its methods run in the
// API's goroutines and ask the loop.
type backend struct{ m *Master }

var _ admin.Backend = backend{}

func refused(status int, format string, args ...any) error {
	return &api.Problem{Status: status, Message: fmt.Sprintf(format, args...), Result: api.ResultInvalid}
}

// Reload reads the configuration and asks for a rollout of what it names. A bad
// one is answered here; the machine never hears of it.
func (b backend) Reload(by string, owner bool, r api.ReloadRequest) (<-chan api.Event, error) {
	m := b.m
	cfg, err := m.reread()
	if err == nil && r.Binary != "" {
		if err := cfg.MayRun(r.Binary); err != nil && !owner {
			return nil, refused(403, "The reload was refused: %s.", err)
		}
		if cfg = config.WithCommand(cfg, r.Binary); !filepath.IsAbs(r.Binary) {
			err = fmt.Errorf("binary %q is not an absolute path", r.Binary)
		}
	}
	if err != nil {
		// Before the answer: a service manager that asked shows nothing of it.
		m.ask(func() { m.notifyTrouble("reload refused: " + err.Error()) })
		return nil, &api.Problem{Status: 422, Message: "The configuration was not taken over and what runs is untouched: " + err.Error(), Result: api.ResultFailed}
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
	events := m.reload(cfg, rollout.ReloadAsked{
		By: by, Origin: rollout.Person, Why: r.Reason, Until: until, Confirm: time.Duration(r.Confirm), Replace: r.Replace,
	}, r.Label)
	if r.Detach {
		return detached(events), nil
	}
	return events, nil
}

// reread is the configuration as it is on disk now, checked whole, and against
// what cannot change while the master runs.
func (m *Master) reread() (*config.Config, error) {
	cfg, err := m.opt.Reread()
	if err != nil {
		return nil, err
	}
	for _, c := range config.Diff(m.opt.Config, cfg) {
		if c.Restart {
			return nil, fmt.Errorf("%s changed and needs a restart of masterd; put it back, or restart the service when you can", c.Key)
		}
	}
	return cfg, nil
}

// reload asks the machine for a rollout of cfg.
func (m *Master) reload(cfg *config.Config, ask rollout.ReloadAsked, label string) <-chan api.Event {
	return m.request(func(req rollout.Request) rollout.Event {
		ask.Req, ask.Settings, ask.Token = req, settings(cfg), token(req)
		if len(m.asked) < maxAsked {
			m.asked[ask.Token] = &plan{cfg: cfg, label: label, by: ask.By, why: ask.Why}
		}
		return ask
	})
}

func (b backend) Rollback(by string, r api.RollbackRequest) (<-chan api.Event, error) {
	var to *rollout.Version
	if r.Version != "" {
		v, err := b.m.store.Resolve(r.Version)
		if err != nil {
			return nil, refused(404, "%s", err)
		}
		rv := ref(v)
		to = &rv
	}
	return b.m.request(func(req rollout.Request) rollout.Event {
		ask := rollout.RollbackAsked{Req: req, By: by, Origin: rollout.Person, Why: r.Reason, To: to}
		if to != nil {
			ask.Version = to.ID
		}
		return ask
	}), nil
}

func (b backend) Promote(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.m.request(func(q rollout.Request) rollout.Event {
		return rollout.PromoteAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

func (b backend) Abort(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.m.request(func(q rollout.Request) rollout.Event {
		return rollout.AbortAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

func (b backend) Hold(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	if r.Reason == "" {
		return nil, refused(400, "A hold needs a reason: the next person will want to know it.")
	}
	return b.m.request(func(q rollout.Request) rollout.Event {
		return rollout.HoldAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

func (b backend) Unhold(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.m.request(func(q rollout.Request) rollout.Event {
		return rollout.UnholdAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

func (b backend) Scale(by string, r api.ScaleRequest) (<-chan api.Event, error) {
	if r.Processes > 0 && r.Processes <= rollout.MaxProcesses {
		need := 0
		if !b.m.ask(func() { need = slotsFor(b.m.cfg, r.Processes) }) {
			return nil, refused(503, "The master is ending.")
		}
		if err := b.m.grow(need); err != nil {
			return nil, &api.Problem{Status: 409, Message: err.Error(), Result: api.ResultFailed}
		}
	}
	return b.m.request(func(q rollout.Request) rollout.Event {
		return rollout.ScaleAsked{Req: q, By: by, Why: r.Reason, Processes: r.Processes}
	}), nil
}

func (b backend) Stop(by string, r api.StopRequest) (<-chan api.Event, error) {
	if r.Announce != nil && *r.Announce < 0 {
		return nil, refused(400, "announce is negative: %s.", time.Duration(*r.Announce))
	}
	return b.m.request(func(q rollout.Request) rollout.Event {
		announce := b.m.cfg.Announce
		if r.Announce != nil {
			announce = time.Duration(*r.Announce)
		}
		return rollout.StopAsked{Req: q, By: by, Why: r.Reason, Now: r.Now, Patient: r.Patient, Announce: announce}
	}), nil
}

func (b backend) Versions() []api.Version {
	var st rollout.Status
	b.m.ask(func() { st = b.m.machine.Status() })
	list := b.m.store.List()
	out := make([]api.Version, len(list))
	for i, v := range list {
		out[i] = describe(v)
		out[i].Use = use(st, v.ID)
		for _, d := range st.Closed {
			out[i].Closed = out[i].Closed || d == v.Digest
		}
	}
	return out
}

func (b backend) PinVersion(by, version string, on bool) (api.Version, error) {
	v, err := b.m.store.Resolve(version)
	if err != nil {
		return api.Version{}, refused(404, "%s", err)
	}
	if err := b.m.store.Hold(v.ID, on); err != nil {
		return api.Version{}, refused(500, "%s", err)
	}
	v.Held = on
	e := api.Entry{At: time.Now(), What: "pin", By: by, Version: v.Label, Digest: v.Digest, Outcome: api.ResultDone}
	if !on {
		e.What = "unpin"
	}
	b.m.queueDisk("the history", func() error { return b.m.history.Append(e) })
	return describe(v), nil
}

func (b backend) DiffVersions(x, y string) ([]string, error) {
	from, err := b.m.store.Resolve(x)
	if err != nil {
		return nil, refused(404, "%s", err)
	}
	to, err := b.m.store.Resolve(y)
	if err != nil {
		return nil, refused(404, "%s", err)
	}
	changes, err := b.m.store.Diff(from.ID, to.ID)
	if err != nil {
		return nil, refused(500, "%s", err)
	}
	lines := make([]string, len(changes))
	for i, c := range changes {
		lines[i] = c.String()
	}
	return lines, nil
}

// History waits, for a moment at most, for what is still on its way to the
// disk: who rolled back a second ago wants to see it.
func (b backend) History(n int) api.History {
	written := make(chan struct{})
	wait := time.NewTimer(historyWait)
	defer wait.Stop()
	if b.m.disk.put(call{do: func() { close(written) }}, wait.C) {
		select {
		case <-written:
		case <-wait.C:
		}
	}
	entries := b.m.history.Last(n)
	slices.Reverse(entries)
	end := b.m.history.End()
	return api.History{Entries: entries, File: end.File, Line: end.Line, LineDigest: end.Digest}
}

func (b backend) Logs(ctx context.Context, uid uint32, worker uint64, n int, follow bool) (<-chan api.LogLine, error) {
	if follow {
		return b.m.output.Follow(ctx, uid, worker, n)
	}
	lines := b.m.output.Lines(worker, n)
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
