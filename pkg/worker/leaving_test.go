package worker

import (
	"context"
	"errors"
	"testing"
)

// noticed is a request's context, and its worker's notice.
func noticed(t *testing.T) (context.Context, *notice) {
	n := newNotice()
	return context.WithValue(t.Context(), noticeKey{}, n), n
}

func TestLeavingContext(t *testing.T) {
	ctx, n := noticed(t)
	told, cancel := LeavingContext(ctx)
	defer cancel()
	if told.Err() != nil {
		t.Fatal(context.Cause(told))
	}
	n.give()
	<-told.Done()
	n.takeBack()
	if !errors.Is(context.Cause(told), ErrLeaving) || ctx.Err() != nil {
		t.Errorf("it ended with %v, the request's with %v", context.Cause(told), ctx.Err())
	}
	// Active again: what begins now is not told of what was.
	again, done := LeavingContext(ctx)
	if again.Err() != nil {
		t.Error(context.Cause(again))
	}
	done()
	if errors.Is(context.Cause(again), ErrLeaving) || len(n.calls) != 0 {
		t.Errorf("cancelled with %v, %d calls are left", context.Cause(again), len(n.calls))
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
	eventually(t, "the end of the request stops it", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		return len(n.calls) == 0
	})
	if late() {
		t.Error("stopped twice")
	}
	before := AfterLeaving(ctx, func() { called <- "before" })
	n.give()
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
	n.takeBack()
	n.give()
	AfterLeaving(ctx, func() { called <- "last" })
	if got := <-called; got != "last" {
		t.Errorf("called again: %s", got)
	}
	if !AfterLeaving(context.Background(), func() { t.Error("called") })() {
		t.Error("a context of nobody's")
	}
}
