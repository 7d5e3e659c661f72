package worker

import (
	"context"
	"errors"

	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// Leaving tells a handler, by its request's context, that the worker parks or
// drains: the channel is closed then. What answers for long should say goodbye
// and return, so that its client comes back to the version that has the
// traffic. Ask anew for each request: a worker that is active again has a new
// channel. A *gin.Context will do for a request's. With a context that is not of
// this package's the channel is nil, and never ready.
//
// The channel does not end with the request: what a handler leaves behind, to serve
// a connection that it has hijacked, may go on waiting for it.
func Leaving(ctx context.Context) <-chan struct{} {
	if n := serve.SignalOf(serve.RequestContext(ctx)); n != nil {
		return n.Done()
	}
	return nil
}

// ErrLeaving is the cause of a LeavingContext's end when the worker leaves.
var ErrLeaving = errors.New("the worker is leaving")

// LeavingContext is ctx, a request's or that of a connection that came by
// [Worker.Receive], which also ends when the worker parks or drains: with the
// cause ErrLeaving. It does not come back when the worker is active again, as
// no context does; ask anew for what begins then. Call cancel when done with it.
//
// A request's context ends when its handler returns. What goes on after that, on a
// connection that the handler has hijacked, gives [context.WithoutCancel] of it.
func LeavingContext(ctx context.Context) (leaving context.Context, cancel context.CancelFunc) {
	ctx = serve.RequestContext(ctx)
	leaving, end := context.WithCancelCause(ctx)
	stop := AfterLeaving(ctx, func() { end(ErrLeaving) })
	return leaving, func() { stop(); end(nil) }
}

// AfterLeaving has f called once, in a goroutine of its own, when the worker
// parks or drains; at once if it does already. A worker that is active again
// does not call what it has called. What stop does is as for
// [context.AfterFunc]: with true, f will not be called; with false, it was
// called or stopped before. Also the end of ctx stops it. But where a handler has
// hijacked its connection and returned, which ends its request's context, the
// end of the connection does instead. With a context that is not of this
// package's f is never called; [Worker.OnLeaving] needs none.
func AfterLeaving(ctx context.Context, f func()) (stop func() bool) {
	return serve.AfterLeaving(ctx, f)
}
