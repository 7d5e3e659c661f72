package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

const (
	parkTimeout = 10 * time.Second       // for OnActive functions, before parked is said without them
	hurryGrace  = time.Second            // what a signal leaves to a worker that drains already
	cutGrace    = 500 * time.Millisecond // for handlers whose connection was cut, to notice
	lastGrace   = 2 * time.Second        // for what was still queued when a worker left without its master's word
	signalRoom  = 4                      // signals that may wait
)

// life is one run of a worker. One goroutine, run, owns all of it; the others
// post to its channels.
type life struct {
	w     *Worker
	log   *slog.Logger
	doors []*door
	jobs  *background

	link    *link
	session *session // with the master; nil while there is none
	beat    *time.Ticker
	paused  bool // accepting is stopped (shared steering)

	preparing chan error // BeforeReady's end; nil once received
	cancel    context.CancelFunc

	parking    uint64 // seq of a park that waits for the background work; zero: none
	parkLimit  *time.Timer
	draining   uint64 // seq of the master's drain; zero: it did not ask
	accepting  bool   // while draining: the sockets are still open
	deadline   *time.Timer
	deadlineAt time.Time // zero: none
	wasCut     bool

	over bool
	err  error
}

func newLife(w *Worker) *life {
	l := &life{
		w:         w,
		log:       w.log,
		jobs:      newBackground(w.jobs),
		beat:      time.NewTicker(time.Hour),
		parkLimit: time.NewTimer(time.Hour),
		deadline:  time.NewTimer(time.Hour),
	}
	l.beat.Stop() // each is started when there is something to wait for
	l.parkLimit.Stop()
	l.deadline.Stop()
	return l
}

// run is the worker's story; see the package's documentation for its states.
func (l *life) run(ctx context.Context) error {
	for _, ln := range l.w.listeners {
		d, err := ln.open(l.w.traffic, l.log)
		if err != nil {
			l.closeDoors()
			l.w.env.closeSockets()
			return err
		}
		l.doors = append(l.doors, d)
	}
	defer l.closeDoors()

	var signals chan os.Signal
	if !l.w.opts.IgnoreSignals {
		signals = make(chan os.Signal, signalRoom)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		defer signal.Stop(signals)
	}

	var events chan linkEvent
	if l.w.info.Managed {
		l.link = &link{
			path:   l.w.env.control,
			hello:  l.hello,
			events: make(chan linkEvent),
			log:    l.log,
			stderr: os.Stderr,
		}
		events = l.link.events
		linked, unlink := context.WithCancel(context.Background())
		var linking sync.WaitGroup
		linking.Go(func() { l.link.run(linked) })
		defer linking.Wait()
		defer unlink()
	}

	l.prepare()
	done := ctx.Done()
	for !l.over {
		select {
		case <-done:
			done = nil
			l.leave("its context ended")
		case sig := <-signals:
			l.leave("signal: " + sig.String())
		case err := <-l.preparing:
			l.prepared(ctx, err)
		case ev := <-events:
			l.heard(ev)
		case <-l.jobs.ended:
			l.jobs.oneEnded()
		case <-l.w.traffic.settled:
		case <-l.parkLimit.C:
			l.log.Warn("worker: parked, but background work has not returned although its context ended", "waited", parkTimeout)
			l.sayParked()
		case <-l.deadline.C:
			l.cut()
		case <-l.beat.C:
			l.say(ipc.Message{Type: ipc.TypeBeat})
		}
		l.look()
	}
	l.farewell()
	return l.err
}

// prepare runs the BeforeReady functions beside the loop, which has a master to
// answer meanwhile.
func (l *life) prepare() {
	var ctx context.Context
	ctx, l.cancel = context.WithCancel(context.Background())
	l.preparing = make(chan error, 1)
	go func() {
		returned := false
		defer func() { // also after runtime.Goexit
			if !returned {
				l.preparing <- errors.New("a BeforeReady function ended its goroutine")
			}
		}()
		var err error
		for _, fn := range l.w.before {
			if err = fn(ctx); err != nil || ctx.Err() != nil {
				break
			}
		}
		returned = true
		l.preparing <- err
	}()
}

