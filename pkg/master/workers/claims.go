package workers

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/claims"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// What workers have beside their listeners, and what two versions do to each other by that.

const (
	// claimsAfter is how long after a generation was activated its claims are looked at: a
	// program may open a side port, or write its pid file, once it serves.
	claimsAfter = time.Second
	// maxBeside bounds what is remembered of each kind.
	maxBeside = 16
)

// beside is what is known of a generation's claims. The loop owns it.
type beside struct {
	looked  bool
	looking int     // looks that go on
	ended   *Worker // that of another version that ended meanwhile: it may have taken something along
	claims  claims.Claims
	by      rollout.Worker // whose they are
	shared  []string       // ports that it has together with another version
	lost    []lost
}

// lost is a path of a newer version's that an older one has removed.
type lost struct{ path, text string }

// lookOnce looks at a generation's claims a while after it was activated.
func (set *Set) lookOnce(w *Worker) {
	if !w.Generation.beside.looked {
		w.Generation.beside.looked = true
		set.lookAtClaims(w, claimsAfter)
	}
}

// lookAtClaims finds out what a worker has beside its listeners.
func (set *Set) lookAtClaims(w *Worker, after time.Duration) {
	if set.System.Claims == nil || w.process == nil {
		return
	}
	id, leader := uint64(w.ID), w.kind.leads()
	args, own := w.names()
	w.Generation.beside.looking++
	set.Loop.Go(func() {
		wait := time.NewTimer(after)
		defer wait.Stop()
		select {
		case <-wait.C:
		case <-set.Loop.Done():
			return
		}
		found, err := set.System.Claims(set.Processes(id, leader, set.System.Groups), args)
		named := func(path string) bool {
			return slices.ContainsFunc(own, func(text string) bool { return strings.Contains(text, filepath.Base(path)) })
		}
		found.Sockets = slices.DeleteFunc(found.Sockets, named)
		found.PIDFiles = slices.DeleteFunc(found.PIDFiles, named)
		set.Loop.Post(func() { set.claimed(w, found, err) })
	})
}

// names are the arguments that a worker was started with, and those and its variables with its
// own number, or its generation's, in them: what is named there no other version has.
func (w *Worker) names() (args, own []string) {
	g := w.Generation
	for _, raw := range g.Version.Args {
		arg := config.ExpandWorker(raw, uint64(w.ID), uint64(g.ID))
		if args = append(args, arg); arg != raw {
			own = append(own, arg)
		}
	}
	for _, raw := range g.Version.Env {
		if value := config.ExpandWorker(raw, uint64(w.ID), uint64(g.ID)); value != raw {
			own = append(own, value)
		}
	}
	return args, own
}

// claimed takes what was found. A path is not forgotten because it is gone.
func (set *Set) claimed(w *Worker, found claims.Claims, err error) {
	b := &w.Generation.beside
	if b.looking--; b.looking == 0 && b.ended != nil {
		defer set.lookForMissing(w, b.ended)
		b.ended = nil
	}
	if err != nil {
		set.Log.Debug("what a worker has beside its listeners cannot be seen", append(set.Fields(w), zap.Error(err))...)
		return
	}
	before := b.said(w.Generation)
	add := func(to *[]string, paths []string) {
		for _, p := range paths {
			if !slices.Contains(*to, p) && len(*to) < maxBeside {
				*to = append(*to, p)
			}
		}
	}
	b.by, b.claims.Ports = w.ID, found.Ports
	add(&b.claims.Sockets, found.Sockets)
	add(&b.claims.PIDFiles, found.PIDFiles)
	if text := b.said(w.Generation); text != "" && text != before {
		set.Log.Warn("a worker has more than its listeners, and two versions run at once in a reload",
			append(set.Fields(w), zap.String("reason", text))...)
	}
}

func (b *beside) said(g *Generation) string { return b.claims.Say(uint64(b.by), BindsItself(g.Config)) }

