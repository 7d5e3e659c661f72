package master

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/contain"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/takeover"
	"github.com/masterd/masterd/pkg/master/workers"
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

// slowContainment takes its time to end what a worker has left.
type slowContainment struct {
	noContain
	takes time.Duration
}

func (c slowContainment) End(contain.Worker) ([]int, error) { time.Sleep(c.takes); return nil, nil }

// What a worker has left, and does not end, keeps nobody from replacing the worker.
func TestTheNewsOfADeathDoesNotWaitForWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.master(testConfig())
		m.open.contain = slowContainment{takes: 20 * workers.LeftoverLimit}
		m.wire()
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int)
		go func() { time.Sleep(time.Nanosecond); ended <- m.Run(ctx) }()
		until(t, "v1 serves", serves(w, "v1"))
		first := func() bool { w.mu.Lock(); defer w.mu.Unlock(); return w.workers[1] != nil }
		died := time.Now()
		w.crash("v1")
		until(t, "there is another instead", func() bool { return !first() && w.living() == 1 })
		if took := time.Since(died); took > 10*workers.LeftoverLimit {
			t.Errorf("another worker was started %s after the death", took)
		}
		cancel()
		<-ended
	})
}

// A worker whose process comes only after the master was told to stop now, and has given
// it up, does not outlive the master. Whether what comes late was noticed used to be a
// matter of luck: hence several.
func TestAWorkerThatIsBeingStartedDoesNotOutliveTheStop(t *testing.T) {
	for range 10 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			cfg := testConfig()
			m := w.master(cfg)
			ended := make(chan int)
			go func() { time.Sleep(time.Nanosecond); ended <- m.Run(t.Context()) }()
			until(t, "v1 serves", serves(w, "v1"))
			w.install("v2")
			w.is("v2", behaviour{fork: 2*cfg.Drain.KillAfter + time.Second})
			reloaded, err := m.operator.Reload("alice", true, api.ReloadRequest{})
			if err != nil {
				t.Fatal(err)
			}
			until(t, "v2 is being started", func() bool { return w.living() == 2 })
			stopped, err := m.operator.Stop("alice", api.StopRequest{Now: true})
			if err != nil {
				t.Fatal(err)
			}
			<-ended
			for _, events := range []<-chan api.Event{reloaded, stopped} {
				if o := outcome(events); o == nil || o.Result != api.ResultFailed {
					t.Errorf("a caller was told %+v", o)
				}
			}
			synctest.Wait()
			for _, f := range w.workers {
				select {
				case <-f.done:
				default:
					t.Errorf("a worker of %s outlives its master", f.program)
					f.end(proc.Exit{})
				}
			}
		})
	}
}

// outcome reads a stream to its end.
func outcome(events <-chan api.Event) (o *api.Outcome) {
	for ev := range events {
		o = ev.Outcome
	}
	return o
}

// Whatever comes after the end of the loop, or just before it, is done or refused: no
// caller waits for ever, no descriptor is left open.
func TestNothingPostedAtTheEndIsLost(t *testing.T) {
	const n = 200
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		m := w.master(testConfig())
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan int)
		go func() { time.Sleep(time.Nanosecond); ended <- m.Run(ctx) }()
		until(t, "v1 serves", serves(w, "v1"))

		var done, refused atomic.Int64
		var posting sync.WaitGroup
		post := func() {
			for range n {
				posting.Go(func() { m.loop.PostOr(func() { done.Add(1) }, func() { refused.Add(1) }) })
			}
		}
		post()
		cancel()
		post()
		<-ended
		post()
		var asking sync.WaitGroup
		for range n {
			asking.Go(func() {
				events, err := m.operator.Promote("alice", api.PromoteRequest{})
				if err == nil && outcome(events) == nil {
					t.Error("the stream of a caller ends without an outcome")
				}
			})
		}
		asking.Wait() // a stream that stays open is a deadlock to synctest
		posting.Wait()
		if d, r := done.Load(), refused.Load(); d+r != 3*n || r < n {
			t.Errorf("of %d calls %d were done and %d refused; those after the end can only be refused", 3*n, d, r)
		}
		for range n {
			var p [2]int
			if err := syscall.Pipe(p[:]); err != nil {
				t.Fatal(err)
			}
			_ = syscall.Close(p[1])
			m.traffic.TakeUnaccepted(config.Listener{Name: "http"}, p[0])
			synctest.Wait() // it is closed beside the caller
			if err := syscall.Fstat(p[0], new(syscall.Stat_t)); err == nil {
				_ = syscall.Close(p[0])
				t.Fatal("a connection that came after the end is left open")
			}
		}
	})
}

// A stop that is asked for while the loop is about to end for another masterd, and that
// nothing holds up, is a stop: the other one would start again what has ended.
func TestAStopAtTheLastMomentOfAnUpgradeIsAStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.is("v1", behaviour{noSpawn: true})
		m := w.master(testConfig())
		ended := make(chan int)
		go func() { ended <- m.Run(t.Context()) }()
		synctest.Wait()
		m.loop.Call(func() {
			if err := m.takeover.Leave(&state.LiveUpgrade{By: "alice", Program: "/bin/masterd"}, nil); err != nil {
				t.Error(err)
			}
			m.loop.Post(func() { m.step(rollout.StopAsked{By: "alice", Now: true}) })
		})
		if code := <-ended; code == Replaced {
			t.Error("another masterd is to take the place of one that was stopped")
		}
	})
}

// deafKeeper cannot be told anything.
type deafKeeper struct{ takeover.Keeper }

func (deafKeeper) Unguard() error { return syscall.EPIPE }

// listening counts how often it was said that no older masterd stands by.
type listening struct {
	noNotices
	told *atomic.Int32
}

func (l listening) PassPidfds() { l.told.Add(1) }

// What only an older masterd is in the way of is done once none stands by: also when the
// keeper cannot be told so, or the one who is told of it is not there any more.
func TestNobodyStandsByForEver(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	_ = w.Close() // nobody can be told by it
	defer r.Close()
	for name, c := range map[string]struct {
		keeper takeover.Keeper // nil: the one there is
		report *os.File
		after  time.Duration
	}{
		"well":               {nil, nil, takeover.ProvenAfter},
		"no keeper hears it": {deafKeeper{}, nil, takeover.ProvenAfter + takeover.GuardTime},
		"nobody supervises":  {nil, w, takeover.ProvenAfter},
	} {
		t.Run(name, func(t *testing.T) {
			var told atomic.Int32
			run(t, testConfig(), func(_ *world, m *Master) {
				m.loop.Call(func() {
					if c.keeper != nil {
						m.takeover.Keeper = deafKeeper{m.takeover.Keeper}
					}
					m.takeover.Notices, m.takeover.Report = listening{told: &told}, c.report
					m.takeover.Self.Program = "/bin/masterd" // it was started by its path
					m.takeover.Begin()
				})
				time.Sleep(c.after - time.Second)
				if n := told.Load(); n != 0 {
					t.Errorf("told %d times while one may stand by", n)
				}
				time.Sleep(2 * time.Second)
				if n := told.Load(); n != 1 {
					t.Errorf("told %d times", n)
				}
			})
		})
	}
}
