package master

import (
	"cmp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// What a worker has started must not outlive it: it may hold the worker's sockets and
// go on taking connections, or read what the next version is to have.

// place has a worker's process started in the worker's cgroup, if there is one. The
// descriptor is to be closed.
func (m *Master) place(w *worker, spec *proc.Spec) (fd int) {
	fd, err := m.contain.Place(uint64(w.id))
	if err != nil {
		m.log.Warn("a worker gets no cgroup; what it leaves behind is found by its environment", append(m.fields(w), zap.Error(err))...)
		return -1
	}
	if fd > 0 {
		spec.Cgroup = fd
	}
	return fd
}

// restLimit is how long the news of a worker's end waits for the end of what the worker
// has left. Usually nobody is left then; clients must not wait longer for who is.
const restLimit = 500 * time.Millisecond

// endRestInTime is endRest, and returns after restLimit at the latest. It is called
// beside the loop, before the machine is told of the end.
func (m *Master) endRestInTime(w contain.Worker) {
	over := make(chan struct{})
	if !m.beside(func() { defer close(over); m.endRest(w) }) {
		return // the end of the service ends it
	}
	late := time.NewTimer(restLimit)
	defer late.Stop()
	select {
	case <-over:
	case <-late.C:
		m.log.Warn("what a worker has left behind takes long to end; the worker is replaced meanwhile", zap.Uint64("worker", w.ID))
	}
}

// endRest ends what is left of a worker whose process is gone. It is called beside the
// loop.
func (m *Master) endRest(w contain.Worker) {
	ended, err := m.contain.End(w)
	if len(ended) > 0 {
		m.log.Warn("what a worker has left behind was ended", zap.Uint64("worker", w.ID), zap.Ints("processes", ended))
	}
	if err != nil {
		m.log.Error("what a worker has left behind does not end", zap.Uint64("worker", w.ID), zap.Error(err))
	}
}

// contained names a worker's processes.
func (w *worker) contained() contain.Worker {
	c := contain.Worker{ID: uint64(w.id)}
	if w.process != nil && w.group == 0 && w.former == nil {
		c.PID, c.Begun = w.process.PID(), w.begun
	}
	return c
}

// endAll ends, when the service has stopped, what is left of all workers there were.
func (m *Master) endAll() {
	ended, err := m.contain.EndAll(m.keeper.PID())
	if len(ended) > 0 {
		m.log.Warn("what workers have left behind was ended with the service", zap.Ints("processes", ended))
	}
	if err != nil {
		m.log.Error("what workers have left behind does not end", zap.Error(err))
	}
}

// operators tells the environment of hooks and of checks and drains by a program, which
// the operator has written.
func operators(env []string) bool {
	return slices.ContainsFunc(env, func(e string) bool {
		return strings.HasPrefix(e, "MASTERD_HOOK=") || strings.HasPrefix(e, "MASTERD_WORKER_PID=")
	})
}

// reapOrphans waits for children that the kernel has given to this process, until the
// loop ends.
func (m *Master) reapOrphans() {
	var orphans proc.Orphans
	tick := time.NewTicker(proc.OrphanWait)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			orphans.Look()
		case <-m.done:
			return
		}
	}
}

// processesOfService are those that carry this service's name in their environment, by
// the worker that they are, or that has started them; the oldest first.
func (m *Master) processesOfService() map[uint64][]proc.Found {
	all := map[uint64][]proc.Found{}
	for _, p := range m.system.find(m.opt.Config.RuntimeDir, func(env []string) bool { _, ours := m.workerOf(env); return ours }) {
		if id, ok := m.workerOf(p.Env); ok {
			all[id] = append(all[id], p)
		}
	}
	for _, found := range all {
		slices.SortFunc(found, func(a, b proc.Found) int { return cmp.Compare(age(a), age(b)) })
	}
	return all
}

// leadersIn are the processes in a worker's cgroup that lead their groups: those to
// whom a stop signal is sent.
func (m *Master) leadersIn(id uint64) (found []proc.Found) {
	for _, pid := range m.contain.Processes(id) {
		group, err := syscall.Getpgid(pid)
		if err != nil || group != pid {
			continue
		}
		if begun, err := proc.Begun(pid); err == nil {
			found = append(found, proc.Found{PID: pid, Begun: begun, Leads: true})
		}
	}
	return found
}

func age(p proc.Found) uint64 {
	n, _ := strconv.ParseUint(p.Begun, 10, 64)
	return n
}

// unknownLeft are workers of this service that no master knows of, by what is left of
// them: what the last one has left could not be written, or not be read, or their first
// process has ended since. They may be all that serves, so they are ended only when
// others do.
func (m *Master) unknownLeft(all map[uint64][]proc.Found) {
	for _, id := range m.contain.Left() {
		if _, there := all[id]; !there {
			all[id] = m.leadersIn(id)
		}
	}
	for _, w := range m.workers {
		delete(all, uint64(w.id))
	}
	for id, found := range all {
		m.firstWorker = max(m.firstWorker, rollout.Worker(id))
		u := unknown{id: id}
		for _, p := range found {
			if !p.Leads {
				continue // signalled with its group, or ended with the rest
			}
			if taken, err := m.system.adopt(p.PID, p.Begun, 0); err == nil {
				u.leaders = append(u.leaders, taken)
			}
		}
		m.log.Warn("processes of this service that no master knows of; they are ended when others serve", zap.Uint64("worker", id), zap.Int("found", len(found)))
		m.unknown = append(m.unknown, u)
	}
}

// unknown is what is left of a worker that no master knows of.
type unknown struct {
	id      uint64
	leaders []process // of process groups
}

// endUnknown asks them to end, and kills those that do not.
func (m *Master) endUnknown() {
	for _, u := range m.unknown {
		for _, p := range u.leaders {
			_ = p.Signal(signals[m.cfg.Worker.StopSignal])
		}
		var late <-chan time.Time // never, without a limit
		if limit := m.cfg.Drain.Timeout; limit > 0 {
			late = time.After(limit + m.cfg.Drain.KillAfter)
		}
		m.beside(func() {
			defer func() {
				for _, p := range u.leaders {
					p.Close()
				}
			}()
			over := false // their time is
			for _, p := range u.leaders {
				select {
				case <-p.Done():
					continue
				default:
				}
				if !over {
					select {
					case <-p.Done():
						continue
					case <-late:
					case <-m.done:
						if m.exit == nil {
							return // another master is to look after them
						}
					}
					over = true
				}
				_ = p.Signal(signals["KILL"])
			}
			m.endRest(contain.Worker{ID: u.id})
		})
	}
	m.unknown = nil
}

// noContain stands where workers are not kept together.
type noContain struct{}

func (noContain) Cgroup() string                    { return "" }
func (noContain) Cgroups() []string                 { return nil }
func (noContain) Why() string                       { return "" }
func (noContain) Place(uint64) (int, error)         { return -1, nil }
func (noContain) Processes(uint64) []int            { return nil }
func (noContain) Of(int) (uint64, bool)             { return 0, false }
func (noContain) Left() []uint64                    { return nil }
func (noContain) End(contain.Worker) ([]int, error) { return nil, nil }
func (noContain) EndAll(...int) ([]int, error)      { return nil, nil }
func (noContain) Remove(uint64)                     {}
func (noContain) Close()                            {}
