package master

import (
	"fmt"
	"maps"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/version"
)

// Status joins what the machine knows with what the rooms know. Only the
// machine's part is taken in the loop; what /proc and the kernel say is read
// outside of it.
func (b backend) Status() api.Status {
	m := b.m
	s := api.Status{
		Schema: api.Schema, Now: time.Now(), ConfigFile: m.opt.Config.File,
		Master: api.Master{PID: os.Getpid(), Version: m.opt.Version, Since: m.started, Restored: m.opt.Restored, Keeper: m.keeper.PID(),
			Cgroup: m.contain.Cgroup(), NoCgroup: m.contain.Why()},
	}
	var (
		cfg      *config.Config
		degraded string
		refused  error
		running  version.Version
		st       rollout.Status
		leads    = map[uint64]int{} // the groups of workers
	)
	if !m.ask(func() {
		cfg, degraded, refused, st = m.cfg, m.degraded, m.refused, m.machine.Status()
		if g := m.generations[st.Active]; g != nil {
			running = g.version
		}
		m.describeGenerations(&s, st)
		for id, w := range m.workers {
			if w.process != nil {
				leads[uint64(id)] = w.leads()
			}
		}
		for _, b := range m.blobs.List() {
			s.Blobs = append(s.Blobs, api.Blob{Name: b.Name, Size: b.Size, Generation: b.Generation, Since: b.Since, Persist: b.Persist})
		}
	}) {
		s.State = "stopping"
		return s
	}
	s.Service, s.Environment = cfg.Service, cfg.Environment
	s.Listeners = m.sockets.Status()
	groups := sync.OnceValue(m.system.groups) // a look at all processes there are
	for g := range s.Generations {
		for i := range s.Generations[g].Workers {
			w := &s.Generations[g].Workers[i]
			if leader, runs := leads[w.ID]; runs {
				m.uses.of(w, func() []int { return m.processesOf(w.ID, leader, groups) }, m.system.usage)
			}
			w.Dropped = m.output.Dropped(w.ID)
		}
	}
	s.FileDiffers = m.fileDiffers(cfg, running)
	s.Drains = st.Drains
	if degraded != "" && m.fileUsable() {
		degraded = "" // FileDiffers says how the file and what runs differ
	}
	s.State, s.Reasons = judge(st, s, degraded, m.lastLine)
	lacks := m.lacks(refused)
	if s.State == "serving" && len(lacks) > 0 {
		s.State = "degraded"
	}
	s.Reasons = append(append(s.Reasons, lacks...), m.weak()...)
	return s
}

// processesOf are the processes of a worker that has one: those in its cgroup, or those
// in its process group.
func (m *Master) processesOf(worker uint64, leader int, groups func() map[int][]int) []int {
	pids := m.contain.Processes(worker)
	if len(pids) == 0 {
		pids = groups()[leader]
	}
	if len(pids) == 0 {
		pids = []int{leader}
	}
	return pids
}

// useShare is how long what a worker uses is not looked at again, in times of what the
// look took: one with thousands of processes keeps nobody busy who asks for the status.
const useShare = 10

// uses are what workers use, by worker.
type uses struct {
	mu   sync.Mutex
	last map[uint64]used
}

type used struct {
	until          time.Time // it is not looked at again before
	processes, fds int
	rss            int64
}

// of adds up what a worker's processes use. Others who ask wait for that, and get the same.
func (u *uses) of(w *api.Worker, processes func() []int, usage func(pid int) (rss int64, fds int)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	begun := time.Now()
	maps.DeleteFunc(u.last, func(_ uint64, l used) bool { return !begun.Before(l.until) })
	l, known := u.last[w.ID]
	if !known {
		pids := processes()
		l.processes = len(pids)
		for _, pid := range pids {
			rss, fds := usage(pid)
			l.rss += rss
			l.fds += fds
		}
		l.until = time.Now().Add(useShare * time.Since(begun))
		if u.last == nil {
			u.last = map[uint64]used{}
		}
		u.last[w.ID] = l
	}
	w.Processes, w.RSS, w.FDs = l.processes, l.rss, l.fds
}

