package workers

import (
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// kind is what differs between workers of one worker.kind and of another: how they get
// their sockets, how they are told things, and how they are heard. The loop calls its
// methods, unless they say otherwise.
type kind interface {
	// register makes the worker known before its process exists.
	register()
	// equip adds to a spec what the process is given by its environment and by
	// descriptors, which are to be closed. It runs beside the loop.
	equip(spec *proc.Spec, env map[string]string) (files []int, err error)
	// begin begins to receive what the worker says: its process was started.
	begin() error
	// restore takes what an earlier master has noted; resume goes on with the worker.
	restore(l state.LiveWorker)
	resume()
	// note adds what another master would have to know.
	note(l *state.LiveWorker)

	activate(c rollout.Activate)
	park(c rollout.Park)
	drain(c rollout.Drain)
	announce()
	dump() error
	// signalled notes that the process was sent a signal that has it end.
	signalled()
	// dial reaches exactly this worker, as one of its listeners. What it returns is
	// used beside the loop.
	dial(listener string) probe.Dialer

	// hasSlots reports whether the sockets of its slot are the worker's.
	hasSlots() bool
	// saidReady reports whether the worker has said that it is ready.
	saidReady() bool
	// contained names its processes, leads is the number of their group.
	contained() contain.Worker
	leads() int
	// describe fills in what the worker says of itself.
	describe(aw *api.Worker)

	// awaitMessages waits for what the worker said just before it ended. It runs beside
	// the loop.
	awaitMessages(limit time.Duration)
	// exitText is an exit with what the worker has said about it, cut is what it cut.
	exitText(exit proc.Exit) string
	cut(exit proc.Exit) rollout.Cut
	// forget gives back what there was for the worker: it is gone, or never was. close does
	// at the end of the master, while the worker may go on.
	forget()
	close()
}

// kindOf returns what a worker is by its configuration; nowhere else it is asked. speaks
// says that it speaks the protocol, whatever the configuration says that could be found.
func (set *Set) kindOf(w *Worker, speaks bool) kind {
	switch {
	case speaks:
		return &sdk{Worker: w, set: set}
	case w.Generation.Config.Worker.Kind == config.KindUnmodified:
		u := &unmodified{activated: activated{Worker: w, set: set}}
		u.listens = u.listensEverywhere
		return u
	}
	return &activated{Worker: w, set: set}
}

// ReadyNotify is what worker.ready says where workers say READY=1.
const ReadyNotify = "notify"

// SaysReady reports whether a worker of another kind than sdk tells when it is ready.
func SaysReady(c *config.Config) bool {
	return c.Worker.Kind != config.KindSDK && (c.Worker.Ready == ReadyNotify || BindsItself(c))
}

// BindsItself reports whether workers bind what is configured by themselves; they are ready
// once they have.
func BindsItself(c *config.Config) bool {
	return c.Worker.Kind == config.KindUnmodified && len(c.Listeners) > 0
}
