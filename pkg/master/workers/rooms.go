package workers

import (
	"context"
	"net"
	"net/netip"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/claims"
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
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/version"
)

// What workers need of the rooms, as narrow as it can be. Everything here is safe for use
// from outside the loop.

// Keeper is [keeper.Registry].
type Keeper interface {
	keeper.Holder
	TakeOne(name string) (fd int, there bool)
}

// Sockets is [listen.Set].
type Sockets interface {
	Name(slot int, ls []config.Listener)
	Man(slot int, names []string, generation uint64) ([]listen.File, error)
	Assigned(slot int, names []string, generation uint64) error
	Places(slot int, names []string) ([]listen.Place, error)
	Quiesce(slot int) (over func() bool)
	ProbeDial(ctx context.Context, slot int, listener string) (net.Conn, error)
}

// Sessions is [session.Hub].
type Sessions interface {
	Expect(e session.Expect) Control
	Forget(worker uint64)
}

// Notices is [notify.Server].
type Notices interface {
	Add(w notify.Worker) (path string, err error)
	Adopt(w notify.Worker, fd int) error
	Begin(id uint64, pid int)
	Main(id uint64, pid int)
	Heard(id uint64, limit time.Duration)
	Forget(id uint64)
}

// Stored is [fdstore.Store].
type Stored interface {
	Add(name string, fds []int, poll bool, max int) error
	Remove(name string)
	Files() ([]fdstore.File, error)
}

// Containment is [contain.Workers].
type Containment interface {
	Place(worker uint64) (fd int, err error)
	Enter(ctx context.Context, worker uint64, pid int, l contain.Limits) error
	Processes(worker uint64) []int
	Of(pid int) (worker uint64, ok bool)
	End(w contain.Worker) (ended []int, err error)
	Remove(worker uint64)
}

// Versions is [version.Store].
type Versions interface {
	ExecutableBy(ctx context.Context, id string, by *version.User) (string, error)
}

// Outputs is [logs.Collector].
type Outputs interface {
	Add(id logs.Ident) (Output, error)
	Adopt(id logs.Ident) (Output, error)
}

// System is the rest of it, as functions.
type System struct {
	Spawn     func(proc.Spec) (Process, error)
	Adopt     func(pid int, begun string, group int) (Process, error)
	Checker   func(config.Health) Checker
	Monotonic func() time.Duration // CLOCK_MONOTONIC
	Groups    func() map[int][]int // processes by the group they are in
	Conns     func(processes []int, at []netip.AddrPort, paths []string) (conns.Open, error)
	Watch     *conns.Watch                                              // nil: connections cannot be closed one at a time
	Has       func(processes []int, sockets []uint64) ([]uint64, error) // which of them they have open
	Listening func(processes []int) ([]netip.AddrPort, error)           // on what they listen by TCP
	Answer    func(bindsub.Options) (Calls, error)
	// Claims are what processes have beside listeners; nil: nobody looks.
	Claims    func(processes []int, args []string) (claims.Claims, error)
	Bounding  func() uint64        // the capabilities that the master and what it starts can have, a bit for each
	Processes func(uid int) uint64 // how many processes a worker's user may have; zero: it is not known
}

// Calls is [bindsub.Supervisor].
type Calls interface{ Close() }

// Control is [session.Session]: what can be said to one SDK worker.
type Control interface {
	SetPID(pid int)
	Inherit() (fd int, err error)
	Renew(secret string) error
	Connected() bool
	Spoke() bool
	Heard(limit time.Duration)
	Capacity() int
	Activate(names []string, fds []int) error
	ActivateWaiting(names []string, fds []int) error
	Pause() error
	Resume() error
	Park() error
	Drain(timeout time.Duration) error
	Give(fd int, to ipc.Peer) error
	Split(fd int, to ipc.Peer, share ipc.Split) (seq uint64, err error)
	Take(fd int, from ipc.Peer) error
	Stay() error
	Compare(c *ipc.Compare) (seq uint64, err error)
	Announce() error
	Dump() error
	Conn(listener, purpose string, fd int) error
	Kept(seq uint64, b ipc.Blob) error
	Blob(seq uint64, b ipc.Blob, fd int) error
	Refuse(seq uint64, why string) error
}

// Process is [proc.Process].
type Process interface {
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

// Output is [logs.Output]: where one worker's output goes.
type Output interface {
	FDs() (stdout, stderr int)
	Started()
	Finish()
}

// Checker is [probe.Checker].
type Checker interface {
	Check(ctx context.Context, w probe.Worker, dial probe.Dialer) error
	Warm(ctx context.Context, w probe.Worker, dial probe.Dialer) (made, failed int, err error)
	Reach(ctx context.Context, dial probe.Dialer) error
}
