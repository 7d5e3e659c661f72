package operator

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// Status joins what the machine knows with what the rooms know. Only the
// machine's part is taken in the loop; what /proc and the kernel say is read
// outside of it.
func (b *Backend) Status() api.Status {
	s := api.Status{
		Schema: api.Schema, Now: time.Now(), ConfigFile: b.Config.File,
		Master: api.Master{PID: os.Getpid(), Version: b.Version, Since: b.started, Restored: b.Takeover.Restored,
			Keeper: b.Takeover.Keeper.PID(),
			Cgroup: b.Contain.Cgroup(), NoCgroup: b.Contain.Why()},
	}
	var (
		cfg      *config.Config
		degraded string
		refused  error
		running  version.Version
		st       rollout.Status
		last     tried
		leads    = map[uint64]int{} // the groups of workers
		beside   = func() []string { return nil }
		versions = map[uint64]version.Version{} // by generation
	)
	if !b.Loop.Call(func() {
		cfg, degraded, refused = b.Generations.InForce(), b.Generations.Degraded(), b.Generations.Refused()
		st = b.Master.Machine()
		last.rollout, last.config, last.digest = b.Generations.Tried()
		if g := b.Generations.Get(st.Active); g != nil {
			running = g.Version
			beside = g.Beside(len(st.Generations) > 1)
		}
		b.describeGenerations(&s, st)
		for _, g := range b.Generations.All() {
			versions[uint64(g.ID)] = g.Version
		}
		for _, w := range b.Workers.All() {
			if leader := w.Leads(); leader != 0 {
				leads[uint64(w.ID)] = leader
			}
		}
		for _, kept := range b.Blobs.List() {
			s.Blobs = append(s.Blobs, api.Blob{Name: kept.Name, Size: kept.Size, Generation: kept.Generation,
				Since: kept.Since, Persist: kept.Persist})
		}
	}) {
		s.State = "stopping"
		return s
	}
	s.Service, s.Environment = cfg.Service, cfg.Environment
	s.Listeners = b.Sockets.Status()
	groups := sync.OnceValue(b.Workers.System.Groups) // a look at all processes there are
	var strays []string
	for i := range s.Generations {
		g := &s.Generations[i]
		v := versions[g.ID]
		changed := b.changed(v)
		for i := range g.Workers {
			w := &g.Workers[i]
			if leader, runs := leads[w.ID]; runs {
				stray := b.uses.of(w, func() []int { return b.Workers.Processes(w.ID, leader, groups) }, func(pid int) used {
					return used{Usage: b.Usage(pid), stray: strayed(pid, changed)}
				})
				if stray != 0 {
					strays = append(strays, sayStray(stray, w.ID, v))
				}
			}
			w.Dropped = b.Output.Dropped(w.ID)
		}
	}
	broken := false
	s.FileDiffers, broken = b.fileDiffers(cfg, running, func(file *config.Config, digest string) (string, bool) {
		since := s.Now
		if s.Active != nil {
			since = s.Active.Since
		}
		return last.again(st, file, digest, since, s.Now)
	})
	s.Drains = st.Drains
	if degraded != "" && b.Generations.FileUsable() {
		degraded = "" // FileDiffers says how the file and what runs differ
	}
	s.State, s.Reasons = judge(st, s, degraded, b.lastLine)
	lacks := b.lacks(refused)
	if s.State == "serving" && len(lacks) > 0 {
		s.State = "degraded"
	}
	s.Reasons = append(append(append(s.Reasons, lacks...), b.Takeover.Weak()...), beside()...)
	s.Reasons = append(s.Reasons, strays...)
	s.RollbackTarget = b.target(st.Target, func() rollout.Status { return st })
	s.Next = next(st, s, broken)
	return s
}