// shares finds out whether another version has a port that a worker binds, and notes it.
func (set *Set) shares(w *Worker, f bindsub.Sharing) {
	set.Loop.Go(func() {
		rival := set.rival(w, f.At, f.Dual, true)
		if rival == "" {
			return
		}
		set.Loop.Post(func() {
			why := f.With(rival)
			set.Log.Warn("two versions share a port", append(set.Fields(w), zap.String("reason", why))...)
			if b := &w.Generation.beside; len(b.shared) < maxBeside {
				b.shared = append(b.shared, fmt.Sprintf("Worker %d: %s.", w.ID, why))
			}
		})
	})
}

// HeldByWorker says of an address that nobody else has than a worker of this service what that
// needs: the worker has bound it by itself, without what a slot must have before it is bound.
func HeldByWorker(e *listen.Error, worker uint64) error {
	said := *e
	said.Holder += fmt.Sprintf(", worker %d of this service", worker)
	said.Advice = "it has bound that by itself, and a socket that is bound cannot become a listener's. Restart the " +
		"service once, with this configuration (" + claims.Restart + "), or first reload a version that does not bind " +
		"it; from then on reloads keep it"
	return &said
}

// ofActive is a worker of the generation that has the traffic, if that is not this one's; nil:
// there is none.
func (set *Set) ofActive(but *Worker) *Worker {
	active := set.Master.Machine().Active
	if active == but.Generation.ID {
		return nil
	}
	for _, w := range set.All() {
		if w.Generation.ID == active {
			return w
		}
	}
	return nil
}

// lookForLost finds out whether a worker that is gone has taken along what the version that
// has the traffic had made in its place.
func (set *Set) lookForLost(gone *Worker) {
	w := set.ofActive(gone)
	if w == nil || set.Master.Machine().Stopping { // then all goes
		return
	}
	if b := &w.Generation.beside; b.looking > 0 {
		b.ended = gone
	}
	set.lookForMissing(w, gone)
}

// lookForMissing finds out what of a worker's is not there any more, and says that the one that
// is gone has taken it along.
func (set *Set) lookForMissing(w, gone *Worker) {
	paths := w.Generation.beside.claims.Paths()
	if len(paths) == 0 {
		return
	}
	set.Loop.Go(func() {
		missing := slices.DeleteFunc(paths, claims.There)
		set.Loop.Post(func() {
			for _, path := range missing {
				set.loses(w, gone, path)
			}
		})
	})
}

func (set *Set) loses(w, gone *Worker, path string) {
	b := &w.Generation.beside
	if len(b.lost) == maxBeside || slices.ContainsFunc(b.lost, func(l lost) bool { return l.path == path }) {
		return
	}
	text := fmt.Sprintf("%s is gone: worker %d of generation %d (%s) has made it, and worker %d of generation %d (%s) "+
		"has removed it when it ended. Give each version one of its own, or none: what a reload makes, it loses again",
		path, w.ID, w.Generation.ID, w.Generation.Version.Label, gone.ID, gone.Generation.ID, gone.Generation.Version.Label)
	b.lost = append(b.lost, lost{path, text})
	set.Log.Warn("an older version has removed what the newer one had made",
		append(set.Fields(w), zap.String("reason", text))...)
}

// Beside says what there is to know of what a generation has beside its listeners, for people.
// Another version runs: then there is more to say. What is called when it is to be shown looks at
// the disk, beside the loop.
func (g *Generation) Beside(another bool) (show func() []string) {
	b := g.beside
	said, lost := b.said(g), slices.Clone(b.lost)
	var shared []string
	if another {
		shared = slices.Clone(b.shared)
	}
	return func() (all []string) {
		if said != "" {
			all = append(all, said)
		}
		all = append(all, shared...)
		for _, l := range lost {
			if !claims.There(l.path) {
				all = append(all, l.text+".")
			}
		}
		return all
	}
}
