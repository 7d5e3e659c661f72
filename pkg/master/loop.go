package master

import (
	"context"
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/rollout"
)

// loop is the one goroutine that owns the machine. It ends when the machine
// says Exit.
func (m *Master) loop(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pulse := time.NewTicker(m.pulseInterval())
	defer pulse.Stop()
	stop := ctx.Done()
	m.feed() // in the place of a master that was upgraded, the last time may be a whole pulse ago
	for m.exit == nil && !m.left() {
		select {
		case c := <-m.inbox.calls:
			c.do()
		case <-timer.C:
			m.step(rollout.Ticked{})
		case <-pulse.C:
			m.pulse()
			m.placeOrphans() // who was held for long enough is answered
			m.beginBackground()
		case <-stop:
			stop = nil
			m.stopUnattended("the process that runs it", false)
		}
		if next := m.machine.Next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(next), 0))
		}
	}
}

// step tells the machine one thing and carries out what it decides, and then
// the same with what came of that at once.
func (m *Master) step(ev rollout.Event) {
	m.pending = append(m.pending, ev)
	if m.stepping { // we are being called by what carries out a command
		return
	}
	m.stepping = true
	quiet := true
	for len(m.pending) > 0 {
		ev := m.pending[0]
		m.pending = m.pending[1:]
		commands := m.machine.Step(time.Now(), ev)
		if len(commands) > 0 || notable(ev) {
			m.keepLive()
		}
		for _, c := range commands {
			m.effect(c)
			m.perform(c)
			quiet = false
		}
	}
	m.pending, m.stepping = nil, false
	if !quiet {
		m.keepLive() // what came of it
		st := m.machine.Status()
		m.followTraffic(st)
		m.notifyState(st)
	}
}

// effect tells a test what is about to be carried out: a command, or a part of
// what is written around it.
func (m *Master) effect(c any) {
	if m.opt.Effect != nil {
		m.opt.Effect(fmt.Sprintf("%T", c))
	}
}

// perform carries out one command: at once, or beside the loop.
func (m *Master) perform(c rollout.Command) {
	switch c := c.(type) {
	case rollout.Prepare:
		m.prepare(c)
	case rollout.Start:
		m.startWorker(c)
	case rollout.Probe:
		m.probe(c)
	case rollout.Warm:
		m.warm(c)
	case rollout.Activate:
		m.activate(c)
	case rollout.Steer:
		m.steer(c)
	case rollout.Park:
		m.park(c)
	case rollout.Drain:
		m.drain(c)
	case rollout.Give:
		m.give(c)
	case rollout.Announce:
		m.announce(c)
	case rollout.Terminate:
		m.stopWorker(c.Worker, false, c.Why)
	case rollout.Kill:
		m.stopWorker(c.Worker, true, c.Why)
	case rollout.Dump:
		m.dump(c)
	case rollout.Quarantine:
		m.sockets.Quarantine(int(c.Slot))
	case rollout.Relieve:
		m.sockets.Quarantine(int(c.Slot)) // for the sockets it is the same; that it is quiet is news to nobody
	case rollout.Report:
		m.report(c)
	case rollout.Reply:
		m.reply(c)
	case rollout.Save:
		m.save(c)
	case rollout.Record:
		m.record(c)
		if c.Entry.Rollout != 0 {
			m.tidy() // it has ended, or moved the traffic: nothing more is prepared for it
			if c.Entry.Code != rollout.Done {
				m.settle()
			}
		}
	case rollout.Hook:
		m.hook(c)
	case rollout.Retain:
		m.retain(c)
	case rollout.Adopt:
		// followTraffic goes by where the traffic is: a rollback need not change settings
		// to bring another configuration back.
	case rollout.Exit:
		m.exit = &c.Code
	default:
		m.log.DPanic("unknown command of the rollout machine", zap.Any("command", c))
	}
}

// post has the loop call do, or calls refused when the loop has ended: exactly one of
// the two is called. It waits while the inbox is full.
func (m *Master) post(do, refused func()) {
	if !m.inbox.put(call{do, refused}, nil) {
		refused()
	}
}

// at posts what holds nothing and may be dropped once the loop has ended.
func (m *Master) at(f func()) { m.inbox.put(call{do: f}, nil) }

// ask has the loop call f and waits until it has; false: the loop has ended, and f was
// not called and never will be. The loop's own goroutine must not call it.
func (m *Master) ask(f func()) (called bool) {
	answered := make(chan struct{})
	m.post(func() { f(); called = true; close(answered) }, func() { close(answered) })
	<-answered
	return called
}

// endInbox ends what the loop is asked to do: what was posted before is still done,
// what comes later is refused, and whoever still waits for an answer waits no longer.
func (m *Master) endInbox() {
	m.inbox.close()
	m.inbox.drain()
	m.answerLast()
}

// endLoop tells those who work beside the loop that it has ended.
func (m *Master) endLoop() {
	m.disk.close()
	close(m.done)
}

// tell posts a fact from beside the loop.
func (m *Master) tell(ev rollout.Event) { m.at(func() { m.step(ev) }) }

// beside runs f beside the loop; the end of the master waits for it. m.life
// ends when it should. Once the master waits nothing more is begun (a signal may
// still come), and it reports false.
func (m *Master) beside(f func()) bool {
	m.ending.Lock()
	defer m.ending.Unlock()
	if !m.ended {
		m.tasks.Go(f)
	}
	return !m.ended
}