func (l *life) prepared(ctx context.Context, err error) {
	l.preparing = nil
	l.cancel()
	switch {
	case l.state() == StateDraining:
		// told to leave meanwhile; an error then is only an echo
	case err != nil:
		l.fail(fmt.Errorf("getting ready: %w", err))
	case l.w.info.Managed:
		l.sayReady()
	default:
		if err := l.openAlone(ctx); err != nil {
			l.fail(err)
			return
		}
		l.become(StateActive)
		l.jobs.start()
		l.notify("READY=1")
	}
}

// fail ends a life that has not begun to serve.
func (l *life) fail(err error) {
	l.err = err
	l.over = true
	l.jobs.stop()
}

// heard handles what the link says.
func (l *life) heard(ev linkEvent) {
	switch ev := ev.(type) {
	case linkFailed:
		l.fail(ev.err)
	case linkDown:
		if l.session == ev.session {
			l.session = nil
			l.beat.Stop()
		}
	case linkUp:
		l.welcomed(ev)
	case linkMessage:
		l.told(ev.msg, ev.fds)
	}
}

func (l *life) welcomed(ev linkUp) {
	if err := l.served(ev.welcome.Listeners); err != nil && l.state() == StateNew {
		l.fail(err)
		return
	}
	l.session = ev.session
	l.beat.Reset(time.Duration(ev.welcome.BeatMS) * time.Millisecond)
	l.sayReady()
}

// sayReady makes the worker ready once both are there: what it needed to get
// so, and a master to hear it. Until then every hello says that it is new.
func (l *life) sayReady() {
	if l.state() == StateNew && l.preparing == nil && l.session != nil {
		l.become(StateReady)
		l.say(ipc.Message{Type: ipc.TypeReady})
	}
}

// served finds out before the traffic comes that a listener has no handler.
func (l *life) served(ls []ipc.Listener) error {
	for _, ln := range ls {
		if l.w.listener(ln.Name) == nil {
			return fmt.Errorf("the service has a listener %q on %s that this program does not serve: add Handle(%q, ...) to it, or take the listener out of masterd's configuration", ln.Name, ln.Address, ln.Name)
		}
	}
	return nil
}

// told follows one message of the master's.
func (l *life) told(m ipc.Message, fds []int) {
	switch m.Type {
	case ipc.TypeActivate:
		l.activate(m, fds)
	case ipc.TypePause:
		l.pause()
		l.say(ipc.Message{Type: ipc.TypePaused, Seq: m.Seq})
	case ipc.TypeResume:
		l.resume()
		l.say(ipc.Message{Type: ipc.TypeAccepting, Seq: m.Seq})
	case ipc.TypePark:
		l.park(m)
	case ipc.TypeDrain:
		l.drain(m.Seq, time.Duration(m.Drain.TimeoutMS)*time.Millisecond)
	case ipc.TypeConn:
		l.pass(m, fds)
	default:
		closeAll(fds)
		l.refuse(m, fmt.Errorf("this worker's SDK does not know messages of type %q", m.Type))
	}
}

// activate takes the sockets that came along and makes the worker active.
func (l *life) activate(m ipc.Message, fds []int) {
	if l.state() == StateDraining || l.state() == StateNew {
		closeAll(fds)
		l.refuse(m, fmt.Errorf("the worker is %s and cannot be active", l.state()))
		return
	}
	if err := l.takeSockets(m.Activate, fds); err != nil {
		l.refuse(m, err)
		return
	}
	l.sayParked() // if that was not said yet; the order of answers stays
	l.resume()
	l.w.traffic.leaving.takeBack()
	l.become(StateActive)
	l.jobs.start()
	l.say(ipc.Message{Type: ipc.TypeAccepting, Seq: m.Seq})
}

