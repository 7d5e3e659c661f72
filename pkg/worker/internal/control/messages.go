package control

import (
	"errors"
	"fmt"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// What a worker does with its master's messages, and what it sends. All of it runs in the
// lifecycle's loop.

// handleEvent handles an event of the link.
func (l *lifecycle) handleEvent(ev linkEvent) {
	switch ev := ev.(type) {
	case gaveUp:
		l.fail(ev.err)
	case disconnected:
		l.client.Disconnected(ev.conn.link)
		if l.conn == ev.conn {
			l.conn = nil
			l.beat.Stop()
		}
	case connected:
		l.welcomed(ev)
	case received:
		l.handleMessage(ev.msg, ev.fds)
	}
}

func (l *lifecycle) welcomed(ev connected) {
	if l.State() == ipc.StateNew {
		if err := l.checkListeners(ev.welcome.Listeners); err != nil {
			l.fail(err)
			return
		}
	}
	l.conn = ev.conn
	l.Traffic.Counts.Compare(nil)
	l.conn.report = l.Traffic.Counts.Report(l.Measures, l.MaxInFlight)
	l.client.Connected(ev.conn.link, ev.welcome.Keeps)
	l.beat.Reset(time.Duration(ev.welcome.BeatMS) * time.Millisecond)
	l.sendReady()
}

// sendReady makes the worker ready once both are there: what it needed to get
// so, and a master to hear it. Until then every hello says that it is new.
func (l *lifecycle) sendReady() {
	if l.State() == ipc.StateNew && l.preparing == nil && l.conn != nil {
		l.setState(ipc.StateReady)
		l.send(ipc.Message{Type: ipc.TypeReady})
	}
}

// checkListeners finds out before the traffic comes that a listener has no handler.
func (l *lifecycle) checkListeners(ls []ipc.Listener) error {
	named := make(map[string]bool)
	for _, ln := range ls {
		named[ln.Name] = true
		if l.listener(ln.Name) == nil {
			return fmt.Errorf("the service has a listener %q on %s that this program does not serve: "+
				"add Handle(%q, ...) to it, or take the listener out of masterd's configuration",
				ln.Name, ln.Address, ln.Name)
		}
	}
	for _, d := range l.listeners {
		if !named[d.Name] {
			l.log.Info("worker: a listener of this program is not in masterd's configuration and not served", "listener", d.Name)
		}
	}
	return nil
}

// handleMessage follows one message of the master's.
func (l *lifecycle) handleMessage(m ipc.Message, fds []int) {
	switch m.Type {
	case ipc.TypeKept, ipc.TypeBlob, ipc.TypeRefused: // numbered by us
	default:
		l.lastSeq = max(l.lastSeq, m.Seq)
	}
	switch m.Type {
	case ipc.TypeActivate:
		l.activate(m, fds)
	case ipc.TypeKept, ipc.TypeBlob, ipc.TypeRefused:
		l.client.Reply(m, fds)
	case ipc.TypePause:
		l.pause()
		l.send(ipc.Message{Type: ipc.TypePaused, Seq: m.Seq})
	case ipc.TypeResume:
		l.resume()
		l.send(ipc.Message{Type: ipc.TypeAccepting, Seq: m.Seq})
	case ipc.TypePark:
		l.park(m)
	case ipc.TypeRenew:
		l.secret.Store(&m.Renew.Secret)
		l.send(ipc.Message{Type: ipc.TypeRenewed, Seq: m.Seq})
	case ipc.TypeAnnounce:
		l.stopping.Store(true)
	case ipc.TypeDrain:
		l.drain(m.Seq, time.Duration(m.Drain.TimeoutMS)*time.Millisecond)
	case ipc.TypeConn:
		l.pass(m, fds)
	case ipc.TypeGive:
		l.connect(m, fds[0], func(link *ipc.Link) error { return l.Sender.Add(link, *m.Peer, nil) })
	case ipc.TypeSplit:
		l.connect(m, fds[0], func(link *ipc.Link) error { return l.Sender.Add(link, *m.Peer, m.Split) })
	case ipc.TypeTake:
		l.connect(m, fds[0], func(link *ipc.Link) error { return l.receiver.Add(link, *m.Peer) })
	case ipc.TypeStay:
		l.Sender.Stop()
	case ipc.TypeCompare:
		l.Traffic.Counts.Compare(m.Compare)
	default:
		fdpass.Close(fds...)
		l.refuse(m, fmt.Errorf("this worker's SDK does not know messages of type %q", m.Type))
	}
}

// activate takes the sockets that came along and makes the worker active.
func (l *lifecycle) activate(m ipc.Message, fds []int) {
	if l.State() == ipc.StateDraining || l.State() == ipc.StateNew {
		fdpass.Close(fds...)
		l.refuse(m, fmt.Errorf("the worker is %s and cannot be active", l.State()))
		return
	}
	if err := l.takeSockets(m.Activate, fds); err != nil {
		l.refuse(m, err)
		return
	}
	l.sendParked() // if that is still to be answered: answers keep their order
	l.resume()
	l.shutdown.goodbyes.stop()
	l.Traffic.Leaving.Clear() // before the links end: an answer between the two would say close
	l.Sender.Stop()
	l.Traffic.GoAways.Cancel()
	l.setState(ipc.StateActive)
	if m.Activate == nil || !m.Activate.Wait {
		l.jobs.start()
	}
	l.send(ipc.Message{Type: ipc.TypeAccepting, Seq: m.Seq})
}

// takeSockets serves all of the sockets that came with activate, or none.
func (l *lifecycle) takeSockets(a *ipc.Activate, fds []int) error {
	listeners, sockets := make([]*serve.Listener, len(fds)), make([]serve.Socket, len(fds))
	var failed error
	for i, fd := range fds {
		name := a.Listeners[i]
		if listeners[i] = l.listener(name); listeners[i] == nil {
			fdpass.Close(fds[i : i+1]...)
			failed = errors.Join(failed, fmt.Errorf("this program does not serve a listener %q", name))
			continue
		}
		var err error
		if sockets[i], err = serve.ListenerFromFD(fd, name); err != nil {
			failed = errors.Join(failed, err)
		}
	}
	for i, s := range sockets {
		switch {
		case s == nil:
		case failed != nil:
			s.Close()
		default:
			failed = listeners[i].Add(s, l.paused)
		}
	}
	return failed
}

func (l *lifecycle) pause() {
	l.paused = true
	for _, d := range l.listeners {
		d.Pause()
	}
}

func (l *lifecycle) resume() {
	l.paused = false
	for _, d := range l.listeners {
		d.Resume()
	}
}

// rotate has clients of servers of Serve leave.
func (l *lifecycle) rotate() {
	for _, d := range l.listeners {
		d.Rotate()
	}
}

// park stops the background work and asks connections to leave. Accepting goes
// on: the master may steer back at any moment.
func (l *lifecycle) park(m ipc.Message) {
	if l.State() == ipc.StateNew {
		l.refuse(m, errors.New("the worker is not ready yet"))
		return
	}
	l.sendParked()
	l.parking.seq = m.Seq
	if l.State() == ipc.StateDraining {
		return // it is more than parked; answered when the background work has ended
	}
	l.sayLeaving()
	l.Traffic.GoAways.Start(0)
	l.rotate()
	l.setState(ipc.StateParked)
	l.jobs.stop()
	l.parking.limit.Reset(parkTimeout)
}

// sendParked answers a park that was not answered yet.
func (l *lifecycle) sendParked() {
	if l.parking.seq != 0 {
		l.send(ipc.Message{Type: ipc.TypeParked, Seq: l.parking.seq})
		l.parking.seq = 0
		l.parking.limit.Stop()
	}
}

// connect uses one end of a link to another worker.
func (l *lifecycle) connect(m ipc.Message, fd int, use func(*ipc.Link) error) {
	link, err := ipc.Adopt(fd)
	if err == nil {
		err = use(link)
	}
	if err != nil {
		l.refuse(m, err)
	}
}

// pass serves connections that came with a message.
func (l *lifecycle) pass(m ipc.Message, fds []int) {
	d := l.listener(m.Conn.Listener)
	if d == nil {
		fdpass.Close(fds...)
		l.refuse(m, fmt.Errorf("this program does not serve a listener %q", m.Conn.Listener))
		return
	}
	var failed error
	for _, fd := range fds {
		c, err := serve.ConnFromFD(fd)
		switch {
		case err != nil:
			failed = errors.Join(failed, err)
		case m.Conn.Purpose == ipc.PurposeProbe:
			failed = errors.Join(failed, d.ServeProbe(c))
		default:
			d.ServeConn(c)
		}
	}
	if failed != nil {
		l.refuse(m, failed)
	}
}

func (l *lifecycle) refuse(m ipc.Message, why error) {
	l.log.Error("worker: the master's message could not be followed", "type", string(m.Type), "error", why)
	if m.Seq != 0 {
		l.send(ipc.Message{Type: ipc.TypeRefused, Seq: m.Seq, Text: why.Error()})
	}
}

// send sends a message.
func (l *lifecycle) send(m ipc.Message) {
	if l.conn != nil { // else the next hello reports our state
		l.conn.send(m)
	}
}

// sendBeat sends the worker's numbers, unless older news still wait: what has changed meanwhile
// comes with a later beat. While the master reads nothing, beats are short: the socket has room for
// minutes of those, and the connection is kept.
func (l *lifecycle) sendBeat() {
	if l.conn == nil || len(l.conn.out) > 0 {
		return
	}
	if l.conn.link.Unread() {
		stats := l.Stats()
		l.conn.send(ipc.Message{Type: ipc.TypeBeat, Stats: &stats})
		return
	}
	m, _ := l.numbers()
	l.conn.send(m)
}

// sendDrained sends all that the master has not been told, with as many beats as that takes.
func (l *lifecycle) sendDrained() {
	giveUp := time.After(flushTimeout)
	for beats := 0; ; beats++ {
		m, more := l.numbers()
		if !more || beats == lastBeats {
			m.Type, m.Seq = ipc.TypeDrained, l.shutdown.seq
		}
		if !l.conn.sendLast(m, giveUp) || m.Type == ipc.TypeDrained {
			return
		}
	}
}

// numbers is a beat, which must be sent. more: some of what has changed had no room.
func (l *lifecycle) numbers() (m ipc.Message, more bool) {
	stats := l.Stats()
	counts, more := l.conn.report.Next()
	return ipc.Message{Type: ipc.TypeBeat, Stats: &stats, Counts: counts}, more
}
