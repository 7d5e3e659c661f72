package workers

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// unmodified is a worker that makes its sockets by itself and knows nothing of ours: its
// calls of bind and listen are answered with its slots.
type unmodified struct {
	activated
	bound []string // listeners that it has come to listen on
	calls Calls    // nil: they are not answered (any more)
}

// callsName is what the keeper calls the descriptor on which a worker's calls of
// bind and listen are told.
func callsName(id rollout.Worker) string {
	return bindsub.HeldPrefix + strconv.FormatUint(uint64(id), 10)
}

func (u *unmodified) equip(spec *proc.Spec, env map[string]string) (files []int, err error) {
	if err := u.equipNotify(spec, env); err != nil {
		return nil, err
	}
	spec.Filter = BindsItself(u.Generation.Config)
	files, err = u.equipStored(spec)
	spec.ListenEnv = len(spec.Files) > 0
	return files, err
}

func (u *unmodified) begin() error {
	if !BindsItself(u.Generation.Config) {
		return u.activated.begin()
	}
	u.set.Notices.Begin(uint64(u.ID), u.process.PID())
	return u.answerCalls(u.process.Filter())
}

func (u *unmodified) restore(l state.LiveWorker) {
	u.activated.restore(l)
	u.bound = l.Bound
}

func (u *unmodified) note(l *state.LiveWorker) {
	u.activated.note(l)
	l.Bound = u.bound
}

func (u *unmodified) resume() {
	u.resumeNotify()
	if !BindsItself(u.Generation.Config) {
		u.set.noteAssigned(u.Worker, u.Generation.Names())
		return
	}
	u.findBound()
	fd, there := u.set.Keeper.TakeOne(callsName(u.ID))
	var why []zap.Field
	if there {
		if err := u.answerCalls(fd); err != nil {
			there, why = false, []zap.Field{zap.Error(err)}
		}
	}
	if !there {
		u.set.Log.Error("a worker's calls of bind cannot be answered any more: they fail",
			append(u.set.Fields(u.Worker), why...)...)
	}
	u.set.noteAssigned(u.Worker, u.bound)
}

// listensEverywhere reports whether the worker has bound all that is configured.
func (u *unmodified) listensEverywhere() bool {
	return !BindsItself(u.Generation.Config) || len(u.bound) == len(u.Generation.Config.Listeners)
}

// answerCalls begins to answer the worker's calls; fd, where they are told, is given
// away.
func (u *unmodified) answerCalls(fd int) error {
	set := u.set
	if fd < 0 {
		return fmt.Errorf("its calls of bind and listen are not told; masterd is at fault")
	}
	places, err := set.Sockets.Places(int(u.Slot), u.Generation.Names())
	if err != nil {
		closeFD(fd)
		return err
	}
	o := bindsub.Options{
		FD: fd, Bound: u.bound, Log: set.Log.With(set.Fields(u.Worker)...),
		Give:  u.giveSlot,
		Rival: func(at netip.AddrPort, dual bool) string { return set.rival(u.Worker, at, dual, false) },
		Fact:  func(f bindsub.Fact) { set.Loop.Post(func() { u.called(f) }) },
		Noted: func(listener string) { set.Loop.Post(func() { u.noteBound(listener) }) },
	}
	for _, p := range places {
		o.Listeners = append(o.Listeners, bindsub.Listener{Name: p.Name, At: p.At, Dual: p.Dual, Inode: p.Inode})
	}
	calls, err := set.System.Answer(o)
	if err != nil {
		return err
	}
	u.calls = calls
	set.Keeper.Put(callsName(u.ID), nil, fd) // calls has it until it is closed
	return nil
}

// giveSlot makes a slot the worker's: it is about to bind it. It runs beside the loop.
func (u *unmodified) giveSlot(listener string) (fd int, held bool, err error) {
	files, err := u.set.Sockets.Man(int(u.Slot), []string{listener}, uint64(u.Generation.ID))
	if err != nil {
		return -1, false, err
	}
	return files[0].FD, files[0].Held, nil
}

