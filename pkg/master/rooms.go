package master

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/conns"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/fdstore"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/version"
)

// What the loop needs of the world, as narrow as it can be: the rooms are
// behind it in a master, and fakes in the loop's tests, which run on a clock of
// their own. Everything here is safe for use from outside the loop.

// sockets is [listen.Set].
type sockets interface {
	Slots() int
	Name(slot int, ls []config.Listener)
	Grow(slots int) error
	Man(slot int, names []string, generation uint64) ([]listen.File, error)
	Quarantine(slot int)
	Steer(shares []listen.Share) error
	Shared() []string
	Add(ls []config.Listener) error
	Settle(ls []config.Listener) error
	Retain(ls []config.Listener)
	Status() []api.Listener
	Manned(slot int, names []string, generation uint64) error
	Places(slot int, names []string) ([]listen.Place, error)
	Ebb(slot int) (over func() bool)
	KeepAgain()
	Leave() error
	ProbeDial(ctx context.Context, slot int, listener string) (net.Conn, error)
	Close() error
}

// sessions is [session.Hub].
type sessions interface {
	Own(uid, gid int) error
	Expect(e session.Expect) control
	Forget(worker uint64)
	Close() error
}

// notices is [notify.Room].
type notices interface {
	Add(w notify.Worker) (path string, err error)
	Adopt(w notify.Worker, fd int) error
	Begin(id uint64, pid int)
	Main(id uint64, pid int)
	Heard(id uint64, limit time.Duration)
	Forget(id uint64)
	KeepAgain()
	PassPidfds()
	Close()
}

// stored is [fdstore.Store].
type stored interface {
	Add(name string, fds []int, poll bool, max int) error
	Remove(name string)
	Files() ([]fdstore.File, error)
	KeepAgain()
	Close()
}

// calls is [bindsub.Room].
type calls interface {
	KeepAgain()
	Close()
}

// control is [session.Session]: what can be said to one SDK worker.
type control interface {
	SetPID(pid int)
	Inherit() (fd int, err error)
	Renew(secret string) error
	Connected() bool
	Heard(limit time.Duration)
	Room() int
	Activate(names []string, fds []int) error
	ActivateWaiting(names []string, fds []int) error
	Pause() error
	Resume() error
	Park() error
	Drain(timeout time.Duration) error
	Give(fd int, to ipc.Peer) error
	Take(fd int, from ipc.Peer) error
	Stay() error
	Announce() error
	Dump() error
	Conn(listener, purpose string, fd int) error
	Kept(seq uint64, b ipc.Blob) error
	Blob(seq uint64, b ipc.Blob, fd int) error
	Refuse(seq uint64, why string) error
}

// process is [proc.Process].
type process interface {
	PID() int
	Done() <-chan struct{}
	Ended() bool
	Exit() proc.Exit
	Signal(sig syscall.Signal) error
	SignalAlone(sig syscall.Signal) error
	Spare(on bool)
	Contained() bool
	Filter() int
	SetOOMScoreAdj(score int) error
	Close()
}

// containment is [contain.Workers].
type containment interface {
	Cgroup() string
	Cgroups() []string
	Why() string
	Place(worker uint64) (fd int, err error)
	Processes(worker uint64) []int
	Of(pid int) (worker uint64, ok bool)
	Left() []uint64
	End(w contain.Worker) (ended []int, err error)
	EndAll(spare ...int) (ended []int, err error)
	Remove(worker uint64)
	Close()
}

// versions is [version.Store].
type versions interface {
	Pin(ctx context.Context, s version.Source) (version.Version, error)
	Get(id string) (version.Version, bool)
	List() []version.Version
	Resolve(name string) (version.Version, error)
	ExecutableBy(ctx context.Context, id string, by *version.User) (string, error)
	FileDigest(ctx context.Context, path string) (string, error)
	Hold(id string, on bool) error
	Diff(a, b string) ([]version.Change, error)
	Prune(keep int, inUse map[string]bool) ([]string, error)
}

// outputs is [logs.Room].
type outputs interface {
	Add(id logs.Ident) (output, error)
	Adopt(id logs.Ident) (output, error)
	Lines(worker uint64, n int) []api.LogLine
	Follow(ctx context.Context, uid uint32, worker uint64, n int) (<-chan api.LogLine, error)
	Dropped(worker uint64) uint64
	Close() error
}

// output is [logs.Output]: where one worker's output goes.
type output interface {
	FDs() (stdout, stderr int)
	Started()
	Finish()
}

// checker is [probe.Checker].
type checker interface {
	Check(ctx context.Context, w probe.Worker, dial probe.Dialer) error
	Warm(ctx context.Context, w probe.Worker, dial probe.Dialer) (made, failed int, err error)
	Reach(ctx context.Context, dial probe.Dialer) error
}

// system is the rest of it, as functions.
type system struct {
	spawn     func(proc.Spec) (process, error)
	checker   func(config.Health) checker
	memory    func(workers [][]int) rollout.Memory
	pressure  func() (bool, string)
	usage     func(pid int) (rss int64, fds int)
	groups    func() map[int][]int // processes by the group they are in
	conns     func(processes []int, at []netip.AddrPort, paths []string) (conns.Open, error)
	has       func(processes []int, sockets []uint64) ([]uint64, error) // which of them they have open
	answer    func(bindsub.Options) (calls, error)
	save      func(dir string, s rollout.State) error
	load      func(dir string) (rollout.State, error)
	adopt     func(pid int, begun string, group int) (process, error)
	find      func(dir string, match func(env []string) bool) []proc.Found
	bounding  func() uint64                                                    // the capabilities that the master and what it starts can have, a bit for each
	processes func(uid int) uint64                                             // how many processes a worker's user may have; zero: it is not known
	keepLive  func(dir string, encoded []byte) error                           // nil: nothing is kept
	prove     func(ctx context.Context, self Self) (version string, err error) // nil: there are no upgrades
}

// keeping is [keeper.Client].
type keeping interface {
	Put(name string, meta []byte, fd int) error
	Drop(name string) error
	Guard(g keeper.Guard) error
	Unguard() error
	PID() int
	End() error
	Leave()
}
