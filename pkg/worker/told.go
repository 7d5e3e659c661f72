package worker

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// What a life does when its master speaks, and what it says itself.

// heard handles what the link says.
func (l *life) heard(ev linkEvent) {
	switch ev := ev.(type) {
	case linkFailed:
		l.fail(ev.err)
	case linkDown:
		l.w.vault.down(ev.session)
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
	if l.state() == StateNew {
		if err := l.served(ev.welcome.Listeners); err != nil {
			l.fail(err)
			return
		}
	}
	l.session = ev.session
	l.w.vault.up(ev.session, ev.welcome.Keeps)
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
	named := make(map[string]bool)
	for _, ln := range ls {
		named[ln.Name] = true
		if l.w.listener(ln.Name) == nil {
			return fmt.Errorf("the service has a listener %q on %s that this program does not serve: add Handle(%q, ...) to it, or take the listener out of masterd's configuration", ln.Name, ln.Address, ln.Name)
		}
	}
	for _, d := range l.doors {
		if !named[d.name] {
			l.log.Info("worker: a listener of this program is not in masterd's configuration and not served", "listener", d.name)
		}
	}
	return nil
}

// told follows one message of the master's.
func (l *life) told(m ipc.Message, fds []int) {
	switch m.Type {
	case ipc.TypeKept, ipc.TypeBlob, ipc.TypeRefused: // numbered by us
	default:
		l.asked = max(l.asked, m.Seq)
	}
	switch m.Type {
	case ipc.TypeActivate:
		l.activate(m, fds)
	case ipc.TypeKept, ipc.TypeBlob, ipc.TypeRefused:
		l.w.vault.answered(m, fds)
	case ipc.TypePause:
		l.pause()
		l.say(ipc.Message{Type: ipc.TypePaused, Seq: m.Seq})
	case ipc.TypeResume:
		l.resume()
		l.say(ipc.Message{Type: ipc.TypeAccepting, Seq: m.Seq})
	case ipc.TypePark:
		l.park(m)
	case ipc.TypeRenew:
		l.secret.Store(&m.Renew.Secret)
		l.say(ipc.Message{Type: ipc.TypeRenewed, Seq: m.Seq})
	case ipc.TypeAnnounce:
		l.w.ending.Store(true)
	case ipc.TypeDrain:
		l.drain(m.Seq, time.Duration(m.Drain.TimeoutMS)*time.Millisecond)
	case ipc.TypeConn:
		l.pass(m, fds)
	case ipc.TypeGive:
		l.connect(m, fds[0], func(link *ipc.Link) error { return l.w.handover.add(link, *m.Peer, m.Peer.Instead) })
	case ipc.TypeTake:
		l.connect(m, fds[0], func(link *ipc.Link) error { return l.takers.add(link, *m.Peer) })
	case ipc.TypeStay:
		l.w.handover.stay()
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
	l.w.traffic.leaving.takeBack() // before there is no way any more: an answer between would say close
	l.w.handover.stay()
	l.w.traffic.partings.end()
	l.become(StateActive)
	if m.Activate == nil || !m.Activate.Wait {
		l.jobs.start()
	}
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
	l.w.traffic.leaving.give()
	l.w.traffic.partings.begin(0)
	l.nextShifts()
	l.become(StateParked)
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

// connect uses one end of a handover link.
func (l *life) connect(m ipc.Message, fd int, use func(*ipc.Link) error) {
	link, err := ipc.Adopt(fd)
	if err == nil {
		err = use(link)
	}
	if err != nil {
		l.refuse(m, err)
	}
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
	h := ipc.Hello{
		Min:        ipc.MinVersion,
		Max:        ipc.MaxVersion,
		Worker:     l.w.info.Worker,
		Secret:     *l.secret.Load(),
		PID:        os.Getpid(),
		SDK:        "masterd-go " + runtime.Version(),
		Generation: l.w.info.Generation,
		State:      string(l.w.State()),
		Gives:      l.w.handover.givesTo(),
	}
	if s := l.seen.Load(); s != nil {
		h.Seq, h.Listeners, h.Paused, h.Background = s.asked, s.listeners, s.paused, s.background
	}
	return h
}
