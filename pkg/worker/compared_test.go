//go:build linux

package worker

import (
	"context"
	"net/http"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// errs answers in each way that is an error, or none.
func errs() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {})
	mux.HandleFunc("/500", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/404", func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusNotFound) })
	mux.HandleFunc("/slow", func(http.ResponseWriter, *http.Request) { time.Sleep(slowFrom) })
	mux.HandleFunc("/order", func(_ http.ResponseWriter, r *http.Request) { CountContext(r.Context(), "compared_orders", 1) })
	mux.HandleFunc("/nothing", func(_ http.ResponseWriter, r *http.Request) {
		Count("compared_orders", 1) // of nobody
		CountContext(r.Context(), "compared_orders", 0)
		CountContext(r.Context(), "compared_others", 1)
		CountContext(context.Background(), "compared_orders", 1)
	})
	mux.HandleFunc("/panic", func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	return mux
}

// compared is what the worker says of a comparison now.
func compared(r *running) *ipc.Compared {
	c, _ := r.core.Traffic.Counts.Report(measures, 0).Next()
	return c.Compared
}

// compare begins a comparison, and returns in its first tick.
func (k *masterLink) compare(r *running, id uint64) {
	k.m.t.Helper()
	k.send(ipc.Message{Type: ipc.TypeCompare, Compare: &ipc.Compare{ID: id, Since: tickNow() + 1,
		Slow: []ipc.SlowRoute{{Listener: "http", Route: "/slow", NS: uint64(slowFrom)}}, Measures: []string{"compared_orders"}}})
	workertest.Eventually(k.m.t, "the worker counts", func() bool {
		c := compared(r)
		return c != nil && c.ID == id && c.From <= tickNow()
	})
}

func tickNow() int64 { return int64(ipc.Monotonic() / ipc.CompareTick) }

// slowFrom is far from what others take.
const slowFrom = 250 * time.Millisecond

// wants waits until what was counted until now is told, and looks at the sums.
func wants(t *testing.T, r *running, drawn, failed uint64) {
	t.Helper()
	now := tickNow()
	workertest.Eventually(t, "the tick is over", func() bool { return compared(r).Through >= now })
	if c := compared(r); sum(c.Drawn) != drawn || sum(c.Failed) != failed {
		t.Errorf("%+v, wanted %d connections, %d with an error", c, drawn, failed)
	}
}

// sum is that of the counts of all ticks.
func sum(pairs []uint64) (n uint64) {
	for i := 1; i < len(pairs); i += 2 {
		n += pairs[i]
	}
	return n
}

// A connection counts once, however many requests fail on it, and only if the worker has accepted
// it in the comparison.
func TestConnectionsAreCompared(t *testing.T) {
	r, k := managed(t, func(w *Worker) { w.Handle("http", errs()) })
	s := newSlot(t, "http")
	k.activate(s)
	early := workertest.Dial(t, s.addr)
	early.Do("GET", "/", "")
	k.compare(r, 5)
	early.Do("GET", "/500", "")
	for range 3 {
		c := workertest.Dial(t, s.addr)
		for _, path := range []string{"/", "/500", "/404", "/500", "/panic"} {
			c.Do("GET", path, "")
		}
	}
	for _, path := range []string{"/", "/404", "/panic"} { // the last one is an error
		workertest.Dial(t, s.addr).Do("GET", path, "")
	}
	probe := workertest.On(k.pass("http", ipc.PurposeProbe))
	probe.Do("GET", "/500", "")
	passed := workertest.On(k.pass("http", ipc.PurposeServe))
	passed.Do("GET", "/500", "")
	wants(t, r, 6, 4)
	beat := k.recv(ipc.TypeBeat)
	for beat.Counts == nil || beat.Counts.Compared == nil || beat.Counts.Compared.ID != 5 {
		beat = k.recv(ipc.TypeBeat)
	}

	// Another comparison knows nothing of them, nor does another master.
	k.compare(r, 6)
	c := workertest.Dial(t, s.addr)
	c.Do("GET", "/500", "")
	wants(t, r, 1, 1)
	k.send(ipc.Message{Type: ipc.TypeCompare})
	workertest.Eventually(t, "it is over", func() bool { return compared(r) == nil })
	k.compare(r, 7)
	k.close()
	again, _ := k.m.accept()
	again.welcome("http")
	workertest.Eventually(t, "the next master has asked for nothing", func() bool { return compared(r) == nil })
}

// All streams of a connection are its.
func TestHTTP2ConnectionsAreCompared(t *testing.T) {
	overBoth(t, errs(), func(t *testing.T, w *running, k *masterLink, connect func() *h2client) {
		k.compare(w, 1)
		for range 2 {
			c := connect()
			for stream := uint32(1); stream < 10; stream += 2 {
				c.request(stream, "/500", false)
				c.answered(stream)
			}
		}
		c := connect()
		c.request(1, "/404", false)
		c.answered(1)
		wants(t, w, 3, 2)
	})
}

// One that another worker has served is nobody's, as idle ones move.
func TestAMovedConnectionIsNotCompared(t *testing.T) {
	c := newCouple(t, func(name string, w *Worker) { w.Handle("http", errs()) })
	c.toOld.compare(c.old, 1)
	c.toNew.compare(c.new, 1)
	k := workertest.Dial(t, c.slot.addr)
	k.Do("GET", "/", "")
	c.switchOver()
	workertest.Eventually(t, "the connection has moved", func() bool { return c.old.Stats().Moved == 1 && c.new.Stats().Open == 1 })
	k.Do("GET", "/500", "")
	wants(t, c.new, 0, 0)
	wants(t, c.old, 1, 0)
}

// What a server of the program's own answers nobody sees, so its connections say nothing.
func TestConnectionsOfOwnServersAreNotCompared(t *testing.T) {
	r, k := managedLines(t, (&makeLines{}).make)
	s := newSlot(t, "http")
	k.activate(s)
	k.compare(r, 1)
	a := call(t, s.addr)
	a.wants(t, 1)
	wants(t, r, 0, 0)
}
