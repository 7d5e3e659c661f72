package master

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/fdstore"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// Workers that are not built on the worker package are told of their sockets as
// systemd tells its services, and say of themselves what those say: sd_notify(3).
// What a program that binds by itself does besides is in unmodified.go, how such a
// worker is seen off in seeoff.go.

// foreign is what is known of such a worker. The loop owns it.
type foreign struct {
	group     int           // that its process is in, where it does not lead one
	former    process       // what was started, while another process is the worker
	saysReady bool          // READY=1
	says      string        // the last STATUS
	errno     int           // the last ERRNO
	access    notify.Access // the last NOTIFYACCESS
	replaced  chan struct{} // closed when another process is the worker instead of one that was adopted; nil: it was started
	mains     mainChanges
	ended     bool // its process is gone, and what it left is being ended
	bound     []string
	calls     calls  // nil: it is not one that binds by itself
	asked     bool   // was sent a signal that has it end
	seenOff   func() // ends the wait for its clients; nil: there is none
}

// equip adds to a spec what such a worker is told by its environment and by
// descriptors that it inherits. The files are to be closed.
func (m *Master) equip(w *worker, spec *proc.Spec, env map[string]string) (files []int, err error) {
	c := w.generation.cfg
	path, err := m.notices.Add(m.voice(w))
	if err != nil {
		return nil, err
	}
	if path != "" {
		env["NOTIFY_SOCKET"] = path
	}
	if t := c.Worker.Watchdog; t > 0 {
		env["WATCHDOG_USEC"] = fmt.Sprint(t.Microseconds())
		spec.PIDEnv = append(spec.PIDEnv, "WATCHDOG_PID")
	}
	if c.Worker.FDStore > 0 {
		env["FDSTORE"] = fmt.Sprint(c.Worker.FDStore)
	}
	if name, value := c.PresetEnv(); name != "" {
		env[name] = value
	}
	if c.Worker.Kind == config.KindUnmodified {
		spec.Filter = bindsItself(c)
	} else {
		if files, err = m.handOver(w, spec, env); err != nil {
			return files, err
		}
	}
	stored, err := m.stored.Files()
	for _, f := range stored {
		files = append(files, f.FD)
		spec.Files = append(spec.Files, proc.File{Name: f.Name, FD: f.FD})
	}
	spec.ListenEnv = len(spec.Files) > 0 || c.Worker.Kind == config.KindSocketActivation
	return files, err
}

// handOver gives a worker its slots, and puts their numbers where they are asked for.
func (m *Master) handOver(w *worker, spec *proc.Spec, env map[string]string) (files []int, err error) {
	names := w.generation.names()
	slots, err := m.sockets.Man(int(w.slot), names, uint64(w.generation.id))
	if err != nil {
		return nil, err
	}
	for _, f := range slots {
		files = append(files, f.FD)
		spec.Files = append(spec.Files, proc.File{Name: f.Name, FD: f.FD})
		if err := setMode(f, w.generation.cfg.Worker.NonBlocking); err != nil {
			return files, fmt.Errorf("setting the mode of the socket of listener %s: %w", f.Name, err)
		}
	}
	args := make([]string, len(spec.Args))
	for i, a := range spec.Args {
		if args[i], err = config.ExpandFDs(a, names); err != nil {
			return files, fmt.Errorf("worker.command: %w", err)
		}
	}
	spec.Args = args
	for name := range w.generation.version.Env {
		if env[name], err = config.ExpandFDs(env[name], names); err != nil {
			return files, fmt.Errorf("worker.env.%s: %w", name, err)
		}
	}
	return files, nil
}

// setMode sets whether accept waits on a worker's socket. The mode is the open file's,
// which is the master's and the keeper's, too: neither accepts on it while the worker
// lives. Other workers do, where they hold the same socket: a program that was given
// it non-blocking would hang in an accept that waits, so it is not made to wait then.
func setMode(f listen.File, nonBlocking bool) error {
	if f.Held && !nonBlocking {
		return nil
	}
	return syscall.SetNonblock(f.FD, nonBlocking)
}

// voice is how a worker is heard.
func (m *Master) voice(w *worker) notify.Worker {
	return notify.Worker{
		ID: uint64(w.id), UID: w.uid, Group: w.generation.cfg.Worker.NotifyAccess == "group", Access: w.access,
		Hear: func(n notify.Message, fds []int) { m.hearNotice(w, n, fds) },
	}
}

// hearNotice takes what a worker said by sd_notify, in the goroutine that reads it. That
// goroutine alone looks at descriptors and closes them: either may take as long as the
// worker likes.
func (m *Master) hearNotice(w *worker, n notify.Message, fds []int) {
	if n.Barrier { // the worker waits for the end of what came before
		m.ask(func() { m.notice(w, n) })
		ipc.DiscardWait(m.done, fds...)
		return
	}
	if n.Store {
		m.storeFiles(w, n, fds)
	}
	if n.Remove {
		m.stored.Remove(n.Name)
	}
	m.at(func() { m.notice(w, n) })
}

