package master

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// A worker that hangs in the kernel does not keep the master from ending.
func TestTheEndDoesNotWaitForWhatCannotBeKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.master(testConfig())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int)
		go func() { time.Sleep(time.Nanosecond); ended <- m.Run(ctx) }() // the story says first what v1 is like
		until(t, "v1 serves", serves(w, "v1"))
		w.is("v1", behaviour{immortal: true})
		cancel()
		select {
		case code := <-ended:
			if code == 0 {
				t.Error("ended as if all had gone well")
			}
		case <-time.After(time.Hour):
			t.Fatal("the master does not end")
		}
		w.is("v1", behaviour{})
		w.crash("v1")
	})
}
