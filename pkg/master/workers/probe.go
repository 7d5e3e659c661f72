package workers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/probe"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/trust"
)

// WarmTimeout bounds one worker's warm-up.
const WarmTimeout = time.Minute

// errAnswersForAnother is the error of a check that a process answers which the worker has
// left behind, with its socket: that is not the worker.
var errAnswersForAnother = errors.New("the process has ended, and what it has left behind answered")

// Probe checks one worker by itself, beside the loop.
func (set *Set) Probe(c rollout.Probe) {
	w := set.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	dial, barred := dialProbe(w)
	who, checker, process := probed(w), w.Generation.Checker, w.process
	said := w.kind.saidReady()
	set.Loop.Go(func() {
		ctx, cancel := context.WithTimeout(set.Loop.Life(), c.Timeout)
		defer cancel()
		begun := time.Now()
		err := checker.Check(ctx, who, dial)
		w.checkTook.Store(int64(time.Since(begun)))
		if barred.Load() {
			err = nil
		}
		if err == nil && process.Ended() {
			err = errAnswersForAnother
		}
		fact := rollout.Probed{Worker: c.Worker, OK: err == nil}
		if err != nil {
			fact.Detail = err.Error()
		}
		if no, is := errors.AsType[*probe.RefusedError](err); is {
			fact.Refusal, fact.Steady = no.Refusal(), said || no.Itself
		}
		set.postEvent(fact)
	})
}

// Warm makes the warm-up requests to one worker, beside the loop.
func (set *Set) Warm(c rollout.Warm) {
	w := set.workers[c.Worker]
	if w == nil || w.process == nil {
		return
	}
	dial, barred := dialProbe(w)
	who, checker := probed(w), w.Generation.Checker
	set.Loop.Go(func() {
		ctx, cancel := context.WithTimeout(set.Loop.Life(), WarmTimeout)
		defer cancel()
		made, failed, err := checker.Warm(ctx, who, dial)
		fact := rollout.Warmed{Worker: c.Worker, OK: err == nil && failed == 0}
		switch {
		case barred.Load():
			fact.OK = true
		case err != nil:
			fact.Detail = err.Error()
		case failed > 0:
			fact.Detail = fmt.Sprintf("%d of %d warm-up requests failed", failed, made)
		}
		set.postEvent(fact)
	})
}

// probed names a worker to a check.
func probed(w *Worker) probe.Worker {
	return probe.Worker{ID: uint64(w.ID), Generation: uint64(w.Generation.ID), PID: w.process.PID(),
		Version: w.Generation.Version.Label}
}

// dialProbe opens connections that reach exactly this worker. They are barred where the
// directory of its socket is not trusted, which says nothing of the worker: who serves
// there was taken by an earlier masterd, or the directory was given away since.
func dialProbe(w *Worker) (dial probe.Dialer, barred *atomic.Bool) {
	open, barred := w.kind.dial(CheckedListener(w.Generation.Config.Health)), new(atomic.Bool)
	return func(ctx context.Context) (net.Conn, error) {
		c, err := open(ctx)
		if _, refused := errors.AsType[trust.Refused](err); refused {
			barred.Store(true)
		}
		return c, err
	}, barred
}

// dialSession passes one end of a connection to a worker over its control connection.
func dialSession(s Control, listener string) probe.Dialer {
	return func(context.Context) (net.Conn, error) {
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

// DialSlot opens connections as clients do, but to one slot of a listener.
func (set *Set) DialSlot(slot int, listener string) probe.Dialer {
	return func(ctx context.Context) (net.Conn, error) {
		c, err := set.Sockets.ProbeDial(ctx, slot, listener)
		if err != nil {
			return nil, err
		}
		return fdpass.Guard(c), nil
	}
}

// CheckedListener is the listener that a check goes to.
func CheckedListener(h config.Health) string {
	switch {
	case h.HTTP != nil:
		return h.HTTP.Listener
	case h.TCP != nil:
		return h.TCP.Listener
	}
	return ""
}
