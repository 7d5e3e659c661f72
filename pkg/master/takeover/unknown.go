package takeover

import (
	"cmp"
	"slices"
	"strconv"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/workers"
)

// processesOfService are those that carry this service's name in their environment, by
// the worker that they are, or that has started them; the oldest first.
func (t *Takeover) processesOfService() map[uint64][]process.Found {
	all := map[uint64][]process.Found{}
	for _, p := range t.System.Find(t.RuntimeDir, func(env []string) bool { _, ours := t.Workers.Of(env); return ours }) {
		if id, ok := t.Workers.Of(p.Env); ok {
			all[id] = append(all[id], p)
		}
	}
	for _, found := range all {
		slices.SortFunc(found, func(a, b process.Found) int { return cmp.Compare(age(a), age(b)) })
	}
	return all
}

// leadersIn are the processes in a worker's cgroup that lead their groups: those to
// whom a stop signal is sent.
func (t *Takeover) leadersIn(id uint64) (found []process.Found) {
	for _, pid := range t.Contain.Processes(id) {
		group, err := syscall.Getpgid(pid)
		if err != nil || group != pid {
			continue
		}
		if begun, err := process.Begun(pid); err == nil {
			found = append(found, process.Found{PID: pid, Begun: begun, Leads: true})
		}
	}
	return found
}

func age(p process.Found) uint64 {
	n, _ := strconv.ParseUint(p.Begun, 10, 64)
	return n
}

// unknownLeft finds workers of this service that no master knows of, by what is left of
// them: what the last one has left could not be written, or not be read, or their first
// process has ended since. They may be all that serves, so they are ended only when
// others do.
func (t *Takeover) unknownLeft(all map[uint64][]process.Found) {
	for _, id := range t.Contain.Left() {
		if _, there := all[id]; !there {
			all[id] = t.leadersIn(id)
		}
	}
	for _, w := range t.Workers.All() {
		delete(all, uint64(w.ID))
	}
	for id, found := range all {
		t.first = max(t.first, rollout.Worker(id))
		u := unknown{id: id}
		for _, p := range found {
			if !p.Leads {
				continue // signalled with its group, or ended with the rest
			}
			if taken, err := t.Workers.System.Adopt(p.PID, p.Begun, 0); err == nil {
				u.leaders = append(u.leaders, taken)
			}
		}
		t.Log.Warn("processes of this service that no master knows of; they are ended when others serve",
			zap.Uint64("worker", id), zap.Int("found", len(found)))
		t.unknown = append(t.unknown, u)
	}
}

// unknown is what is left of a worker that no master knows of.
type unknown struct {
	id      uint64
	leaders []workers.Process // of process groups
}

// EndUnknown asks those to end of whom no master knows, and kills those that do not.
func (t *Takeover) EndUnknown() {
	c := t.Generations.InForce()
	for _, u := range t.unknown {
		for _, p := range u.leaders {
			_ = p.Signal(workers.Signals[c.Worker.StopSignal])
		}
		var late <-chan time.Time // never, without a limit
		if limit := c.Drain.Timeout; limit > 0 {
			late = time.After(limit + c.Drain.KillAfter)
		}
		t.Loop.Go(func() {
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
					case <-t.Loop.Done():
						if !t.Master.Stopped() {
							return // another master is to look after them
						}
					}
					over = true
				}
				_ = p.Signal(workers.Signals["KILL"])
			}
			t.Workers.EndLeftover(contain.Worker{ID: u.id})
		})
	}
	t.unknown = nil
}
