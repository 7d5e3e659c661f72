package workers

import (
	"fmt"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/proc"
)

// What a worker has started must not outlive it: it may hold the worker's sockets and
// go on taking connections, or read what the next version is to have.

// place has a worker's process started in the worker's cgroup, if there is one. With
// limits of its own that is a scope of systemd's, without which it is not started. The
// descriptor is to be closed.
func (set *Set) place(w *Worker, spec *proc.Spec) (fd int) {
	if l := Limits(w.Generation.Config); l.Any() {
		l.Description = fmt.Sprintf("masterd: %s, worker %d of generation %d", set.Master.InForce().Service, w.ID,
			w.Generation.ID)
		spec.Enter = func(pid int) error { return set.Contain.Enter(set.Loop.Life(), uint64(w.ID), pid, l) }
		return -1
	}
	fd, err := set.Contain.Place(uint64(w.ID))
	if err != nil {
		set.Log.Warn("a worker gets no cgroup; what it leaves behind is found by its environment",
			append(set.Fields(w), zap.Error(err))...)
		return -1
	}
	if fd > 0 {
		spec.Cgroup = fd
	}
	return fd
}

// Limits are those that a worker has together with all that it starts.
func Limits(c *config.Config) contain.Limits {
	return contain.Limits{Tasks: c.Worker.Tasks, Memory: c.Worker.Memory, MemoryHigh: c.Worker.MemoryHigh}
}

// outOfMemory says what may have ended a worker with a limit of memory. systemd removes
// the scope, with the kernel's count in it, as soon as nobody is there.
func (w *Worker) outOfMemory(exit proc.Exit) string {
	if exit.Signal != syscall.SIGKILL || w.asked || w.Generation.Config.Worker.Memory == 0 {
		return ""
	}
	return fmt.Sprintf("; masterd did not send that, it may have had all of worker.limits.memory: "+
		"journalctl -k -g 'Killed process %d' says so if the kernel has ended it", w.process.PID())
}

// LeftoverLimit is how long the news of a worker's end waits for the end of what the worker
// has left. Usually nobody is left then; clients must not wait longer for who is.
const LeftoverLimit = 500 * time.Millisecond

// backgroundWithin is how soon after its start a program that goes into the background has
// done that, its data loaded.
const backgroundWithin = 5 * time.Minute

// background says that a worker's program has gone into the background, if that is how it
// has ended, and what to do about it: it came to a good end of its own, soon, and something
// of it was left.
func (w *Worker) background(exit proc.Exit, left bool) string {
	if !left || exit != (proc.Exit{}) || w.asked || w.leaving || time.Since(w.Started) > backgroundWithin {
		return ""
	}
	how := w.Generation.Config.Worker.Foreground()
	if how == "" {
		how = "leave out what makes it a daemon, or add its flag for that: --foreground, --nodaemon, --no-fork"
	}
	return fmt.Sprintf("; it went into the background, and masterd has ended what it left there: run it in the "+
		"foreground (%s)", how)
}

// endLeftoverInTime is EndLeftover, and returns after LeftoverLimit at the latest. It is called
// beside the loop, before the machine is told of the end.
func (set *Set) endLeftoverInTime(w contain.Worker) (left bool) {
	over := make(chan bool, 1)
	if !set.Loop.Go(func() { over <- set.EndLeftover(w) }) {
		return false // the end of the service ends it
	}
	late := time.NewTimer(LeftoverLimit)
	defer late.Stop()
	select {
	case left = <-over:
		return left
	case <-late.C:
		set.Log.Warn("what a worker has left behind takes long to end; the worker is replaced meanwhile",
			zap.Uint64("worker", w.ID))
		return true
	}
}

// EndLeftover ends what is left of a worker whose process is gone, and tells whether there was
// anything. It is called beside the loop.
func (set *Set) EndLeftover(w contain.Worker) (left bool) {
	ended, err := set.Contain.End(w)
	if len(ended) > 0 {
		set.Log.Warn("what a worker has left behind was ended", zap.Uint64("worker", w.ID), zap.Ints("processes", ended))
	}
	if err != nil {
		set.Log.Error("what a worker has left behind does not end", zap.Uint64("worker", w.ID), zap.Error(err))
	}
	return len(ended) > 0 || err != nil
}

// startedAs names a worker whose process is the one that masterd has started.
func (w *Worker) startedAs() contain.Worker {
	c := contain.Worker{ID: uint64(w.ID)}
	if w.process != nil {
		c.PID, c.Begun = w.process.PID(), w.begun
	}
	return c
}

// OfOperators tells the environment of hooks and of checks and drains by a program, which
// the operator has written.
func OfOperators(env []string) bool {
	return slices.ContainsFunc(env, func(e string) bool {
		return strings.HasPrefix(e, "MASTERD_HOOK=") || strings.HasPrefix(e, "MASTERD_WORKER_PID=")
	})
}

// ReapOrphans waits for children that the kernel has given to this process, until the loop
// ends. It is called beside the loop.
func (set *Set) ReapOrphans() {
	var orphans proc.Orphans
	tick := time.NewTicker(proc.OrphanWait)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			orphans.Look()
		case <-set.Loop.Done():
			return
		}
	}
}
