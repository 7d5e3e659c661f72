package master

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// errAnswersForAnother: what a worker has left behind, with its socket, is not that worker.
var errAnswersForAnother = errors.New("the process has ended, and what it has left behind answered")

// probe checks one worker by itself, beside the loop.
func (m *Master) probe(c rollout.Probe) {
	w := m.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	who, dial, checker, process := probed(w), m.dialProbe(w), w.generation.checker, w.process
	m.beside(func() {
		ctx, cancel := context.WithTimeout(m.life, c.Timeout)
		defer cancel()
		err := checker.Check(ctx, who, dial)
		if err == nil && process.Ended() {
			err = errAnswersForAnother
		}
		fact := rollout.Probed{Worker: c.Worker, OK: err == nil}
		if err != nil {
			fact.Detail = err.Error()
		}
		m.tell(fact)
	})
}

// warm makes the warm-up requests to one worker, beside the loop.
func (m *Master) warm(c rollout.Warm) {
	w := m.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	who, dial, checker := probed(w), m.dialProbe(w), w.generation.checker
	m.beside(func() {
		ctx, cancel := context.WithTimeout(m.life, warmTimeout)
		defer cancel()
		made, failed, err := checker.Warm(ctx, who, dial)
		fact := rollout.Warmed{Worker: c.Worker, OK: err == nil && failed == 0}
		switch {
		case err != nil:
			fact.Detail = err.Error()
		case failed > 0:
			fact.Detail = fmt.Sprintf("%d of %d warm-up requests failed", failed, made)
		}
		m.tell(fact)
	})
}

// probed names a worker to a check.
func probed(w *worker) probe.Worker {
	return probe.Worker{ID: uint64(w.id), Generation: uint64(w.generation.id), PID: w.process.PID(), Version: w.generation.version.Label}
}

// dialProbe opens connections that reach exactly this worker.
func (m *Master) dialProbe(w *worker) probe.Dialer {
	listener := checkedListener(w.generation.cfg.Health)
	s, slot := w.session, int(w.slot)
	return func(ctx context.Context) (net.Conn, error) {
		if s == nil {
			return m.dialSlot(slot, listener)(ctx)
		}
		conn, fd, err := pair()
		if err != nil {
			return nil, err
		}
		if err := s.Conn(listener, ipc.PurposeProbe, fd); err != nil {
			_ = conn.Close()
			return nil, err
		}
		return conn, nil
	}
}

// dialSlot opens connections as clients do, but to one slot of a listener.
func (m *Master) dialSlot(slot int, listener string) probe.Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := m.sockets.ProbeDial(ctx, slot, listener)
		if err != nil {
			return nil, err
		}
		return ipc.Guard(c), nil
	}
}

// checkedListener is the listener that a check goes to.
func checkedListener(h config.Health) string {
	switch {
	case h.HTTP != nil:
		return h.HTTP.Listener
	case h.TCP != nil:
		return h.TCP.Listener
	}
	return ""
}
