package master

import (
	"context"
	"fmt"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/recent"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/takeover"
)

// serve is the one goroutine that owns the machine. It ends when the machine
// says Exit.
func (m *Master) serve(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	pulse := time.NewTicker(m.operator.Manager.Interval())
	defer pulse.Stop()
	sample := time.NewTicker(recent.Step)
	defer sample.Stop()
	stop := ctx.Done()
	// in the place of a master that was upgraded, the last time may be a whole pulse ago
	m.operator.Manager.Pulse(m.machine.Status())
	for m.exit == nil && !m.takeover.MayEnd() {
		select {
		case c := <-m.loop.Calls():
			m.turn(c.Name, c.Do)
		case <-timer.C:
			m.turn(nil, func() { m.step(rollout.Ticked{}) })
		case <-pulse.C:
			m.turn(func() string { return "pulse" }, func() {
				m.pulse()
				m.traffic.Place() // who was held for long enough is answered
				m.workers.BeginBackground()
			})
		case <-sample.C:
			m.turn(func() string { return "sample" }, m.operator.Sample)
		case <-stop:
			stop = nil
			m.operator.StopUnattended("the process that runs it", false)
		}
		if next := m.machine.Next(); next.IsZero() {
			timer.Stop()
		} else {
			timer.Reset(max(time.Until(next), 0))
		}
	}
}

// turn does one thing. A build for tests does it in a place of its own, where it is measured,
// and is told what it was, with the events and commands that came of it.
func (m *Master) turn(name func() string, do func()) {
	if m.opt.Turn == nil {
		do()
		return
	}
	m.turned = []string{}
	if name != nil {
		m.turned = append(m.turned, name())
	}
	m.opt.Turn(do, func() string { return strings.Join(m.turned, " ") })
}

// turns remembers an event or a command for [Options.Turn].
func (m *Master) turns(x any) {
	if m.turned != nil {
		m.turned = append(m.turned, fmt.Sprintf("%T", x))
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
	quiet, news := true, false
	for len(m.pending) > 0 {
		ev := m.pending[0]
		m.pending = m.pending[1:]
		m.turns(ev)
		if p, probed := ev.(rollout.Probed); probed && !p.OK {
			news = true
		}
		commands := m.machine.Step(time.Now(), ev)
		if len(commands) > 0 || takeover.Notable(ev) {
			m.takeover.KeepLive()
		}
		for _, c := range commands {
			m.effect(c)
			m.turns(c)
			m.perform(c)
			quiet = false
			if _, check := c.(rollout.Probe); !check { // there is one each second or so
				news = true
			}
		}
	}
	m.pending, m.stepping = nil, false
	if !quiet {
		m.takeover.KeepLive() // what came of it
		m.generations.FollowTraffic(m.machine.Status().Active)
		m.operator.Tell()
	}
	if news && m.open.page != nil {
		m.open.page.Wake()
	}
	m.takeover.KeepCounters()
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
		m.generations.Prepare(c)
	case rollout.Start:
		if g := m.generations.Of(c.Generation); g != nil {
			m.workers.Start(c, g)
		} else {
			m.step(rollout.StartFailed{Worker: c.Worker, Reason: "nothing was prepared for this generation"})
		}
	case rollout.Probe:
		m.workers.Probe(c)
	case rollout.Warm:
		m.workers.Warm(c)
	case rollout.Activate:
		m.workers.Activate(c)
	case rollout.Steer:
		m.traffic.Steer(c)
	case rollout.Park:
		m.workers.Park(c)
	case rollout.Drain:
		m.workers.Drain(c)
	case rollout.Give:
		m.workers.Give(c)
	case rollout.Compare:
		m.workers.Compare(c)
	case rollout.Queue:
		if g := m.generations.Of(c.Generation); g != nil {
			m.workers.Queue(c, g)
		}
	case rollout.Announce:
		m.workers.Announce(c)
	case rollout.Terminate:
		m.workers.Stop(c.Worker, false, c.Why)
	case rollout.Kill:
		m.workers.Stop(c.Worker, true, c.Why)
	case rollout.Dump:
		m.workers.Dump(c)
	case rollout.Quarantine:
		m.open.sockets.Quarantine(int(c.Slot))
	case rollout.Relieve:
		m.open.sockets.Quarantine(int(c.Slot)) // for the sockets it is the same; that it is quiet is news to nobody
	case rollout.Report:
		m.operator.Report(c)
	case rollout.Reply:
		m.operator.Reply(c)
	case rollout.Save:
		m.save(c)
	case rollout.Record:
		m.operator.Record(c)
		m.generations.Recorded(c.Entry)
	case rollout.Hook:
		m.generations.Hook(c)
	case rollout.Retain:
		m.generations.Retain(c)
	case rollout.Exit:
		m.exit = &c.Code
	default:
		m.log.DPanic("unknown command of the rollout machine", zap.Any("command", c))
	}
}

// endInbox ends what the loop is asked to do, and whoever still waits for an answer waits
// no longer.
func (m *Master) endInbox() {
	m.loop.Close(true)
	m.takeover.Keeper.Settle()
	m.operator.AnswerLast(m.exit != nil)
}

// endLoop tells those who work beside the loop that it has ended.
func (m *Master) endLoop() {
	m.disk.Close()
	m.loop.Finish()
}

// postEvent posts a fact from beside the loop.
func (m *Master) postEvent(ev rollout.Event) { m.loop.Post(func() { m.step(ev) }) }

// pulse comes from the loop itself, every so often.
func (m *Master) pulse() {
	m.operator.Pulse()
	m.takeover.KeepLive() // its times, too: they count only up to when it was written
	m.takeover.KeepCounters()
	m.generations.LookAtFile()
	m.operator.Tell() // time alone ends a loop of workers
}

// save writes the machine's state.
func (m *Master) save(c rollout.Save) {
	dir := m.generations.InForce().StateDir
	if !m.disk.Try(func() {
		if err := m.system.save(dir, c.State); err != nil {
			m.log.Error("saving the state", zap.Error(err))
			m.postEvent(rollout.SaveFailed{Seq: c.Seq, Reason: err.Error()})
			return
		}
		m.postEvent(rollout.Saved{Seq: c.Seq})
	}) {
		m.step(rollout.SaveFailed{Seq: c.Seq, Reason: "the disk does not keep up: earlier writes are still waiting"})
	}
}

// pressureInterval is how often memory is looked at while a generation is parked.
const pressureInterval = 5 * time.Second

// lookAtMemory tells the machine when memory runs short, as long as there is a
// parked generation that could leave.
func (m *Master) lookAtMemory() {
	t := time.NewTicker(pressureInterval)
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-m.loop.Life().Done():
			return
		case <-m.loop.Done():
			return
		}
		parked := false
		m.loop.Call(func() { parked = m.machine.Status().Parked != 0 })
		if !parked {
			continue
		}
		if pressed, detail := m.system.pressure(); pressed {
			m.postEvent(rollout.Pressed{Detail: detail})
		}
	}
}
