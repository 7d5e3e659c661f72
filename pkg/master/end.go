package master

import (
	"context"
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/blob"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/takeover"
)

const (
	// closeTimeout bounds how long the end of a master waits for open admin
	// requests to be answered.
	closeTimeout = 2 * time.Second
	// tasksTimeout bounds its wait for what runs beside the loop: a write to a
	// disk that hangs cannot be ended.
	tasksTimeout = 10 * time.Second
	// storeTimeout bounds its wait for what is to outlive it to be written.
	storeTimeout = 30 * time.Second
)

// close gives everything back, in the opposite order of open.
func (m *Master) close() {
	m.loop.Stop()
	ctx, cancel := context.WithTimeout(context.Background(), closeTimeout)
	defer cancel()
	var errs []error
	if m.open.admin != nil {
		errs = append(errs, m.open.admin.Close(ctx))
	}
	if m.open.page != nil {
		m.open.page.Close()
	}
	if m.open.metrics != nil {
		m.open.metrics.Close()
	}
	m.operator.CloseWatch()
	if m.open.sessions != nil {
		errs = append(errs, m.open.sessions.Close())
	}
	ended := m.tasksEnd()
	m.workers.Close()
	m.open.notices.Close()
	m.open.stored.Close()
	stays := m.takeover.Leaving() || m.takeover.Inherits() && m.exit == nil // what runs goes on, for another master
	switch {
	case stays:
	case m.exit != nil:
		m.endAll()
	default:
		m.open.contain.Close()
	}
	switch {
	case m.open.sockets == nil:
	case stays:
		errs = append(errs, m.open.sockets.Leave())
	default:
		errs = append(errs, m.open.sockets.Close())
	}
	if m.open.output != nil {
		errs = append(errs, m.open.output.Close())
	}
	m.traffic.Close()
	if m.open.history != nil && ended { // or somebody may be writing it for ever
		errs = append(errs, m.open.history.Close())
	}
	if stays {
		m.takeover.Keeper.Leave()
	} else {
		_ = keeper.Unguarded(m.opt.Report) // init need not wait for a guard that ends with the keeper
		errs = append(errs, m.takeover.Keeper.End(), m.takeover.Forget())
		if m.exit != nil {
			errs = append(errs, m.rundir.Leave())
		}
	}
	if m.open.lock != nil {
		errs = append(errs, m.open.lock.Close())
	}
	if err := errors.Join(errs...); err != nil {
		m.log.Warn("closing", zap.Error(err))
	}
}

// endWorkers kills whoever is still there at the end of a stop: one that was being
// started when the machine gave it up, and what an earlier master has left.
func (m *Master) endWorkers() {
	m.takeover.EndUnknown()
	m.workers.Kill()
}

// tasksEnd waits for what runs beside the loop, and tells whether it has ended.
func (m *Master) tasksEnd() bool {
	ended := m.loop.Wait(tasksTimeout)
	if !ended {
		m.log.Error("something hangs, the disk most likely; masterd ends without waiting for it",
			zap.Duration("waited", tasksTimeout))
	}
	return ended
}

// endAll ends, when the service has stopped, what is left of all workers there were.
func (m *Master) endAll() {
	ended, err := m.open.contain.EndAll(m.takeover.Keeper.PID())
	if len(ended) > 0 {
		m.log.Warn("what workers have left behind was ended with the service", zap.Ints("processes", ended))
	}
	if err != nil {
		m.log.Error("what workers have left behind does not end", zap.Error(err))
	}
}

// goAway gives everything up without changing anything: the keeper and the
// workers have it all.
func (m *Master) goAway() int {
	m.takeover.KeepLive()
	m.takeover.KeepCountersNow()
	code := 0
	if m.takeover.Successor() != "" {
		code = Replaced
		m.takeover.Guard()
	}
	m.endLoop()
	m.close()
	takeover.AwaitClosing()
	return code
}

// storeBlobs writes what is to outlive the stop, by the disk goroutine: what is
// removed is removed before. A disk that is full costs that state and a line in
// the log; one that hangs does not keep the master from ending.
func (m *Master) storeBlobs() {
	all := m.blobs.List()
	written := make(chan struct{})
	limit := time.NewTimer(storeTimeout)
	defer limit.Stop()
	write := func() {
		defer close(written)
		if err := blob.Store(m.blobsPath(), all); err != nil {
			m.log.Error("state that was to be kept across the stop is not, or not all of it", zap.Error(err))
		}
	}
	if !m.disk.Put(write, limit.C) {
		m.log.Error("state that was to be kept across the stop is not: the disk does not keep up",
			zap.Duration("waited", storeTimeout))
		return
	}
	select {
	case <-written:
		m.blobs.Close()
	case <-limit.C:
		m.log.Error("masterd ends without waiting for the disk; state that was to be kept across the stop may be lost",
			zap.Duration("waited", storeTimeout))
	}
}