// takeSockets serves all of the sockets that came with activate, or none.
func (l *life) takeSockets(a *ipc.Activate, fds []int) error {
	doors, sockets := make([]*door, len(fds)), make([]socket, len(fds))
	var failed error
	for i, fd := range fds {
		name := a.Listeners[i]
		if doors[i] = l.door(name); doors[i] == nil {
			closeAll(fds[i : i+1])
			failed = errors.Join(failed, fmt.Errorf("this program does not serve a listener %q", name))
			continue
		}
		var err error
		if sockets[i], err = socketOf(fd, name); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	for i, s := range sockets {
		switch {
		case s == nil:
		case failed != nil:
			s.Close()
		default:
			failed = doors[i].add(s, l.paused)
		}
	}
	return failed
}

func (l *life) pause() {
	l.paused = true
	for _, d := range l.doors {
		d.pause()
	}
}

func (l *life) resume() {
	l.paused = false
	for _, d := range l.doors {
		d.resume()
	}
}

// park stops the background work and asks connections to leave. Accepting goes
// on: the master may steer back at any moment.
func (l *life) park(m ipc.Message) {
	if l.state() == StateNew {
		l.refuse(m, errors.New("the worker is not ready yet"))
		return
	}
	l.sayParked()
	l.parking = m.Seq
	if l.state() == StateDraining {
		return // more than parked; said as soon as the background work has ended
	}
	l.become(StateParked)
	l.w.traffic.leaving.give()
	l.jobs.stop()
	l.parkLimit.Reset(parkTimeout)
}

// sayParked answers a park that was not answered yet.
func (l *life) sayParked() {
	if l.parking != 0 {
		l.say(ipc.Message{Type: ipc.TypeParked, Seq: l.parking})
		l.parking = 0
		l.parkLimit.Stop()
	}
}

// drain is the master's: it steers new connections elsewhere.
func (l *life) drain(seq uint64, timeout time.Duration) {
	l.draining = seq
	l.depart()
	l.shutDoors()
	l.setDeadline(l.patience(timeout))
}

// leave is a drain that the master did not ask for. A worker that is steered to
// goes on accepting then, until nothing is open or time is up: were it to stop,
// its clients would hang in the queue until it is gone and replaced.
func (l *life) leave(why string) {
	if l.state() == StateDraining {
		if l.deadlineAt.IsZero() || time.Until(l.deadlineAt) > hurryGrace {
			l.log.Info("worker: told again to leave, cutting what is open soon", "why", why, "in", hurryGrace)
			l.setDeadline(hurryGrace)
		}
		return
	}
	l.log.Info("worker: leaving", "why", why, "timeout", l.w.opts.DrainTimeout)
	l.accepting = l.w.info.Managed && l.state() == StateActive
	l.depart()
	if !l.accepting {
		l.shutDoors()
	}
	l.setDeadline(l.patience(max(0, l.w.opts.DrainTimeout)))
	l.notify("STOPPING=1")
}

func (l *life) depart() {
	l.become(StateDraining)
	l.cancel()
	l.w.traffic.leaving.give()
	l.jobs.stop()
}

func (l *life) shutDoors() {
	l.accepting = false
	for _, d := range l.doors {
		d.shut(!l.paused) // while paused the queue is somebody else's
	}
}

// patience is how long a drain may take. A worker that is not ready has nobody
// to wait for but a BeforeReady function that hangs.
func (l *life) patience(timeout time.Duration) time.Duration {
	if l.preparing != nil && (timeout == 0 || timeout > hurryGrace) {
		return hurryGrace
	}
	return timeout
}

// setDeadline sets when the rest is cut; zero: never.
func (l *life) setDeadline(in time.Duration) {
	l.deadlineAt = time.Time{}
	l.deadline.Stop()
	if in > 0 {
		l.deadlineAt = time.Now().Add(in)
		l.deadline.Reset(in)
	}
}

// cut ends a drain whose time is up.
func (l *life) cut() {
	switch {
	case l.accepting:
		l.shutDoors() // takes what is queued: that gets its answer yet
		l.setDeadline(lastGrace)
	case !l.wasCut:
		l.wasCut = true
		n := l.w.traffic.cutOff()
		l.log.Warn("worker: time to drain is up", "connections_cut", n,
			"requests_running", l.w.traffic.inFlight.Load(), "background_work_running", !l.jobs.idle())
		l.setDeadline(cutGrace)
	default:
		l.over = true // somebody ignores its end; the process's will do
	}
}

// look asks whether something that was waited for has come.
func (l *life) look() {
	if l.parking != 0 && l.jobs.idle() {
		l.sayParked()
	}
	if l.state() != StateDraining || l.over || l.preparing != nil || !l.jobs.idle() || !l.w.traffic.quiet() {
		return
	}
	if l.accepting {
		l.shutDoors() // and look again at what that took
		l.w.traffic.look()
		return
	}
	l.over = true
}

// farewell tells the master the last numbers.
func (l *life) farewell() {
	l.cancel()
	l.jobs.stop()
	l.sayParked()
	if l.session == nil {
		return
	}
	if l.state() == StateDraining {
		l.say(ipc.Message{Type: ipc.TypeDrained, Seq: l.draining})
	}
	l.session.finish()
}

// pass serves connections that came with a message.
func (l *life) pass(m ipc.Message, fds []int) {
	d := l.door(m.Conn.Listener)
	if d == nil {
		closeAll(fds)
		l.refuse(m, fmt.Errorf("this program does not serve a listener %q", m.Conn.Listener))
		return
	}
	var failed error
	for _, fd := range fds {
		c, err := connOf(fd)
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case m.Conn.Purpose == ipc.PurposeProbe:
			failed = errors.Join(failed, d.check(c))
		default:
			d.pass(c)
		}
	}
	if failed != nil {
		l.refuse(m, failed)
	}
}

