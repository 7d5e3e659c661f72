// Package workers has a service's workers: one object for each process, and what the
// master holds for it. There are three kinds; what one must do is in kind.go.
//
// A [Set] is told by the machine's commands and tells the machine facts. It belongs to the
// master's loop: all methods are called there, unless they say otherwise.
package workers

import (
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/compare"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/loop"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// ControlSocket is the name in the runtime directory of the socket where SDK workers
// connect again.
const ControlSocket = "control.sock"

// Options are what a set needs of its master. Rooms may be set later, before they are
// needed.
type Options struct {
	Loop       *loop.Loop
	Log        *zap.Logger
	RuntimeDir string
	Shim       []string          // how the exec shim is started; nil: this program
	Env        map[string]string // what workers are given of the master's environment
	Beat       time.Duration     // how often SDK workers are to say that they live
	Master     Master

	Keeper   Keeper
	Versions Versions
	Sockets  Sockets
	Sessions Sessions
	Notices  Notices
	Stored   Stored
	Contain  Containment
	Output   Outputs
	Blobs    *blob.Set
	Counters *counters.Set
	System   System

	Comparisons *compare.Set
}

// Master is the loop's owner, as far as workers matter to it.
type Master interface {
	Step(ev rollout.Event)   // tells the machine a fact
	Machine() rollout.Status // what the machine knows
	InForce() *config.Config // the configuration in force
	Trace(id rollout.Rollout) string
	LatencyRecord() compare.Record // what reloads of an unchanged program have shown
	KeepLive() bool                // writes down what the next master must know
	Effect(what any)               // a moment at which a test may have the master die
	Accepting(w *Worker)           // it accepts on its slot
	Connected(w *Worker)           // it can be passed connections
	Ending(w *Worker)              // its process is gone, and the machine is about to be told
	Ended()                        // and has been told
}

// Set are all workers there are.
type Set struct {
	Options
	started   time.Time // of this master
	workers   map[rollout.Worker]*Worker
	finishing map[rollout.Worker]chan struct{} // gone, but their output is still being read

	comparison comparison
}

// New makes an empty set.
func New(o Options) *Set {
	return &Set{Options: o, started: time.Now(), workers: map[rollout.Worker]*Worker{},
		finishing: map[rollout.Worker]chan struct{}{}}
}

// Get is the worker of this number; nil: there is none.
func (set *Set) Get(id rollout.Worker) *Worker { return set.workers[id] }

// Len is how many there are.
func (set *Set) Len() int { return len(set.workers) }

// All are all workers, by their numbers.
func (set *Set) All() []*Worker {
	all := make([]*Worker, 0, len(set.workers))
	for _, id := range slices.Sorted(maps.Keys(set.workers)) {
		all = append(all, set.workers[id])
	}
	return all
}

// Finished is closed when the output of a worker was read to its end; nil: nobody knows
// of that worker any more.
func (set *Set) Finished(id rollout.Worker) <-chan struct{} {
	if w := set.workers[id]; w != nil {
		return w.finished // it is about to end
	}
	return set.finishing[id]
}

// Close lets go of what is held for workers, which may go on.
func (set *Set) Close() {
	for _, w := range set.workers {
		w.kind.close()
	}
}

// Of is the worker of this service that was started with an environment. It may be
// called from anywhere.
func (set *Set) Of(env []string) (id uint64, ok bool) {
	if !slices.Contains(env, ipc.EnvRuntimeDir+"="+set.RuntimeDir) {
		return 0, false
	}
	for _, e := range env {
		if v, is := strings.CutPrefix(e, ipc.EnvWorker+"="); is {
			n, err := strconv.ParseUint(v, 10, 64)
			return n, err == nil
		}
	}
	return 0, false
}

// sdk is the worker with this number, if it speaks the protocol.
func (set *Set) sdk(id rollout.Worker) *sdk {
	if w := set.workers[id]; w != nil {
		s, _ := w.kind.(*sdk)
		return s
	}
	return nil
}

// sdks are all workers that speak the protocol, by their numbers.
func (set *Set) sdks() (all []*sdk) {
	for _, w := range set.All() {
		if s, speaks := w.kind.(*sdk); speaks {
			all = append(all, s)
		}
	}
	return all
}

// postEvent posts a fact from beside the loop.
func (set *Set) postEvent(ev rollout.Event) { set.Loop.Post(func() { set.Master.Step(ev) }) }

// Processes are the processes of a worker that has one: those in its cgroup, or those
// in its process group, whose number is leader. It may be called from anywhere.
func (set *Set) Processes(worker uint64, leader int, groups func() map[int][]int) []int {
	pids := set.Contain.Processes(worker)
	if len(pids) == 0 {
		pids = groups()[leader]
	}
	if len(pids) == 0 {
		pids = []int{leader}
	}
	return pids
}
