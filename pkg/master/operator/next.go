package operator

import (
	"fmt"
	"slices"
	"strconv"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// maxNext is how many commands the status proposes.
const maxNext = 3

// next are the commands that can help in a state, the likeliest first. None of them would be
// refused. broken: the configuration on disk cannot be used.
func next(st rollout.Status, s api.Status, broken bool) (all []api.Next) {
	add := func(why string, args ...string) {
		same := func(n api.Next) bool { return slices.Equal(n.Args, args) }
		if len(all) < maxNext && !slices.ContainsFunc(all, same) {
			all = append(all, api.Next{Args: args, Why: why})
		}
	}
	logs := func(worker uint64, what string) {
		n := strconv.FormatUint(worker, 10)
		add("what worker "+n+" "+what, "logs", "--worker", n)
	}
	to := s.RollbackTarget
	back := func() {
		if to.Refused == "" {
			add(to.String(), "rollback")
		}
	}
	if st.Stopping {
		return nil
	}
	confirm := !to.Due.IsZero()
	if confirm {
		add("keeps "+s.Active.Version.Label+", which is taken back otherwise", "promote")
		back()
	}
	if loop, ended := looping(st, s.Now); loop != "" {
		logs(uint64(ended.Worker), "wrote before it ended")
		back()
	}
	for _, w := range workersOf(s, uint64(st.Active)) {
		switch {
		case w.Phase == string(rollout.PhaseBackoff):
			logs(w.ID, "wrote before it ended")
			back()
		case w.Phase == string(rollout.PhaseActive) && !w.Healthy:
			logs(w.ID, "writes, which fails its checks")
			back()
		}
		if len(all) > 0 {
			break
		}
	}
	if !st.Serving {
		add("what the workers wrote", "logs", "-n", "100")
		back()
	}
	if broken {
		add("what is wrong in the file; nothing can be reloaded until it is mended", "check", "--config", s.ConfigFile)
	}
	if st.Hold != "" {
		add("reloads are allowed again", "unhold")
	}
	if st.Rollout == nil && st.Waits != nil {
		add("gives up the automatic reload that waits", "abort")
	}
	switch r := st.Rollout; {
	case r == nil && !broken && st.Hold == "" && st.LastFailure != nil:
		add("how it came to that", "history")
		add("tries again what is on disk, once it is mended", "reload")
	case r == nil && !broken && st.Hold == "" && (s.FileDiffers != "" || !st.Serving):
		add("runs what is on disk now", "reload")
	case r == nil, confirm:
	case r.Stage == rollout.StageCanary, r.Paused != "":
		nextStep(*r, add)
	case r.Stage == rollout.StageBake:
		add(fmt.Sprintf("ends the bake of %s now, as passed", r.Version.Label), "promote")
		back()
	case r.What != "start":
		add("gives up the "+r.What+" that is on its way", "abort")
		add("shows how it goes on", "status", "--watch")
	}
	if st.LastFailure != nil {
		add("how it came to that", "history")
	}
	return all
}

func workersOf(s api.Status, generation uint64) []api.Worker {
	for _, g := range s.Generations {
		if g.ID == generation {
			return g.Workers
		}
	}
	return nil
}

// target is the form of where a rollback leads that people and programs read.
func target(t rollout.Target) *api.RollbackTarget {
	return &api.RollbackTarget{Generation: uint64(t.Generation), Version: t.Version.Label, Warm: t.Warm,
		Unmoved: t.Unmoved, Due: t.Due, Refused: t.Refused}
}

// target is that with the name of what was never baked, where nothing else is there.
func (b *Backend) target(t rollout.Target, machine func() rollout.Status) *api.RollbackTarget {
	out := target(t)
	if t.Refused != rollout.NothingKept {
		return out
	}
	var runs []string
	st := machine()
	for _, g := range st.Generations {
		if g.ID == st.Active || st.Rollout != nil && g.ID == st.Rollout.Generation {
			runs = append(runs, g.Version.ID)
		}
	}
	out.Refused += rollout.Unbaked(b.stored(), st.Closed, runs...)
	return out
}

// stored are all versions that can be named, newest first.
func (b *Backend) stored() (all []rollout.Version) {
	for _, v := range b.Store.List() {
		all = append(all, generations.Ref(v))
	}
	return all
}
