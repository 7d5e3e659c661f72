package master

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/keeper"
)

// close gives everything back, in the opposite order of open.
func (m *Master) close() {
	m.end()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if m.admin != nil {
		errs = append(errs, m.admin.Close(ctx))
	}
	if m.watch != nil {
		m.watch.Close()
	}
	if m.sessions != nil {
		errs = append(errs, m.sessions.Close())
	}
	m.ending.Lock()
	m.ended = true
	m.ending.Unlock()
	ended := m.tasksEnd()
	for _, w := range m.workers {
		if w.calls != nil {
			w.calls.Close() // what was taken is answered; the keeper has the rest
		}
	}
	m.notices.Close()
	m.stored.Close()
	stays := m.leave != nil || m.inherits && m.exit == nil // what runs goes on, for another master
	switch {
	case stays:
	case m.exit != nil:
		m.endAll()
	default:
		m.contain.Close()
	}
	switch {
	case m.sockets == nil:
	case stays:
		errs = append(errs, m.sockets.Leave())
	default:
		errs = append(errs, m.sockets.Close())
	}
	if m.output != nil {
		errs = append(errs, m.output.Close())
	}
	for _, a := range m.answers {
		a.Close()
	}
	if m.history != nil && ended { // or somebody may be writing it for ever
		errs = append(errs, m.history.Close())
	}
	if stays {
		m.keeper.Leave()
	} else {
		_ = keeper.Unguarded(m.opt.Report) // init need not wait for a guard that ends with the keeper
		errs = append(errs, m.keeper.End(), m.forgetLive(), m.leaveIndex())
	}
	if m.lock != nil {
		errs = append(errs, m.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		m.log.Warn("closing", zap.Error(err))
	}
}

// answerLast ends the wait of callers that nobody has answered. Where another masterd
// takes over, what they asked for goes on: their streams end without an outcome, as
// they would had this one been killed.
func (m *Master) answerLast() {
	for id, c := range m.callers {
		delete(m.callers, id)
		if m.exit != nil {
			c.events <- api.Event{Outcome: &api.Outcome{Result: api.ResultFailed, Reason: masterEnds}} // report leaves room for it
		}
		close(c.events)
	}
}

// endWorkers kills whoever is still there at the end of a stop: one that was being
// started when the machine gave it up, and what an earlier master has left.
func (m *Master) endWorkers() {
	m.endUnknown()
	for _, w := range sorted(m.workers) {
		if w.process != nil {
			_ = w.process.Signal(signals["KILL"])
		}
	}
}

// tasksEnd waits for what runs beside the loop, and tells whether it has ended.
func (m *Master) tasksEnd() bool {
	ended := make(chan struct{})
	go func() {
		m.tasks.Wait()
		close(ended)
	}()
	limit := time.NewTimer(tasksTimeout)
	defer limit.Stop()
	select {
	case <-ended:
		return true
	case <-limit.C:
		m.log.Error("something hangs, the disk most likely; masterd ends without waiting for it", zap.Duration("waited", tasksTimeout))
		return false
	}
}