// describeGenerations fills in what the loop knows.
func (m *Master) describeGenerations(s *api.Status, st rollout.Status) {
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
			Workers: []api.Worker{},
		}
		if known := m.generations[g.ID]; known != nil {
			out.Version = describe(known.version)
		}
		if total > 0 {
			out.Weight = int(100 * weights[g.ID] / total)
		}
		for _, w := range g.Workers {
			aw := api.Worker{
				ID: uint64(w.ID), PID: w.PID, Phase: string(w.Phase), Since: w.Since, Deadline: w.Deadline,
				Healthy: w.Healthy, LastProbe: w.LastProbe, Restarts: w.Restarts,
			}
			for _, to := range w.Gives {
				aw.GivesTo = append(aw.GivesTo, uint64(to))
			}
			if r := m.workers[w.ID]; r != nil {
				if r.process != nil {
					aw.PID = r.process.PID() // the one that it names as its main one
				}
				aw.Started, aw.InFlight, aw.Open, aw.Requests = r.started, r.stats.InFlight, r.stats.Open, r.stats.Requests
				aw.Protocol = r.protocol
				aw.Says, aw.Uncounted = r.saying(), r.session == nil
				aw.LongestMS, aw.Cut = max(r.stats.LongestMS, 0), describeCut(r.cutSoFar())
			}
			out.Workers = append(out.Workers, aw)
		}
		s.Generations = append(s.Generations, out)
		if g.ID == st.Active {
			s.Active = &api.Deployment{Generation: uint64(g.ID), Version: out.Version, Since: g.Since, Baked: g.Baked}
			if m.active.generation == g.ID {
				s.Active.Since, s.Active.By, s.Active.Why = m.active.since, m.active.by, m.active.why
			}
		}
	}
	if r := st.Rollout; r != nil {
		s.Rollout = &api.Rollout{
			ID: uint64(r.ID), Trace: m.trace(r.ID), What: r.What, By: r.By, Why: r.Why, Generation: uint64(r.Generation),
			Version: r.Version.Label, Stage: string(r.Stage), Since: r.Since, Deadline: r.Deadline,
		}
	}
	if st.Last != nil {
		e := entry(*st.Last)
		s.Last = &e
	}
	if st.LastFailure != nil {
		e := entry(*st.LastFailure)
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
	for _, g := range s.Generations {
		if g.ID != uint64(st.Active) {
			continue
		}
		for _, w := range g.Workers {
			switch {
			case w.Phase == string(rollout.PhaseBackoff):
				why = append(why, fmt.Sprintf("Worker %d is gone; its replacement waits.", w.ID))
			case w.Phase == string(rollout.PhaseActive) && !w.Healthy:
				why = append(why, fmt.Sprintf("Worker %d fails its checks: %s.", w.ID, w.LastProbe))
			}
		}
	}
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
func (m *Master) lastLine(w rollout.Worker) string {
	lines := m.output.Lines(uint64(w), lastLines)
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

// fileUsable: the configuration on disk can be used.
func (m *Master) fileUsable() bool {
	_, err := m.opt.Reread()
	return err == nil
}

// announced says what a stop is doing that only waits.
func announced(left time.Duration) string {
	return fmt.Sprintf("Announced: workers serve on and answer readiness checks with 503; they drain in %s.",
		max(left, 0).Round(time.Second))
}

// fileDiffers tells how the configuration and the program on disk differ from
// what runs; empty: they do not, or it cannot be known.
func (m *Master) fileDiffers(running *config.Config, v version.Version) string {
	file, err := m.opt.Reread()
	if err != nil {
		return "the configuration on disk cannot be used: " + err.Error()
	}
	if changes := config.Diff(running, file); len(changes) > 0 {
		others := ""
		if n := len(changes); n > 1 {
			others = fmt.Sprintf(" (%d keys in all)", n)
		}
		return changes[0].Key + " changed on disk since it was loaded" + others + "; `masterd reload` takes it over"
	}
	if v.Digest == "" {
		return ""
	}
	switch digest, err := m.store.FileDigest(m.life, file.Worker.Command[0]); {
	case err != nil:
		return fmt.Sprintf("the program on disk cannot be read: %v; the pinned one runs", err)
	case digest != v.Digest:
		return "the program on disk is not the one that runs; `masterd reload` rolls over to it"
	}
	return ""
}