// describeGenerations fills in what the loop knows.
func (b *Backend) describeGenerations(s *api.Status, st rollout.Status) {
	active := b.Generations.Active()
	if st.Hold != "" {
		s.Hold = &api.Hold{Reason: st.Hold, By: st.HoldBy}
	}
	total, weights := uint32(0), map[rollout.Generation]uint32{}
	for _, slot := range st.Slots {
		weights[slot.Generation] += slot.Weight
		total += slot.Weight
	}
	for _, g := range st.Generations {
		out := api.Generation{
			ID: uint64(g.ID), Phase: string(g.Phase), Since: g.Since, Deadline: g.Deadline, Baked: g.Baked,
			Version: api.Version{ID: g.Version.ID, Label: g.Version.Label, Digest: g.Version.Digest},
			Workers: []api.Worker{}, Recent: b.recentOf(uint64(g.ID)),
		}
		if known := b.Generations.Get(g.ID); known != nil {
			out.Version = describe(known.Version)
		}
		if total > 0 {
			out.Weight = int(100 * weights[g.ID] / total)
			out.Share = percent(weights[g.ID], total)
		}
		for _, w := range g.Workers {
			aw := api.Worker{
				ID: uint64(w.ID), PID: w.PID, Phase: string(w.Phase), Since: w.Since, Deadline: w.Deadline,
				Healthy: w.Healthy, LastProbe: w.LastProbe, Restarts: w.Restarts,
			}
			for _, to := range w.Gives {
				aw.GivesTo = append(aw.GivesTo, uint64(to))
			}
			if r := b.Workers.Get(w.ID); r != nil {
				r.Describe(&aw)
			}
			out.Workers = append(out.Workers, aw)
		}
		s.Generations = append(s.Generations, out)
		if g.ID == st.Active {
			s.Active = &api.Deployment{Generation: uint64(g.ID), Version: out.Version, Since: g.Since, Baked: g.Baked}
			if active.Generation == g.ID {
				s.Active.Since, s.Active.By, s.Active.Why = active.Since, active.By, active.Why
			}
		}
	}
	if r := st.Rollout; r != nil {
		s.Rollout = &api.Rollout{
			ID: uint64(r.ID), Trace: b.Generations.Trace(r.ID), What: r.What, By: r.By, Why: r.Why,
			Generation: uint64(r.Generation),
			Version:    r.Version.Label, Stage: string(r.Stage), Since: r.Since, Deadline: r.Deadline,
			Steps: steps(r.Steps), Step: r.Step, Paused: r.Paused, Analysis: b.analysis(uint64(r.ID)),
			Inconclusive: string(r.Awaits),
		}
	}
	if w := st.Waits; w != nil {
		s.Waits = &api.Waiting{By: w.By, Until: w.Until, Why: w.Why}
	}
	if st.Last != nil {
		e := b.ended(*st.Last)
		s.Last = &e
	}
	if st.LastFailure != nil {
		e := b.ended(*st.LastFailure)
		s.LastFailure = &e
	}
	if st.LastCut != nil {
		e := entry(*st.LastCut)
		s.LastCut = &e
	}
}

// judge says how the service is, and why not simply "serving". lastLine is the last
// that a worker wrote.
func judge(st rollout.Status, s api.Status, degraded string, lastLine func(rollout.Worker) string) (string, []string) {
	var why []string
	if degraded != "" {
		why = append(why, degraded)
	}
	if loop, ended := looping(st, s.Now); loop != "" {
		said := "It wrote nothing."
		if line := lastLine(ended.Worker); line != "" {
			said = "Its last line: " + line
		}
		why = append(why, fmt.Sprintf("%s The last one, worker %d, %s. %s", loop, ended.Worker, ended.How, said))
	}
	why = append(why, ailing(workersOf(s, uint64(st.Active)))...)
	switch {
	case st.Stopping && !st.Drains.IsZero():
		return "stopping", append([]string{announced(st.Drains.Sub(s.Now))}, why...)
	case st.Stopping:
		return "stopping", why
	case !st.Serving && st.Active == 0 && st.LastFailure == nil:
		return "starting", why
	case !st.Serving:
		return "down", append([]string{"No live worker has the traffic."}, why...)
	case len(why) > 0:
		return "degraded", why
	}
	return "serving", nil
}

