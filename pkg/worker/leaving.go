package worker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Leaving tells a handler, by its request's context, that the worker parks or
// drains: the channel is closed then. What answers for long should say goodbye
// and return, so that its client comes back to the version that has the
// traffic. Ask anew for each request: a worker that is active again has a new
// channel. With a context that is not of this package's the channel is nil, and
// never ready.
func Leaving(ctx context.Context) <-chan struct{} {
	if n, ok := ctx.Value(noticeKey{}).(*notice); ok {
		return n.channel()
	}
	return nil
}

// ErrLeaving is the cause of a LeavingContext's end when the worker leaves.
var ErrLeaving = errors.New("the worker is leaving")

// LeavingContext is ctx, a request's or that of a connection that came by
// [Worker.Receive], which also ends when the worker parks or drains: with the
// cause ErrLeaving. It does not come back when the worker is active again, as
// no context does; ask anew for what begins then. Call cancel when done with it.
func LeavingContext(ctx context.Context) (leaving context.Context, cancel context.CancelFunc) {
	leaving, end := context.WithCancelCause(ctx)
	stop := AfterLeaving(ctx, func() { end(ErrLeaving) })
	return leaving, func() { stop(); end(nil) }
}

// AfterLeaving has f called once, in a goroutine of its own, when the worker
// parks or drains; at once if it does already. A worker that is active again
// does not call what it has called. What stop does is as for
// [context.AfterFunc]: with true, f will not be called; with false, it was
// called or stopped before. Also the end of ctx stops it. With a context that is
// not of this package's f is never called.
func AfterLeaving(ctx context.Context, f func()) (stop func() bool) {
	n, ok := ctx.Value(noticeKey{}).(*notice)
	if !ok {
		n = newNotice() // nobody gives it
	}
	stop = n.after(f)
	context.AfterFunc(ctx, func() { stop() })
	return stop
}

type noticeKey struct{}

// notice is a flag that every answer reads, with a channel for those who wait
// for it. It can be taken back.
type notice struct {
	up atomic.Bool
	mu sync.Mutex
	ch chan struct{}
	// calls are made when it is given; each is there once.
	calls map[*func()]struct{}
}

func newNotice() *notice {
	return &notice{ch: make(chan struct{}), calls: make(map[*func()]struct{})}
}

// after has f called when the notice is given; see AfterLeaving.
func (n *notice) after(f func()) (stop func() bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.up.Load() {
		go f()
		return func() bool { return false }
	}
	n.calls[&f] = struct{}{}
	return func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		_, waits := n.calls[&f]
		delete(n.calls, &f)
		return waits
	}
}

func (n *notice) given() bool { return n.up.Load() }

func (n *notice) give() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.up.Swap(true) {
		close(n.ch)
		for f := range n.calls {
			go (*f)()
		}
		clear(n.calls)
	}
}

func (n *notice) takeBack() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.up.Swap(false) {
		n.ch = make(chan struct{})
	}
}

func (n *notice) channel() <-chan struct{} {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.ch
}
