package master

import (
	"context"
	"errors"
	"time"

	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/fdstore"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/operator"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/pkg/master/traffic"
	"github.com/masterd/masterd/pkg/master/workers"
)

// What the loop needs of the world, as narrow as it can be: the rooms are
// behind it in a master, and fakes in the loop's tests, which run on a clock of
// their own. Everything here is safe for use from outside the loop.

// sockets is [listen.Set].
type sockets interface {
	workers.Sockets
	traffic.Sockets
	generations.Sockets
	operator.Sockets
	Leave() error
	Close() error
}

// sessions is [session.Hub].
type sessions interface {
	workers.Sessions
	Close() error
}

// notices is [notify.Server].
type notices interface {
	workers.Notices
	takeover.Notices
	Close()
}

// stored is [fdstore.Store].
type stored interface {
	workers.Stored
	Close()
}

// containment is [contain.Workers].
type containment interface {
	workers.Containment
	takeover.Containment
	operator.Containment
	EndAll(spare ...int) (ended []int, err error)
	Close()
}

// versions is [version.Store].
type versions interface {
	workers.Versions
	generations.Versions
	operator.Versions
}

// outputs is [logs.Collector].
type outputs interface {
	workers.Outputs
	operator.Output
	Close() error
}

// system is the rest of it, as functions.
type system struct {
	workers.System
	takeover  takeover.System
	memory    func(workers [][]int) rollout.Memory
	pressure  func() (bool, string)
	usage     func(pid int) memory.Usage
	available func() (bytes uint64, known bool)
	save      func(dir string, s rollout.State) error
	load      func(dir string) (rollout.State, error)
}

// noNotices stands where workers are not heard by sd_notify.
type noNotices struct{}

func (noNotices) Add(notify.Worker) (string, error) { return "", nil }
func (noNotices) Adopt(notify.Worker, int) error    { return nil }
func (noNotices) Begin(uint64, int)                 {}
func (noNotices) Main(uint64, int)                  {}
func (noNotices) Heard(uint64, time.Duration)       {}
func (noNotices) Forget(uint64)                     {}
func (noNotices) PassPidfds()                       {}
func (noNotices) Close()                            {}

// noStore stands where no descriptors are stored.
type noStore struct{}

func (noStore) Add(string, []int, bool, int) error { return errors.New("nothing is stored here") }
func (noStore) Remove(string)                      {}
func (noStore) Files() ([]fdstore.File, error)     { return nil, nil }
func (noStore) Close()                             {}

// noContain stands where workers are not kept together.
type noContain struct{}

func (noContain) Cgroup() string            { return "" }
func (noContain) Cgroups() []string         { return nil }
func (noContain) Why() string               { return "" }
func (noContain) Place(uint64) (int, error) { return -1, nil }
func (noContain) Enter(context.Context, uint64, int, contain.Limits) error {
	return errors.New("workers are not kept together")
}
func (noContain) Processes(uint64) []int            { return nil }
func (noContain) Of(int) (uint64, bool)             { return 0, false }
func (noContain) Left() []uint64                    { return nil }
func (noContain) End(contain.Worker) ([]int, error) { return nil, nil }
func (noContain) EndAll(...int) ([]int, error)      { return nil, nil }
func (noContain) Remove(uint64)                     {}
func (noContain) Close()                            {}