func (l *life) refuse(m ipc.Message, why error) {
	l.log.Error("worker: the master's message could not be followed", "type", string(m.Type), "error", why)
	if m.Seq != 0 {
		l.say(ipc.Message{Type: ipc.TypeRefused, Seq: m.Seq, Text: why.Error()})
	}
}

// say sends a message, with the worker's numbers where they belong.
func (l *life) say(m ipc.Message) {
	if l.session == nil {
		return // the next hello tells our state
	}
	switch m.Type {
	case ipc.TypeBeat:
		stats := l.w.traffic.stats()
		m.Stats = &stats
		l.session.beat(m)
		return
	case ipc.TypeDrained:
		stats := l.w.traffic.stats()
		m.Stats = &stats
	}
	l.session.send(m)
}

// hello is called by the link's goroutine.
func (l *life) hello() ipc.Hello {
	return ipc.Hello{
		Min:        ipc.MinVersion,
		Max:        ipc.MaxVersion,
		Worker:     l.w.info.Worker,
		Secret:     l.w.env.secret,
		PID:        os.Getpid(),
		SDK:        "masterd-go " + runtime.Version(),
		Generation: l.w.info.Generation,
		State:      string(l.w.State()),
	}
}

func (l *life) state() State { return l.w.State() }

func (l *life) become(s State) { l.w.state.Store(s) }

func (l *life) door(name string) *door {
	for _, d := range l.doors {
		if d.name == name {
			return d
		}
	}
	return nil
}

func (l *life) closeDoors() {
	for _, d := range l.doors {
		d.close()
	}
}

func (l *life) notify(state string) {
	if err := notify(l.w.env.notify, state); err != nil {
		l.log.Warn("worker: systemd could not be told", "error", err)
	}
}
