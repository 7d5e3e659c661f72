// Package takeover has what one master leaves for the next, and takes over what the one
// before has left. Both a master that was killed and one that is upgraded are followed in
// this way. What must not die with a master is elsewhere: sockets and kept state in the
// keeper, output in files, workers in themselves, decisions in live.json.
//
//  1. A master writes before it acts ([Takeover.KeepLive]): the machine's snapshot, and the
//     workers with their process ids and start times, are in live.json before a command is
//     carried out that follows from them. No secret is in it: a worker's is there as a digest.
//  2. The next master takes the lock, reads live.json (of this boot only), joins the keeper
//     ([Takeover.Open]), finds the workers by process id and start time, and holds each by a
//     pidfd ([Takeover.Adopt]). It opens its rooms with what the keeper holds for them: it
//     binds nothing, and steers nothing anew before the machine says so.
//  3. The machine is resumed (rollout/resume.go). Its first command is one Steer to those
//     that are to have the traffic. A rollout goes forward only if all traffic was known to
//     be its candidate's, and back otherwise. What may have been said to a worker and was not
//     answered is said again.
//  4. SDK workers connect by themselves and prove who they are, by their secret and their
//     process id. Their hello says what the earlier master had made of them, so that only
//     what is missing is said (workers/reconnect.go, which bounds the wait for them).
//  5. Workers of this service that no live.json knows are ended once others serve
//     (unknown.go).
//
// An upgrade is the same with a proof before it and the process id kept: the new program
// proves in a process of its own that it can read configuration and state ([Takeover.Prove]),
// the loop ends and leaves everything as it is ([Takeover.Leave]), and the process executes
// the new program. How masterd was started ([Self]) is resolved once and carried over each
// exec. Who asked, and why, is in live.json until the new master is proven, so that whoever
// is master then can record how it ended ([Takeover.RecordTakeover]). Meanwhile the keeper
// stands by with the old program ([Takeover.Guard]).
//
// The simulation's master dies between any two commands (rollout/death_test.go), and a build
// with the tag masterd_dies does so with real processes (cmd/masterd/dies.go).
//
// A [Takeover] belongs to the master's loop: all methods are called there, or before it
// begins, unless they say otherwise.
package takeover

import (
	"context"
	"os"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/disk"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/loop"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/workers"
)

// Options are what a takeover needs of its master. Contain, Notices and System may be set
// later, before they are needed.
type Options struct {
	Loop       *loop.Loop
	Log        *zap.Logger
	RuntimeDir string
	Version    string // of this masterd, for people
	Self       Self   // how this process was started; no program: no upgrades
	Restored   string // who was to take this one's place and died; empty: nobody
	// who supervises masterd beside the service manager; nil: nobody
	Report      *os.File
	Given       []listen.Given                            // listening sockets of the service manager's
	Parse       func(text []byte) (*config.Config, error) // reads a kept configuration
	Workers     *workers.Set
	Generations *generations.Set
	Blobs       *blob.Set
	Counters    *counters.Set
	Disk        *disk.Writer
	Master      Master

	Contain Containment
	Notices Notices
	System  System
}

// Master is the loop's owner, as far as another master matters to it.
type Master interface {
	Machine() rollout.Status    // what the machine knows
	Snapshot() rollout.Snapshot // all of that, for another machine
	Waiting() int               // connections that are about to be passed to a worker
	Effect(what any)            // a moment at which a test may have the master die
	Record(e api.Entry)         // adds to the history
	Ousted() bool               // the runtime directory is another master's by now
	// the service has ended, and nobody takes it over; once the loop is done anybody may ask
	Stopped() bool
}

// Containment is [contain.Workers].
type Containment interface {
	Cgroup() string
	Cgroups() []string
	Left() []uint64
	Processes(worker uint64) []int
}

// Notices is [notify.Server].
type Notices interface{ PassPidfds() }

// System is what is asked of the host, as functions.
type System struct {
	Find     func(dir string, match func(env []string) bool) []process.Found
	KeepLive func(dir string, encoded []byte) error // nil: nothing is kept
	// KeepCounters writes beside the loop; nil: they are not kept.
	KeepCounters func(dir string, encoded []byte) error
	Prove        func(ctx context.Context, self Self) (version string, err error) // nil: there are no upgrades
}

// Takeover is what a master has of the one before it, and leaves to the next.
type Takeover struct {
	Options
	Keeper    Keeper
	boot      string             // the host's; empty: it was not opened
	inherits  bool               // the last master has left something
	left      *state.Live        // what it has left; nil: nothing, or forgotten
	deserted  bool               // none of its workers lives, known or not
	found     *rollout.Found     // who of its workers lives; nil: nobody
	unknown   []unknown          // who lives and is not known
	first     rollout.Worker     // numbers up to this one are theirs
	file      liveFile           // what the next one is left
	counted   countersFile       // and what the service has counted
	successor *successor         // another masterd takes this one's place
	proving   <-chan struct{}    // closed when the keeper knows that this one is proven; nil: it is not told yet
	upgrade   *state.LiveUpgrade // that, or the one that this masterd has come by until it has proved itself
}

// New makes one that has taken nothing over yet, and has no keeper.
func New(o Options) *Takeover {
	t := &Takeover{Options: o, Keeper: noKeeper{}}
	t.file.configs.Store(-1)
	t.counted.reader = make(chan struct{}, 1)
	return t
}

// Inherits reports whether an earlier master has left anything.
func (t *Takeover) Inherits() bool { return t.inherits }

// Found are the workers of an earlier master that live, as its machine knew them; nil: there
// are none.
func (t *Takeover) Found() *rollout.Found { return t.found }

// First is the number up to which all are those of workers of earlier masters.
func (t *Takeover) First() rollout.Worker { return t.first }

// Deserted reports whether no worker of an earlier master lives, known or not.
func (t *Takeover) Deserted() bool { return t.deserted }

// Weak tells what is wrong with masterd itself; the service may be well. It may be called
// from any goroutine.
func (t *Takeover) Weak() (reasons []string) {
	if t.Restored != "" {
		reasons = append(reasons, t.Restored+" was to take over and died; this masterd is back.")
	}
	if t.Self.Program != "" && t.Keeper.PID() == 0 {
		reasons = append(reasons, "There is no keeper: should masterd die now, its sockets die with it.")
	}
	return reasons
}
