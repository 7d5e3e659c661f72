package worker

import (
	"context"
	"errors"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/serve"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// noticed is a request's context, and its worker's notice.
func noticed(t *testing.T) (context.Context, *serve.Signal) {
	n := serve.NewSignal()
	return serve.WithSignal(t.Context(), n), n
}

func TestLeavingContext(t *testing.T) {
	ctx, n := noticed(t)
	told, cancel := LeavingContext(ctx)
	defer cancel()
	if told.Err() != nil {
		t.Fatal(context.Cause(told))
	}
	n.Set()
	<-told.Done()
	n.Clear()
	if !errors.Is(context.Cause(told), ErrLeaving) || ctx.Err() != nil {
		t.Errorf("it ended with %v, the request's with %v", context.Cause(told), ctx.Err())
	}
	// Active again: what begins now is not told of what was.
	again, done := LeavingContext(ctx)
	if again.Err() != nil {
		t.Error(context.Cause(again))
	}
	done()
	if errors.Is(context.Cause(again), ErrLeaving) || n.Waiting() != 0 {
		t.Errorf("cancelled with %v, %d calls are left", context.Cause(again), n.Waiting())
	}
}

func TestAfterLeaving(t *testing.T) {
	ctx, n := noticed(t)
	called := make(chan string, 4)
	stop := AfterLeaving(ctx, func() { called <- "stopped" })
	if !stop() || stop() {
		t.Error("it is stopped once")
	}
	ended, end := context.WithCancel(ctx)
	late := AfterLeaving(ended, func() { called <- "its request has ended" })
	end()
	workertest.Eventually(t, "the end of the request stops it", func() bool { return n.Waiting() == 0 })
	if late() {
		t.Error("stopped twice")
	}
	before := AfterLeaving(ctx, func() { called <- "before" })
	n.Set()
	if got := <-called; got != "before" {
		t.Error(got)
	}
	if before() {
		t.Error("stopped what was called")
	}
	AfterLeaving(ctx, func() { called <- "at once" })
	if got := <-called; got != "at once" {
		t.Error(got)
	}
	n.Clear()
	n.Set()
	AfterLeaving(ctx, func() { called <- "last" })
	if got := <-called; got != "last" {
		t.Errorf("called again: %s", got)
	}
	if !AfterLeaving(context.Background(), func() { t.Error("called") })() {
		t.Error("a context of nobody's")
	}
}
