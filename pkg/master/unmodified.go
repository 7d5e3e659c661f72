package master

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/bindsub"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// callsName is what the keeper calls the descriptor on which a worker's calls of
// bind and listen are told.
func callsName(id rollout.Worker) string {
	return bindsub.HeldPrefix + strconv.FormatUint(uint64(id), 10)
}

// callsOf is the worker that is meant by such a name.
func callsOf(held string) (uint64, bool) {
	number, ok := strings.CutPrefix(held, bindsub.HeldPrefix)
	id, err := strconv.ParseUint(number, 10, 64)
	return id, ok && err == nil
}

// answerCalls begins to answer a worker's calls; fd, where they are told, is given
// away.
func (m *Master) answerCalls(w *worker, fd int) error {
	if fd < 0 {
		return fmt.Errorf("its calls of bind and listen are not told; masterd is at fault")
	}
	places, err := m.sockets.Places(int(w.slot), w.generation.names())
	if err != nil {
		closeFD(fd)
		return err
	}
	o := bindsub.Options{
		FD: fd, Bound: w.bound, Log: m.log.With(m.fields(w)...),
		Keep:  func(fd int) { m.hold(callsName(w.id), nil, fd) },
		Give:  func(listener string) (int, bool, error) { return m.giveSlot(w, listener) },
		Rival: func(at netip.AddrPort, dual bool) string { return m.rival(w.id, at, dual) },
		Fact:  func(f bindsub.Fact) { m.at(func() { m.called(w, f) }) },
		Noted: func(listener string) { m.at(func() { m.listens(w, listener) }) },
	}
	for _, p := range places {
		o.Listeners = append(o.Listeners, bindsub.Listener{Name: p.Name, At: p.At, Dual: p.Dual, Inode: p.Inode})
	}
	w.calls, err = m.system.answer(o)
	if err != nil {
		w.calls = nil
	}
	return err
}

// giveSlot makes a slot the worker's: it is about to bind it.
func (m *Master) giveSlot(w *worker, listener string) (fd int, held bool, err error) {
	files, err := m.sockets.Man(int(w.slot), []string{listener}, uint64(w.generation.id))
	if err != nil {
		return -1, false, err
	}
	return files[0].FD, files[0].Held, nil
}

// listens notes that a worker has come to listen there: what the next master must know.
func (m *Master) listens(w *worker, listener string) {
	if !slices.Contains(w.bound, listener) {
		w.bound = append(w.bound, listener)
	}
}

// foundBound notes what a worker that was taken over has bound and the last master
// had no time to write down: it has its slot's socket.
func (m *Master) foundBound(w *worker) {
	places, err := m.sockets.Places(int(w.slot), w.generation.names())
	var sockets []uint64
	for _, p := range places {
		sockets = append(sockets, p.Inode)
	}
	if err == nil {
		sockets, err = m.system.has(m.processesOf(uint64(w.id), w.leads(), m.system.groups), sockets)
	}
	if err != nil {
		m.log.Warn("not all of what a worker has bound can be seen; what was noted of it counts, too", append(m.fields(w), zap.Error(err))...)
	}
	for _, p := range places {
		if slices.Contains(sockets, p.Inode) {
			m.listens(w, p.Name)
		}
	}
}

// called takes what came of a worker's calls.
func (m *Master) called(w *worker, f bindsub.Fact) {
	if m.workers[w.id] != w {
		return
	}
	switch f := f.(type) {
	case bindsub.Listens:
		m.ready(w)
	case bindsub.Waits:
		m.step(rollout.Waiting{Worker: w.id, Detail: f.Detail})
	case bindsub.Refused:
		m.log.Warn("a worker's bind was refused", append(m.fields(w), zap.String("reason", f.Why))...)
		m.step(rollout.Unfit{Worker: w.id, Why: f.Why})
	}
}

// rival names who of the service's other workers has an address that one of them
// wants to bind; empty: nobody. It is called from beside the loop, and asks the
// processes themselves.
func (m *Master) rival(id rollout.Worker, at netip.AddrPort, dual bool) string {
	holders, err := listen.Holders(at, dual)
	if err != nil {
		return ""
	}
	for _, h := range holders {
		if w, ours := m.workerWith(h.PID); ours && w != uint64(id) {
			return fmt.Sprintf("%s, of worker %d,", h.Name, w)
		}
	}
	return ""
}

// workerWith is the worker of this service that a process belongs to: by its cgroup, by
// its process group, or by the environment that it was started with. Programs write over
// the last. It is called from beside the loop.
func (m *Master) workerWith(pid int) (id uint64, ours bool) {
	if id, ours = m.contain.Of(pid); ours {
		return id, true
	}
	leader, err := unix.Getpgid(pid)
	if err != nil {
		return 0, false
	}
	m.ask(func() {
		for _, w := range m.workers {
			if w.process != nil && w.leads() == leader {
				id, ours = uint64(w.id), true
			}
		}
	})
	if ours || !proc.Sees(pid, m.opt.Config.RuntimeDir) {
		return id, ours
	}
	env := proc.Environ(leader)
	if len(env) == 0 {
		env = proc.Environ(pid) // the leader has ended before its group
	}
	return m.workerOf(env)
}
