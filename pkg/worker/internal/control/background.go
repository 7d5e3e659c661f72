package control

import "context"

// background runs the program's OnActive functions, or those of OnLeaving, all together,
// one run at a time. It belongs to one goroutine, which must receive from ended and call
// oneEnded for each token.
type background struct {
	fns     []func(context.Context)
	done    chan struct{}
	running int                // functions of the current run that have not returned
	cancel  context.CancelFunc // of the current run; nil when it was stopped or there is none
	again   bool               // start once the stopped run has ended
}

func newBackground(fns []func(context.Context)) *background {
	return &background{fns: fns, done: make(chan struct{}, len(fns))}
}

// withoutEnd are functions whose run nobody ends.
func withoutEnd(fns []func()) []func(context.Context) {
	all := make([]func(context.Context), len(fns))
	for i, fn := range fns {
		all[i] = func(context.Context) { fn() }
	}
	return all
}

// start runs the functions; when a stopped run has not ended yet, as soon as
// it has. While a run is on, also one whose functions have returned, it does
// nothing.
func (b *background) start() {
	switch {
	case b.cancel != nil:
	case b.running > 0:
		b.again = true
	default:
		b.again = false
		var ctx context.Context
		ctx, b.cancel = context.WithCancel(context.Background())
		b.running = len(b.fns)
		for _, fn := range b.fns {
			go func() {
				// Also after runtime.Goexit; a panic ends the process anyway.
				defer func() { b.done <- struct{}{} }()
				fn(ctx)
			}()
		}
	}
}

// stop ends the run's context. It does not wait: see idle.
func (b *background) stop() {
	b.again = false
	if b.cancel != nil {
		b.cancel()
		b.cancel = nil
	}
}

// onDone is called for each token of ended.
func (b *background) onDone() {
	b.running--
	if b.running == 0 && b.again {
		b.start()
	}
}

// idle: no function runs.
func (b *background) idle() bool { return b.running == 0 }
