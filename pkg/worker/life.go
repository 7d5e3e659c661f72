package worker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

const (
	parkTimeout = 10 * time.Second // for OnActive functions, before parked is said without them
	signalRoom  = 4                // signals that may wait
	// closeTimeout is for functions of the program's to return once everything is
	// closed. Servers of Serve have stopTimeout each, one for clients and one for checks.
	closeTimeout = 2*stopTimeout + time.Second
)

// life is one run of a worker. One goroutine, run, owns all of it; the others
// post to its channels.
type life struct {
	w      *Worker
	log    *slog.Logger
	doors  []*door
	jobs   *background
	takers *takers

	link    *link
	session *session // with the master; nil while there is none
	beat    *time.Ticker
	paused  bool       // accepting is stopped (shared steering)
	broken  chan error // a server of Serve that ended by itself

	preparing chan error // BeforeReady's end; nil once received
	cancel    context.CancelFunc

	asked  uint64                 // highest seq of a master's request
	seen   atomic.Pointer[seen]   // for the next hello
	secret atomic.Pointer[string] // for the next hello

	parking    uint64 // seq of a park that waits for the background work; zero: none
	parkLimit  *time.Timer
	draining   uint64 // seq of the master's drain; zero: it did not ask
	accepting  bool   // while draining: the sockets are still open
	deadline   *time.Timer
	deadlineAt time.Time // zero: none
	wasCut     bool
	thinning   *time.Timer // while draining: idle connections are closed at its ticks
	thinned    int         // how many were
	announcing string      // why it leaves once that was announced for long enough; empty: it is not announced
	announced  *time.Timer // the end of that

	over bool
	err  error
}

func newLife(w *Worker) *life {
	l := &life{
		w:         w,
		log:       w.log,
		jobs:      newBackground(w.jobs),
		broken:    make(chan error, 1),
		beat:      time.NewTicker(time.Hour),
		parkLimit: time.NewTimer(time.Hour),
		deadline:  time.NewTimer(time.Hour),
		thinning:  time.NewTimer(time.Hour),
		announced: time.NewTimer(time.Hour),
	}
	l.secret.Store(&w.env.secret)
	l.beat.Stop() // each is started when there is something to wait for
	l.parkLimit.Stop()
	l.deadline.Stop()
	l.thinning.Stop()
	l.announced.Stop()
	return l
}

// run is the worker's story; see the package's documentation for its states.
func (l *life) run(ctx context.Context) error {
	for _, ln := range l.w.listeners {
		d, err := ln.open(l.w.traffic, l.w.handover, l.log)
		if err != nil {
			l.closeDoors()
			l.w.env.closeSockets()
			return err
		}
		l.doors = append(l.doors, d)
	}
	defer l.closeDoors()
	l.takers = newTakers(l.w, l.door)
	defer l.takers.close()
	defer l.w.handover.close()

	var signals chan os.Signal
	if !l.w.opts.IgnoreSignals {
		signals = make(chan os.Signal, signalRoom)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		if !l.w.info.Managed {
			defer signal.Stop(signals)
		}
		// A master's TERM at the deadline may come while the program cleans up
		// after Run; it must not kill that. For one that hangs there is KILL.
	}

	var events chan linkEvent
	if l.w.info.Managed {
		l.link = &link{
			path:   l.w.env.control,
			first:  l.w.env.inherited,
			hello:  l.hello,
			events: make(chan linkEvent),
			log:    l.log,
			stderr: l.w.stderr,
		}
		events = l.link.events
		linked, unlink := context.WithCancel(context.Background())
		var linking sync.WaitGroup
		linking.Go(func() { l.link.run(linked) })
		defer linking.Wait()
		defer unlink()
		defer l.w.vault.end()
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
			l.prepared(err)
		case ev := <-events:
			l.heard(ev)
		case <-l.jobs.ended:
			l.jobs.oneEnded()
		case <-l.w.traffic.settled:
		case err := <-l.broken:
			l.leaveBroken(err)
		case <-l.parkLimit.C:
			l.log.Warn("worker: parked, but background work has not returned although its context ended", "waited", parkTimeout)
			l.sayParked()
		case <-l.deadline.C:
			l.cut()
		case <-l.thinning.C:
			l.thin()
		case <-l.announced.C:
			l.leave(l.announcing)
		case <-l.beat.C:
			l.say(ipc.Message{Type: ipc.TypeBeat})
		}
		l.look()
		l.show()
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
				l.preparing <- errors.New("getting ready: a function of the program's ended its goroutine")
			}
		}()
		err := l.getReady(ctx)
		returned = true
		l.preparing <- err
	}()
}

// getReady calls what the program has for that: its BeforeReady functions, and those
// that make its servers.
func (l *life) getReady(ctx context.Context) error {
	for _, fn := range l.w.before {
		if err := fn(ctx); err != nil {
			return fmt.Errorf("getting ready: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	return l.makeShifts()
}

func (l *life) prepared(err error) {
	l.preparing = nil
	l.cancel()
	switch {
	case l.state() == StateDraining:
		// told to leave meanwhile; an error then is only an echo
	case err != nil:
		l.fail(err)
	default:
		if err := l.beginShifts(); err != nil {
			l.fail(err)
			return
		}
		if l.w.info.Managed {
			l.sayReady()
			return
		}
		if err := l.openAlone(); err != nil {
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
	l.w.traffic.abandon()
	ended := within(closeTimeout, func() {
		for _, d := range l.doors {
			d.serving.Wait()
		}
		l.w.traffic.partings.wait()
	})
	if !ended {
		l.log.Warn("worker: a function of the program's has not returned although its connection is closed; not waiting for it", "waited", closeTimeout)
	}
}

// within calls wait, which may wait for functions of the program's, and reports whether
// it has returned in time. One that never returns is left to the process's end.
func within(limit time.Duration, wait func()) bool {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		wait()
	}()
	t := time.NewTimer(limit)
	defer t.Stop()
	select {
	case <-ended:
		return true
	case <-t.C:
		return false
	}
}

func (l *life) notify(state string) {
	if err := notify(l.w.env.notify, state); err != nil {
		l.log.Warn("worker: systemd could not be told", "error", err)
	}
}