// beginForeign begins to hear a worker whose process has just been started.
func (m *Master) beginForeign(w *worker) error {
	m.notices.Begin(uint64(w.id), w.process.PID())
	c := w.generation.cfg
	switch {
	case bindsItself(c):
		return m.answerCalls(w, w.process.Filter())
	case c.Worker.Ready == readyNotify:
		m.step(rollout.Waiting{Worker: w.id, Detail: "it has not said READY=1 by sd_notify"})
	}
	return nil
}

// takeOverForeign goes on with one that an earlier master has left.
func (m *Master) takeOverForeign(w *worker, h held) {
	id := uint64(w.id)
	fd, there := h.notices[id]
	delete(h.notices, id)
	var err error
	if there {
		err = m.notices.Adopt(m.voice(w), fd)
	} else { // the keeper died too: at the same place it is found again
		_, err = m.notices.Add(m.voice(w))
	}
	if err != nil {
		m.log.Error("what a worker says by sd_notify is not heard any more", append(m.fields(w), zap.Error(err))...)
	}
	m.notices.Begin(id, w.leads())
	m.notices.Main(id, w.process.PID())
	if !bindsItself(w.generation.cfg) {
		return
	}
	m.foundBound(w)
	fd, there = h.calls[id]
	delete(h.calls, id)
	if !there {
		m.log.Error("a worker's calls of bind cannot be answered any more: they fail", m.fields(w)...)
		return
	}
	if err := m.answerCalls(w, fd); err != nil {
		m.log.Error("a worker's calls of bind cannot be answered any more: they fail", append(m.fields(w), zap.Error(err))...)
	}
}

// notice takes what a worker said by sd_notify.
func (m *Master) notice(w *worker, n notify.Message) {
	if m.workers[w.id] != w {
		return
	}
	if n.HasStatus {
		w.says = n.Status
	}
	if n.Errno != 0 {
		w.errno = n.Errno
	}
	if n.Access != "" {
		w.access = n.Access
	}
	if n.MainPID != 0 {
		m.mainIs(w, n.MainPID)
	}
	if n.HasEvery && n.Every > 0 {
		m.step(rollout.Paced{Worker: w.id, Every: n.Every})
	}
	if n.Extend > 0 {
		m.step(rollout.Extended{Worker: w.id, By: n.Extend})
	}
	if n.Ready && !w.saysReady {
		w.saysReady = true
		m.ready(w)
	}
	if n.Watchdog {
		m.step(rollout.Beat{Worker: w.id})
	}
	if n.Trigger {
		m.step(rollout.Triggered{Worker: w.id})
	}
	if n.Stopping {
		m.step(rollout.Leaves{Worker: w.id})
	}
}

// ready: it has said so, or it listens. Where both are asked for, both it must be.
func (m *Master) ready(w *worker) {
	c := w.generation.cfg
	notified := w.saysReady || c.Worker.Ready != readyNotify
	listens := !bindsItself(c) || len(w.bound) == len(c.Listeners)
	switch {
	case notified && listens && saysReady(c):
		m.step(rollout.Ready{Worker: w.id})
	case listens && saysReady(c):
		m.step(rollout.Waiting{Worker: w.id, Detail: "it listens, and has not said READY=1 by sd_notify"})
	}
}

// storeFiles keeps descriptors for the workers that come.
func (m *Master) storeFiles(w *worker, n notify.Message, fds []int) {
	allowed := w.generation.cfg.Worker.FDStore
	if err := m.stored.Add(n.Name, fds, n.Poll, allowed); err != nil {
		m.at(func() { m.warn(w, "a worker's descriptors are not stored", zap.Error(err)) })
	}
}

// inheritFiles takes over what workers of an earlier master have had stored.
func (m *Master) inheritFiles(all []fdstore.Held) error {
	s, err := fdstore.New(fdstore.Options{Keep: m.hold, Drop: m.drop, Log: m.log})
	if err != nil {
		return err
	}
	s.Adopt(all)
	m.stored = s
	return nil
}

// marked tells a worker's processes by what all of them were started with.
func (m *Master) marked(id rollout.Worker) func(env []string) bool {
	return func(env []string) bool {
		return slices.Contains(env, ipc.EnvRuntimeDir+"="+m.opt.Config.RuntimeDir) &&
			slices.Contains(env, ipc.EnvWorker+"="+strconv.FormatUint(uint64(id), 10))
	}
}

// leads is the number of a worker's process group.
func (w *worker) leads() int {
	if w.group != 0 {
		return w.group
	}
	return w.process.PID()
}

// forgetForeign gives back what there was for a worker that is gone.
func (m *Master) forgetForeign(w *worker) {
	if w.generation.cfg.Worker.Kind == config.KindSDK {
		return
	}
	if w.seenOff != nil {
		w.seenOff()
	}
	if w.former != nil {
		_ = w.former.Signal(syscall.SIGKILL)
	}
	m.notices.Forget(uint64(w.id))
	if c := w.calls; c != nil {
		w.calls = nil
		m.beside(c.Close) // it may be in the middle of an answer
		m.drop(callsName(w.id))
	}
}

// how is an exit with what the worker has said about it.
func (w *worker) how(exit proc.Exit) string {
	text := exit.String()
	if w.errno != 0 {
		text += fmt.Sprintf("; it said ERRNO=%d (%s)", w.errno, syscall.Errno(w.errno))
	}
	return text
}

// saying is a worker's STATUS, as a line for people.
func (w *worker) saying() string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, w.says)
}
