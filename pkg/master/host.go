package master

import (
	"context"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/bindsub"
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
	"github.com/masterd/masterd/pkg/master/session"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/version"
)

var (
	_ sockets     = (*listen.Set)(nil)
	_ control     = (*session.Session)(nil)
	_ process     = (*proc.Process)(nil)
	_ versions    = (*version.Store)(nil)
	_ output      = (*logs.Output)(nil)
	_ notices     = (*notify.Room)(nil)
	_ stored      = (*fdstore.Store)(nil)
	_ containment = (*contain.Workers)(nil)
	_ calls       = (*bindsub.Room)(nil)
)

// hub is a session.Hub as the loop sees it.
type hub struct{ *session.Hub }

func (h hub) Expect(e session.Expect) control { return h.Hub.Expect(e) }

// logRoom is a logs.Room as the loop sees it.
type logRoom struct{ *logs.Room }

func (r logRoom) Add(id logs.Ident) (output, error) { return r.Room.Add(id) }

func (r logRoom) Adopt(id logs.Ident) (output, error) { return r.Room.Adopt(id) }

func (r logRoom) Follow(ctx context.Context, uid uint32, worker uint64, n int) (<-chan api.LogLine, error) {
	return r.Room.Follow(ctx, uid, worker, n), nil
}

// host is the real system.
func host() system {
	return system{
		spawn:     func(s proc.Spec) (process, error) { return proc.Start(s) },
		checker:   func(h config.Health) checker { return probe.New(h) },
		memory:    memory.Look,
		pressure:  memory.Pressure,
		usage:     memory.Usage,
		save:      state.Save,
		load:      state.Load,
		adopt:     func(pid int, begun string, group int) (process, error) { return proc.Adopt(pid, begun, group) },
		groups:    proc.Groups,
		conns:     conns.Of,
		has:       conns.Has,
		answer:    func(o bindsub.Options) (calls, error) { return bindsub.Begin(o) },
		find:      proc.FindWorkers,
		keepLive:  state.KeepLive,
		prove:     proveBinary,
		processes: memory.ProcessesForUser,
		bounding:  proc.Bounding,
	}
}
