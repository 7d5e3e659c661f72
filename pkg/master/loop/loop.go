// Package loop carries what is to be done to the one goroutine that owns a master's
// state, and keeps account of what runs beside it.
//
// That goroutine waits for no other one, but for locks of rooms that wait for nobody under
// them. What it writes itself is live.json, with the configurations that this names: the next
// master must know of a thing before it is done. They are in the runtime directory, which is
// in memory under systemd; on a disk the loop waits for that. A build with the tag
// masterd_turns measures each of its turns (`go run ./test/bench -only loop`), and a test
// (test/e2e, turns_test.go) holds what it waits for.
package loop

import (
	"context"
	"sync"
	"time"
)

// Loop is that goroutine, as those see it who work beside it: whatever may take time.
// They post what came of it. Its methods are for any goroutine, unless they say otherwise.
type Loop struct {
	inbox *Queue
	done  chan struct{}
	life  context.Context
	stop  context.CancelFunc

	mu    sync.Mutex     // guards ended
	ended bool           // tasks are waited for
	tasks sync.WaitGroup // everything that runs beside the loop
}

// New makes a loop whose inbox holds so many calls; who posts more waits.
func New(length int) *Loop {
	l := &Loop{inbox: NewQueue(length), done: make(chan struct{})}
	l.life, l.stop = context.WithCancel(context.Background())
	return l
}

// Calls are what the loop's own goroutine is to make, one after the other.
func (l *Loop) Calls() <-chan Call { return l.inbox.calls }

// Life ends when what runs beside the loop should end.
func (l *Loop) Life() context.Context { return l.life }

// Stop ends Life.
func (l *Loop) Stop() { l.stop() }

// Done is closed when the loop has ended, after the last of its inbox.
func (l *Loop) Done() <-chan struct{} { return l.done }

// PostOr has the loop call do, or calls refused when the loop has ended: exactly one of
// the two is called. It waits while the inbox is full.
func (l *Loop) PostOr(do, refused func()) {
	if !l.inbox.Put(do, refused, nil) {
		refused()
	}
}

// Post has the loop call f, which holds nothing and is dropped once the loop has ended. It
// waits while the inbox is full.
func (l *Loop) Post(f func()) { l.inbox.Put(f, nil, nil) }

// Call has the loop call f and waits until it has. It reports false when the loop has
// ended: f was not called and never will be. The loop's own goroutine must not use it.
func (l *Loop) Call(f func()) (called bool) {
	answered := make(chan struct{})
	l.PostOr(func() { f(); called = true; close(answered) }, func() { close(answered) })
	<-answered
	return called
}

// Go runs f in a goroutine of its own, beside the loop; [Loop.Wait] waits for it, and
// [Loop.Life] ends when f should. Once somebody waits, Go starts nothing more (a signal may
// still come) and reports false.
func (l *Loop) Go(f func()) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.ended {
		l.tasks.Go(f)
	}
	return !l.ended
}

// Close ends what the loop is asked to do: what was posted before is still done, or
// refused if the loop never began; what comes later is refused. The loop's own goroutine
// calls it, once, and [Loop.Finish] after that.
func (l *Loop) Close(began bool) {
	l.inbox.Close()
	if began {
		l.inbox.Drain()
	} else {
		l.inbox.refuse()
	}
}

// Finish tells those who work beside the loop that it has ended.
func (l *Loop) Finish() { close(l.done) }

// Wait begins nothing more, and reports whether all that runs beside the loop has ended
// within a limit.
func (l *Loop) Wait(limit time.Duration) bool {
	l.mu.Lock()
	l.ended = true
	l.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		l.tasks.Wait()
		close(ended)
	}()
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-ended:
		return true
	case <-late.C:
		return false
	}
}
