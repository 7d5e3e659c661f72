package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
)

// Connections of the version that is parked, with drain.parked: close.

// bringsOver is a service whose clients come to the new version while it bakes.
func bringsOver(t *testing.T) *service.Service {
	t.Helper()
	s := answering(t, "1m")
	s.Config.Set("drain.parked", "close").Set("rollout.bake", "10m")
	return s
}

// parkedWorker is the worker of the generation that is parked.
func parkedWorker(st api.Status) (w api.Worker, ok bool) {
	for _, g := range st.Generations {
		if g.Phase == "parked" && len(g.Workers) == 1 {
			return g.Workers[0], true
		}
	}
	return w, false
}

// Kept connections come to the new version during the bake, while the old one stays warm, and
// back after a rollback.
func TestKeptConnectionsComeOver(t *testing.T) {
	t.Parallel()
	const kept, each = 32, 2 // requests a second on each: their pauses are longer than a busy machine's
	s := bringsOver(t)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	l := load.Start(ctx, load.Plan{Addr: s.Addr, Rate: each * kept, Kept: kept})
	end := sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
	t.Cleanup(func() { end() })
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	next(t, s, 2, "serving")
	over := func() {
		t.Helper()
		if err := s.Wait(t.Context(), 2*patience, "all clients to come over", func(st api.Status) bool {
			w, ok := parkedWorker(st)
			return ok && w.PID == pid && w.Clients != nil && w.Clients.Open == 0 && w.Clients.Closed > 0 && w.Healthy
		}); err != nil {
			if w, ok := parkedWorker(status(t, s)); ok && w.Clients != nil && w.Clients.QuietMS > 1000/each {
				t.Skipf("this machine is too busy: answers pause, and no client is quiet for %d ms", w.Clients.QuietMS)
			}
			t.Fatal(err)
		}
	}
	over()
	back(t, s, "")
	drainedAway(t, s)
	if now, err := s.Worker(t.Context()); err != nil || now != pid {
		t.Errorf("worker %d serves, %v: not the one that was warm, %d", now, err, pid)
	}
	wait(t, s, "the clients to be back", func(st api.Status) bool {
		w := team(st)
		return len(w) == 1 && w[0].FDs > kept
	})
	next(t, s, 3, "serving")
	over()
	closedInTime(t, end())
}

// Parking cuts nothing that is under way, whatever it looks like.
func TestParkingCutsNoAnswer(t *testing.T) {
	t.Parallel()
	s := bringsOver(t)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	var ends []func()
	for _, path := range slowAnswers() {
		ends = append(ends, underWay(t, s, path))
	}
	next(t, s, 2, "serving")
	for _, end := range ends {
		end()
	}
	if w, ok := parkedWorker(status(t, s)); !ok || !w.Healthy {
		t.Error("the old version is not warm any more")
	}
}

func TestParkingEndsNoTransaction(t *testing.T) {
	t.Parallel()
	s := bringsOver(t)
	s.Config.Set("worker.command", []string{programs.Answers, s.Addr, "lines"}).Set("health", map[string]any{"tcp": map[string]any{}})
	if out := checked(t, s); !strings.Contains(out, "listener http: connections to the version before stay until it drains") {
		t.Errorf("check does not say what becomes of them:\n%s", out)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	c := dialFor(t, s)
	for i := range 8 {
		if i == 3 {
			next(t, s, 2, "serving")
		}
		if _, err := fmt.Fprintln(c, "SET", i); err != nil {
			t.Fatal(err)
		}
		if line, err := c.in.ReadString('\n'); err != nil {
			t.Fatalf("step %d: %q, %v", i, line, err)
		}
		time.Sleep(800 * time.Millisecond)
	}
}

// checked is what check says of a service.
func checked(t *testing.T, s *service.Service) string {
	t.Helper()
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	return cli(t, s, 0, "check")
}

// A chat in memory: a listener that comes back with its last number misses nothing, and does
// not wait for the end of the bake.
func TestListenersOfAChatComeOver(t *testing.T) {
	t.Parallel()
	s := bringsOver(t)
	if out := checked(t, s); !strings.Contains(out, "listener http: connections to the version before are closed while the new one bakes") {
		t.Errorf("check does not say what becomes of them:\n%s", out)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	const listeners = 8
	var heard [listeners]sync.Map
	var done sync.WaitGroup
	var came atomic.Int64
	defer done.Wait()
	defer cancel()
	for i := range listeners {
		done.Go(func() {
			for last := ""; ctx.Err() == nil; {
				q, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+"/events", nil)
				q.Header.Set("Last-Event-ID", last)
				a, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
				if err != nil {
					continue
				}
				came.Add(1)
				for in := bufio.NewScanner(a.Body); in.Scan(); {
					if id, ok := strings.CutPrefix(in.Text(), "id: "); ok {
						last = id
					}
					if text, ok := strings.CutPrefix(in.Text(), "data: "); ok {
						heard[i].Store(text, true)
					}
				}
				_ = a.Body.Close()
			}
		})
	}
	eventually(t, "all to listen", func() bool { return came.Load() == listeners })
	said := 0
	say := func() {
		t.Helper()
		said++
		q, _ := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.Addr+"/say", strings.NewReader(fmt.Sprint("message ", said)))
		a, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(q)
		if err != nil {
			t.Fatal(err)
		}
		_ = a.Body.Close()
	}
	for range 20 {
		say()
		time.Sleep(150 * time.Millisecond)
	}
	next(t, s, 2, "serving")
	for range 100 {
		say()
	}
	missed := func() (n int) {
		for i := range listeners {
			for m := 1; m <= said; m++ {
				if _, ok := heard[i].Load(fmt.Sprint("message ", m)); !ok {
					n++
				}
			}
		}
		return n
	}
	begun := time.Now()
	eventually(t, "every message to be heard by all", func() bool { return missed() == 0 })
	t.Logf("%d messages, %d listeners: nothing was missed, the last came %v after the new version had the traffic", said, listeners, time.Since(begun))
	if w, ok := parkedWorker(status(t, s)); !ok || !w.Healthy {
		t.Error("the old version is not warm any more")
	}
}