// ailing says what is wrong with workers, once for all of whom it is the same.
func ailing(ws []api.Worker) (why []string) {
	type ailment struct {
		gone bool
		said string // by its check
	}
	of := map[ailment][]uint64{}
	var order []ailment
	for _, w := range ws {
		a := ailment{said: w.LastProbe}
		switch {
		case w.Phase == string(rollout.PhaseBackoff):
			a = ailment{gone: true}
		case w.Phase != string(rollout.PhaseActive) || w.Healthy:
			continue
		}
		if of[a] == nil {
			order = append(order, a)
		}
		of[a] = append(of[a], w.ID)
	}
	for _, a := range order {
		switch n := len(of[a]); {
		case a.gone && n == 1:
			why = append(why, fmt.Sprintf("Worker %d is gone; its replacement waits.", of[a][0]))
		case a.gone:
			why = append(why, fmt.Sprintf("%d of %d workers are gone; their replacements wait.", n, len(ws)))
		case n == 1:
			why = append(why, fmt.Sprintf("Worker %d fails its checks: %s.", of[a][0], a.said))
		default:
			why = append(why, fmt.Sprintf("%d of %d workers fail their checks: %s.", n, len(ws), a.said))
		}
	}
	return why
}

// loopExits is from how many unexpected exits within restart.loop_window on a
// service is degraded, though each worker was started again: one may be chance.
const loopExits = 2

// looping says that workers of the active generation end again and again; empty:
// they do not.
func looping(st rollout.Status, now time.Time) (string, rollout.Ending) {
	for _, g := range st.Generations {
		if g.ID != st.Active {
			continue
		}
		n := 0
		for _, t := range g.Exits {
			if now.Sub(t) <= g.Window {
				n++
			}
		}
		if n >= loopExits {
			return fmt.Sprintf("Workers ended unexpectedly %d times within restart.loop_window (%s).", n, g.Window), g.Ended
		}
	}
	return "", rollout.Ending{}
}

// maxSaid is how much of a worker's last line a reason shows, in bytes.
const maxSaid = 200

// lastLine is the last that a worker wrote that is not empty.
func (b *Backend) lastLine(w rollout.Worker) string {
	lines := b.Output.Lines(uint64(w), lastLines)
	for i := len(lines) - 1; i >= 0; i-- {
		if text := strings.TrimSpace(lines[i].Text); text != "" {
			if len(text) > maxSaid {
				text = strings.ToValidUTF8(text[:maxSaid], "") + "…"
			}
			return text
		}
	}
	return ""
}

// announced says what a stop is doing that only waits.
func announced(left time.Duration) string {
	return fmt.Sprintf("Announced: workers serve on and answer readiness checks with 503; they drain in %s.",
		max(left, 0).Round(time.Second))
}

// lacks tells what a master does without, that serves all the same.
func (b *Backend) lacks(refused error) (reasons []string) {
	if refused != nil {
		reasons = append(reasons, generations.WhyRefused(refused))
	}
	if err := b.Journal.Unopened(); err != nil {
		reasons = append(reasons, fmt.Sprintf("The log goes to standard error: %v. Mend that, and type: kill -USR1 %d", err,
			os.Getpid()))
	}
	if b.Metrics != nil {
		if err := b.Metrics.Trouble(); err != nil {
			reasons = append(reasons, fmt.Sprintf("Metrics are not served: %v. Free the address of admin.metrics; "+
				"it is tried again each second.", err))
		}
	}
	if err := b.Audit.Unwritten(); err != nil {
		reasons = append(reasons,
			fmt.Sprintf("The history is in memory alone: %v. Mend that, and type: masterd upgrade", err))
	}
	return reasons
}

// Counts are what the service has counted, and what no next master will fall behind; nothing, when
// the master is ending.
func (b *Backend) Counts() counters.Snapshot { return b.Takeover.Counts() }
