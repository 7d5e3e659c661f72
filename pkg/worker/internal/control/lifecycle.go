package control

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
	"github.com/masterd/masterd/pkg/worker/internal/rotate"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

const (
	parkTimeout = 10 * time.Second // for OnActive functions to return, before the park is answered without them
	signalRoom  = 4                // signals that may wait
	// closeTimeout is for functions of the program's to return once everything is
	// closed. Servers of the program's own have StopTimeout each, one for clients and one for checks.
	closeTimeout = 2*rotate.StopTimeout + time.Second
)

// lifecycle is one run of a worker. One goroutine, run, owns all of it; the others
// post to its channels.
type lifecycle struct {
	*Core
	Program
	listeners []*serve.Listener
	jobs      *background
	receiver  *migrate.Receiver

	link         *masterLink
	conn         *masterConn // with the master; nil while there is none
	beat         *time.Ticker
	paused       bool       // accepting is stopped (shared steering)
	serverErrors chan error // a server of Serve that ended by itself

	preparing chan error // BeforeReady's end; nil once received
	cancel    context.CancelFunc

	lastSeq uint64                     // highest seq of a master's request
	seen    atomic.Pointer[helloState] // for the next hello
	secret  atomic.Pointer[string]     // for the next hello

	parking      parking
	shutdown     shutdown
	announcement announcement

	over bool
	err  error
}

// parking is a park that waits for the background work.
type parking struct {
	seq   uint64 // of the master's request; zero: there is none
	limit *time.Timer
}

func newLifecycle(c *Core, p Program) *lifecycle {
	l := &lifecycle{
		Core:         c,
		Program:      p,
		jobs:         newBackground(p.OnActive),
		serverErrors: make(chan error, 1),
		beat:         time.NewTicker(time.Hour),
	}
	l.parking.limit = stoppedTimer()
	l.shutdown.goodbyes = newBackground(withoutEnd(p.OnLeaving))
	l.shutdown.deadline = stoppedTimer()
	l.shutdown.idleTimer = stoppedTimer()
	l.announcement.timer = stoppedTimer()
	l.secret.Store(&c.env.secret)
	l.beat.Stop()
	return l
}

// stoppedTimer is started when there is something to wait for.
func stoppedTimer() *time.Timer {
	t := time.NewTimer(time.Hour)
	t.Stop()
	return t
}

// run is the worker's life; see the SDK's documentation for its states.
func (l *lifecycle) run(ctx context.Context) error {
	for _, ln := range l.Listeners {
		d, err := ln.Open(l.Traffic, l.Sender, l.log)
		if err != nil {
			l.closeListeners()
			l.env.closeSockets()
			return err
		}
		l.listeners = append(l.listeners, d)
	}
	defer l.closeListeners()
	l.receiver = migrate.NewReceiver(migrate.ReceiverConfig{
		Log:      l.log,
		Targets:  l.target,
		Draining: func() bool { return l.State() == ipc.StateDraining },
		Kinds:    l.Kinds,
		Settled:  l.Traffic.Notify,
	})
	defer l.receiver.Close()
	defer l.Sender.Close()

	var signals chan os.Signal
	if !l.IgnoreSignals {
		signals = make(chan os.Signal, signalRoom)
		signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
		if !l.info.Managed {
			defer signal.Stop(signals)
		}
		// A master's TERM at the deadline may come while the program cleans up
		// after Run; it must not kill that. For one that hangs there is KILL.
	}

	var events chan linkEvent
	if l.info.Managed {
		l.link = &masterLink{
			path:   l.env.control,
			first:  l.env.inherited,
			hello:  l.hello,
			events: make(chan linkEvent),
			log:    l.log,
			stderr: l.Stderr,
		}
		events = l.link.events
		linked, unlink := context.WithCancel(context.Background())
		var linking tasks.Group
		linking.Go(func() { l.link.run(linked) })
		defer linking.Wait()
		defer unlink()
		defer l.client.Close()
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
			l.handleEvent(ev)
		case <-l.jobs.done:
			l.jobs.onDone()
		case <-l.shutdown.goodbyes.done:
			l.shutdown.goodbyes.onDone()
		case <-l.Traffic.Changed:
		case err := <-l.serverErrors:
			l.serverFailed(err)
		case <-l.parking.limit.C:
			l.log.Warn("worker: parked, but background work has not returned although its context ended", "waited", parkTimeout)
			l.sendParked()
		case <-l.shutdown.deadline.C:
			l.cut()
		case <-l.shutdown.idleTimer.C:
			l.closeIdle()
		case <-l.announcement.timer.C:
			l.leave(l.announcement.why)
		case <-l.beat.C:
			l.sendBeat()
		}
		l.checkDone()
		l.noteForHello()
	}
	l.finish()
	return l.err
}

// prepare runs the BeforeReady functions beside the loop, which has a master to
// answer meanwhile.
func (l *lifecycle) prepare() {
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
func (l *lifecycle) getReady(ctx context.Context) error {
	for _, fn := range l.BeforeReady {
		if err := fn(ctx); err != nil {
			return fmt.Errorf("getting ready: %w", err)
		}
		if ctx.Err() != nil {
			return nil
		}
	}
	for _, d := range l.listeners {
		if err := d.Prepare(); err != nil {
			return err
		}
	}
	return nil
}

func (l *lifecycle) prepared(err error) {
	l.preparing = nil
	l.cancel()
	switch {
	case l.State() == ipc.StateDraining:
		// it was told to leave meanwhile, which ended the context: an error is only its echo
	case err != nil:
		l.fail(err)
	default:
		for _, d := range l.listeners {
			if err := d.Start(l.serverErrors); err != nil {
				l.fail(err)
				return
			}
		}
		if l.info.Managed {
			l.sendReady()
			return
		}
		if err := l.listenStandalone(); err != nil {
			l.fail(err)
			return
		}
		l.setState(ipc.StateActive)
		l.jobs.start()
		l.notify("READY=1")
	}
}

// fail ends a worker that has not begun to serve.
func (l *lifecycle) fail(err error) {
	l.err = err
	l.over = true
	l.jobs.stop()
}

func (l *lifecycle) listener(name string) *serve.Listener {
	for _, d := range l.listeners {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// target is the listener that takes connections of other workers by this name. It is called
// by their links' goroutines.
func (l *lifecycle) target(name string) migrate.Target {
	if d := l.listener(name); d != nil {
		return d
	}
	return nil
}

func (l *lifecycle) closeListeners() {
	for _, d := range l.listeners {
		d.Close()
	}
	l.Traffic.Cancel()
	ended := rotate.Wait(closeTimeout, func() {
		for _, d := range l.listeners {
			d.Wait()
		}
		l.Traffic.GoAways.Wait()
	})
	if !ended {
		l.log.Warn("worker: a function of the program's has not returned although its connection is closed; "+
			"not waiting for it", "waited", closeTimeout)
	}
}

func (l *lifecycle) notify(state string) {
	if err := notify(l.env.notify, state); err != nil {
		l.log.Warn("worker: systemd could not be told", "error", err)
	}
}
