package workers

import (
	"fmt"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/notify"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// activated is a worker that is not built on the worker package. It is told of its
// sockets as systemd tells its services, and says of itself what those say:
// sd_notify(3). What a program that binds by itself does besides is in unmodified.go,
// how such a worker drains in drain.go.
type activated struct {
	*Worker
	set       *Set
	group     int           // that its process is in, where it does not lead one
	former    Process       // what was started, while another process is the worker
	replaced  chan struct{} // closed when another process has taken the place of an adopted one; nil: it was started
	mains     mainChanges
	saysReady bool                  // READY=1
	says      string                // the last STATUS
	errno     int                   // the last ERRNO
	access    notify.Access         // the last NOTIFYACCESS
	parking   func()                // ends the closing of its connections while it is parked; nil: nobody closes them
	draining  func()                // ends the wait for its clients; nil: there is none
	left      atomic.Pointer[looks] // what it has open, as of the last look; nil: nobody looks
	waits     string                // what it has yet to bind, as last told
	listens   func() bool           // it does where it is to; nil: it was started with what listens
}

func (a *activated) register() {}

func (a *activated) equip(spec *proc.Spec, env map[string]string) (files []int, err error) {
	if err := a.equipNotify(spec, env); err != nil {
		return nil, err
	}
	if files, err = a.equipSlots(spec, env); err != nil {
		return files, err
	}
	stored, err := a.equipStored(spec)
	spec.ListenEnv = true
	return append(files, stored...), err
}

// equipNotify has the worker heard.
func (a *activated) equipNotify(spec *proc.Spec, env map[string]string) error {
	c := a.Generation.Config
	path, err := a.set.Notices.Add(a.notifyWorker())
	if err != nil {
		return err
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
	return nil
}

// equipStored gives the worker what others have had stored.
func (a *activated) equipStored(spec *proc.Spec) (files []int, err error) {
	stored, err := a.set.Stored.Files()
	for _, f := range stored {
		files = append(files, f.FD)
		spec.Files = append(spec.Files, proc.File{Name: f.Name, FD: f.FD})
	}
	return files, err
}

// equipSlots gives the worker its slots, and puts their numbers where they are asked for.
func (a *activated) equipSlots(spec *proc.Spec, env map[string]string) (files []int, err error) {
	g := a.Generation
	names := g.Names()
	slots, err := a.set.Sockets.Man(int(a.Slot), names, uint64(g.ID))
	if err != nil {
		return nil, err
	}
	for _, f := range slots {
		files = append(files, f.FD)
		spec.Files = append(spec.Files, proc.File{Name: f.Name, FD: f.FD})
		if err := setMode(f, g.Config.Worker.NonBlocking); err != nil {
			return files, fmt.Errorf("setting the mode of the socket of listener %s: %w", f.Name, err)
		}
	}
	args := make([]string, len(spec.Args))
	for i, arg := range spec.Args {
		if args[i], err = config.ExpandFDs(arg, names); err != nil {
			return files, fmt.Errorf("worker.command: %w", err)
		}
	}
	spec.Args = args
	for name := range g.Version.Env {
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

// notifyWorker is how the worker is heard.
func (a *activated) notifyWorker() notify.Worker {
	return notify.Worker{
		ID: uint64(a.ID), UID: a.UID, Group: a.Generation.Config.Worker.NotifyAccess == "group", Access: a.access,
		Hear: a.receive,
	}
}

// receive takes what the worker said by sd_notify, in the goroutine that reads it. That
// goroutine alone looks at descriptors and closes them: either may take as long as the
// worker likes.
func (a *activated) receive(n notify.Message, fds []int) {
	set := a.set
	if n.Barrier { // the worker waits for the end of what came before
		set.Loop.Call(func() { a.handleNotify(n) })
		fdpass.DiscardWait(set.Loop.Done(), fds...)
		return
	}
	if n.Store {
		a.storeFiles(n, fds)
	}
	if n.Remove {
		set.Stored.Remove(n.Name)
	}
	set.Loop.Post(func() { a.handleNotify(n) })
}

func (a *activated) begin() error {
	a.set.Notices.Begin(uint64(a.ID), a.process.PID())
	if a.Generation.Config.Worker.Ready == ReadyNotify {
		a.set.Master.Step(rollout.Waiting{Worker: a.ID, Detail: "it has not said READY=1 by sd_notify"})
	}
	return nil
}

func (a *activated) restore(l state.LiveWorker) {
	a.group, a.saysReady, a.says, a.errno, a.access = l.Group, l.SaysReady, l.Says, l.Errno, notify.Access(l.NotifyAccess)
}

func (a *activated) note(l *state.LiveWorker) {
	l.Group, l.SaysReady, l.Says, l.Errno, l.NotifyAccess = a.group, a.saysReady, a.says, a.errno, string(a.access)
}

func (a *activated) resume() {
	a.resumeNotify()
	a.set.noteAssigned(a.Worker, a.Generation.Names())
}

// resumeNotify has the worker heard again.
func (a *activated) resumeNotify() {
	id := uint64(a.ID)
	var err error
	if fd, there := a.set.Keeper.TakeOne(notify.HeldName(id)); there {
		err = a.set.Notices.Adopt(a.notifyWorker(), fd)
	} else { // the keeper died too: at the same place it is found again
		_, err = a.set.Notices.Add(a.notifyWorker())
	}
	if err != nil {
		a.set.Log.Error("what a worker says by sd_notify is not heard any more",
			append(a.set.Fields(a.Worker), zap.Error(err))...)
	}
	a.set.Notices.Begin(id, a.leads())
	a.set.Notices.Main(id, a.process.PID())
}

// handleNotify takes what the worker said by sd_notify.
func (a *activated) handleNotify(n notify.Message) {
	set := a.set
	if set.workers[a.ID] != a.Worker {
		return
	}
	if n.HasStatus {
		a.says = n.Status
	}
	if n.Errno != 0 {
		a.errno = n.Errno
	}
	if n.Access != "" {
		a.access = n.Access
	}
	if n.MainPID != 0 {
		a.mainIs(n.MainPID)
	}
	if n.HasEvery && n.Every > 0 {
		set.Master.Step(rollout.Paced{Worker: a.ID, Every: n.Every})
	}
	if n.Extend > 0 {
		set.Master.Step(rollout.Extended{Worker: a.ID, By: n.Extend})
	}
	if n.Ready && !a.saysReady {
		a.saysReady = true
		a.ready()
	}
	if n.Watchdog {
		set.Master.Step(rollout.Beat{Worker: a.ID})
	}
	if n.Trigger {
		set.Master.Step(rollout.Triggered{Worker: a.ID})
	}
	if n.Stopping {
		set.Master.Step(rollout.Leaves{Worker: a.ID})
	}
}

// ready tells the machine that the worker is ready once it has said so, or listens. Where
// both are asked for, it needs both.
func (a *activated) ready() {
	c := a.Generation.Config
	if !SaysReady(c) {
		return
	}
	if a.listens != nil && !a.listens() {
		a.unbound(a.waits)
		return
	}
	if a.saysReady || c.Worker.Ready != ReadyNotify {
		a.set.Master.Step(rollout.Ready{Worker: a.ID})
	} else {
		a.set.Master.Step(rollout.Waiting{Worker: a.ID, Detail: "it listens, and has not said READY=1 by sd_notify"})
	}
}

// unbound tells the machine what the worker has not bound; empty: that is not known yet. One
// that has said that it is ready will not bind it any more.
func (a *activated) unbound(what string) {
	if a.waits = what; what == "" {
		return
	}
	if a.saysReady {
		what = "it has said READY=1 by sd_notify, but " + what
	}
	a.set.Master.Step(rollout.Waiting{Worker: a.ID, Detail: what, Vain: a.saysReady})
}

// storeFiles keeps descriptors for the workers that come.
func (a *activated) storeFiles(n notify.Message, fds []int) {
	if err := a.set.Stored.Add(n.Name, fds, n.Poll, a.Generation.Config.Worker.FDStore); err != nil {
		a.set.Loop.Post(func() { a.set.warn(a.Worker, "a worker's descriptors are not stored", zap.Error(err)) })
	}
}

// activate has nothing to send: the worker has had its slots from its start.
func (a *activated) activate(rollout.Activate) {
	a.endParking()
	a.Generation.Activated = true
	a.set.Master.Step(rollout.Accepting{Worker: a.ID})
}

func (a *activated) announce() {}

// dump does as systemd does; its core, or what its handler says, tells where it hangs.
func (a *activated) dump() error { return a.process.Signal(syscall.SIGABRT) }

func (a *activated) signalled() {
	a.endParking()
	if a.draining != nil {
		a.draining()
	}
}

func (a *activated) dial(listener string) probe.Dialer { return a.set.DialSlot(int(a.Slot), listener) }

func (a *activated) hasSlots() bool { return true }

func (a *activated) saidReady() bool { return a.saysReady }

func (a *activated) contained() contain.Worker {
	if a.group != 0 || a.former != nil {
		return contain.Worker{ID: uint64(a.ID)}
	}
	return a.startedAs()
}

func (a *activated) leads() int {
	if a.group != 0 {
		return a.group
	}
	return a.process.PID()
}

// describe shows the worker's STATUS as a line for people.
func (a *activated) describe(aw *api.Worker) {
	aw.Uncounted, aw.Clients = true, a.describeClients()
	aw.Says = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, a.says)
}

func (a *activated) awaitMessages(limit time.Duration) { a.set.Notices.Heard(uint64(a.ID), limit) }

func (a *activated) exitText(exit proc.Exit) string {
	text := exit.String()
	if a.errno != 0 {
		text += fmt.Sprintf("; it said ERRNO=%d (%s)", a.errno, syscall.Errno(a.errno))
	}
	return text
}

func (a *activated) cut(exit proc.Exit) rollout.Cut { return cutOf(a.left.Load(), exit) }

func (a *activated) forget() {
	a.signalled()
	if a.former != nil {
		_ = a.former.Signal(syscall.SIGKILL)
	}
	a.set.Notices.Forget(uint64(a.ID))
}

func (a *activated) close() {}
