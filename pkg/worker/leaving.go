package worker

import (
	"context"
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

type noticeKey struct{}

// notice is a flag that every answer reads, with a channel for those who wait
// for it. It can be taken back.
type notice struct {
	up atomic.Bool
	mu sync.Mutex
	ch chan struct{}
}

func newNotice() *notice { return &notice{ch: make(chan struct{})} }

func (n *notice) given() bool { return n.up.Load() }

func (n *notice) give() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.up.Swap(true) {
		close(n.ch)
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