// noteBound notes that the worker has come to listen there: what the next master must know.
func (u *unmodified) noteBound(listener string) {
	if !slices.Contains(u.bound, listener) {
		u.bound = append(u.bound, listener)
	}
}

// findBound notes what a worker that was taken over has bound and the last master
// had no time to write down: it has its slot's socket.
func (u *unmodified) findBound() {
	set := u.set
	places, err := set.Sockets.Places(int(u.Slot), u.Generation.Names())
	var sockets []uint64
	for _, p := range places {
		sockets = append(sockets, p.Inode)
	}
	if err == nil {
		sockets, err = set.System.Has(set.Processes(uint64(u.ID), u.leads(), set.System.Groups), sockets)
	}
	if err != nil {
		set.Log.Warn("not all of what a worker has bound can be seen; what was noted of it counts, too",
			append(set.Fields(u.Worker), zap.Error(err))...)
	}
	for _, p := range places {
		if slices.Contains(sockets, p.Inode) {
			u.noteBound(p.Name)
		}
	}
}

// called takes what came of the worker's calls.
func (u *unmodified) called(f bindsub.Fact) {
	set := u.set
	if set.workers[u.ID] != u.Worker {
		return
	}
	switch f := f.(type) {
	case bindsub.Listens:
		u.ready()
	case bindsub.Waits:
		u.unbound(f.Detail)
	case bindsub.Refused:
		set.Log.Warn("a worker's bind was refused", append(set.Fields(u.Worker), zap.String("reason", f.Why))...)
		set.Master.Step(rollout.Unfit{Worker: u.ID, Why: f.Why})
	case bindsub.Sharing:
		set.shares(u.Worker, f)
	}
}

func (u *unmodified) forget() {
	u.activated.forget()
	if c := u.calls; c != nil {
		u.calls = nil
		u.set.Keeper.Drop(callsName(u.ID))
		u.set.Loop.Go(c.Close) // it may be in the middle of an answer
	}
}

// close answers the calls that were taken; the keeper has the descriptor for the rest.
func (u *unmodified) close() {
	if u.calls != nil {
		u.calls.Close()
	}
}

// rival names who of the service's other workers has an address that one of them
// wants to bind; empty: nobody. With share those of its own version do not count. It is
// called from beside the loop, and asks the processes themselves.
func (set *Set) rival(of *Worker, at netip.AddrPort, dual, share bool) string {
	holders, err := listen.Holders(at, dual)
	if err != nil {
		return ""
	}
	for _, h := range holders {
		id, ours := set.WorkerWith(h.PID)
		if !ours || id == uint64(of.ID) || share && set.sameGeneration(of, rollout.Worker(id)) {
			continue
		}
		return fmt.Sprintf("%s, of worker %d,", h.Name, id)
	}
	return ""
}

// sameGeneration tells whether another worker is of the generation of one. It is called from
// beside the loop.
func (set *Set) sameGeneration(of *Worker, id rollout.Worker) (same bool) {
	set.Loop.Call(func() {
		w := set.workers[id]
		same = w != nil && w.Generation == of.Generation
	})
	return same
}

// WorkerWith is the worker of this service that a process belongs to: by its cgroup, by
// its process group, or by the environment that it was started with. Programs write over
// the last. It is called from beside the loop.
func (set *Set) WorkerWith(pid int) (id uint64, ours bool) {
	if id, ours = set.Contain.Of(pid); ours {
		return id, true
	}
	leader, err := unix.Getpgid(pid)
	if err != nil {
		return 0, false
	}
	set.Loop.Call(func() {
		for _, w := range set.workers {
			if w.process != nil && w.kind.leads() == leader {
				id, ours = uint64(w.ID), true
			}
		}
	})
	if ours || !process.Sees(pid, set.RuntimeDir) {
		return id, ours
	}
	env := process.Environ(leader)
	if len(env) == 0 {
		env = process.Environ(pid) // the leader has ended before its group
	}
	return set.Of(env)
}
