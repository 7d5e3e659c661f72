package master

import (
	"context"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/claims"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/conns"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/fdstore"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/logs"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/pkg/master/version"
	"github.com/masterd/masterd/pkg/master/workers"
)

var (
	_ sockets         = (*listen.Set)(nil)
	_ workers.Control = (*session.Session)(nil)
	_ workers.Process = (*proc.Process)(nil)
	_ versions        = (*version.Store)(nil)
	_ workers.Output  = (*logs.Output)(nil)
	_ notices         = (*notify.Server)(nil)
	_ stored          = (*fdstore.Store)(nil)
	_ containment     = (*contain.Workers)(nil)
	_ workers.Calls   = (*bindsub.Supervisor)(nil)
)

// hub is a session.Hub as the loop sees it.
type hub struct{ *session.Hub }

func (h hub) Expect(e session.Expect) workers.Control { return h.Hub.Expect(e) }

// logCollector is a logs.Collector as the loop sees it.
type logCollector struct{ *logs.Collector }

func (r logCollector) Add(id logs.Ident) (workers.Output, error) { return r.Collector.Add(id) }

func (r logCollector) Adopt(id logs.Ident) (workers.Output, error) { return r.Collector.Adopt(id) }

func (r logCollector) Follow(ctx context.Context, uid uint32, worker uint64, n int) (<-chan api.LogLine, error) {
	return r.Collector.Follow(ctx, uid, worker, n), nil
}

// host is the real system.
func host() system {
	return system{
		System: workers.System{
			Spawn:     func(s proc.Spec) (workers.Process, error) { return proc.Start(s) },
			Checker:   func(h config.Health) workers.Checker { return probe.New(h) },
			Adopt:     func(pid int, begun string, group int) (workers.Process, error) { return proc.Adopt(pid, begun, group) },
			Monotonic: ipc.Monotonic,
			Groups:    process.Groups,
			Conns:     conns.Of,
			Watch:     conns.NewWatch(),
			Has:       conns.Has,
			Listening: conns.Listening,
			Answer:    func(o bindsub.Options) (workers.Calls, error) { return bindsub.Begin(o) },
			Claims:    claims.Of,
			Processes: memory.Machine{}.ProcessesForUser,
			Bounding:  proc.Bounding,
		},
		takeover: takeover.System{Find: process.Find, KeepLive: state.KeepLive,
			KeepCounters: state.KeepCounters, Prove: takeover.ProveBinary},
		memory:    memory.Machine{}.Look,
		pressure:  memory.Machine{}.Pressure,
		usage:     memory.Machine{}.UsageOf,
		available: memory.Machine{}.Available,
		save:      state.Save,
		load:      state.Load,
	}
}
