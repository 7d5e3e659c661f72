//go:build linux

package worker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/measure"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// toldCounts is what a master has been told on one connection.
type toldCounts struct {
	routes   map[string]ipc.RouteCounts
	measures map[string]ipc.MeasureCounts
	last     *ipc.Counts
	messages int // that had routes
}

func newTold() *toldCounts {
	return &toldCounts{routes: map[string]ipc.RouteCounts{}, measures: map[string]ipc.MeasureCounts{}}
}

func (c *toldCounts) add(t *testing.T, m ipc.Message) {
	t.Helper()
	if m.Type == ipc.TypeBeat && m.Counts == nil {
		return // a short one, as the one before was not read yet
	}
	if m.Counts == nil || m.Counts.Go == nil || len(m.Counts.Listeners) == 0 {
		t.Fatalf("%q has the counts %+v", m.Type, m.Counts)
	}
	c.last = m.Counts
	if b, _ := json.Marshal(m.Counts); len(b) > ipc.MaxCounts {
		t.Fatalf("counts of %d bytes", len(b))
	}
	if len(m.Counts.Routes) > 0 {
		c.messages++
	}
	for _, r := range m.Counts.Routes {
		c.routes[r.Route] = r
	}
	for _, m := range m.Counts.Measures {
		c.measures[m.Name] = m
	}
}

// hears reads beats until it is so.
func (k *masterLink) hears(c *toldCounts, what string, is func() bool) {
	k.m.t.Helper()
	for end := time.Now().Add(workertest.Patience); !is(); {
		c.add(k.m.t, k.recv(ipc.TypeBeat))
		if time.Now().After(end) {
			k.m.t.Fatalf("%s does not come: %+v", what, c)
		}
	}
}

// toTheEnd reads what comes until the end, which a drained must precede.
func (k *masterLink) toTheEnd(c *toldCounts) {
	k.m.t.Helper()
	drained := false
	for {
		m, ok := k.next()
		switch {
		case !ok && drained:
			return
		case !ok || drained || m.Type != ipc.TypeBeat && m.Type != ipc.TypeDrained:
			k.m.t.Fatalf("got %+v; drained before: %v", m, drained)
		}
		c.add(k.m.t, m)
		drained = m.Type == ipc.TypeDrained
	}
}

func TestBeatsBringWhatHasChanged(t *testing.T) {
	before := measures
	measures = measure.NewProgram(slog.Default) // the process has others of other runs
	t.Cleanup(func() { measures = before })
	m := newMaster(t)
	w := workerWith(t, Options{MaxInFlight: 200}, m.env())
	w.Handle("http", shop())
	r := run(t, w)
	k, _ := m.accept()
	k.welcome("http")
	k.recv(ipc.TypeReady)
	s := newSlot(t, "http")
	k.activate(s)
	client := workertest.Dial(t, s.addr)
	client.Want(t, "/items/1", "item 1", false)
	Count("test_beats_total", 3)
	Observe("test_beats_ratio", 0.5)
	told := newTold()
	k.hears(told, "the request", func() bool { return told.routes["GET /items/{id}"].Status[1] == 1 })
	k.hears(told, "the measures", func() bool {
		return told.measures["test_beats_total"].Total == 3 && told.measures["test_beats_ratio"].Last == 0.5
	})
	if told.last.MaxInFlight != 200 || told.last.Listeners[0] != (ipc.ListenerCounts{Listener: "http", Open: 1, Accepted: 1}) {
		t.Errorf("%+v", told.last)
	}
	messages := told.messages
	for range 3 {
		told.add(t, k.recv(ipc.TypeBeat))
	}
	if told.messages != messages {
		t.Error("what has not changed is said again")
	}

	// A check of the master's is not counted.
	probe := workertest.On(k.pass("http", ipc.PurposeProbe))
	probe.Want(t, "/items/2", "item 2", false)
	probe.Conn.Close()

	// Another master hears everything.
	k.close()
	k, _ = m.accept()
	k.welcome("http")
	again := newTold()
	k.hears(again, "everything", func() bool {
		return again.routes["GET /items/{id}"].Status[1] > 0 && again.measures["test_beats_total"].Total == 3
	})
	if n := again.routes["GET /items/{id}"].Status[1]; n != 1 {
		t.Errorf("%d requests", n)
	}

	// What comes after the last beat comes with drained.
	client.Want(t, "/empty", "", false)
	k.drain(0)
	r.leaves()
	client.Want(t, "/empty", "", true)
	k.toTheEnd(again)
	if n := again.routes["/empty"].Status[1]; n != 2 || again.last.Listeners[0].Open != 0 {
		t.Errorf("at the end %d requests, %+v", n, again.last.Listeners)
	}
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
}

// A worker that ends says all, also what no single message has room for.
func TestADrainSaysEverything(t *testing.T) {
	const routes = ipc.MaxRoutes
	mux := http.NewServeMux()
	pattern := func(n int) string {
		return fmt.Sprintf("GET /%d/%s", n, strings.Repeat("<", ipc.MaxRouteName-10)) // six bytes each in JSON
	}
	for n := range routes {
		mux.HandleFunc(pattern(n), func(w http.ResponseWriter, r *http.Request) {})
	}
	m := newMaster(t)
	w := workerWith(t, Options{}, m.env())
	w.Handle("http", mux)
	r := run(t, w)
	k, _ := m.accept()
	k.send(ipc.Message{Type: ipc.TypeWelcome, Welcome: &ipc.Welcome{Version: 1, Service: "shop", // no beat will come
		BeatMS: int(time.Hour.Milliseconds()), Listeners: []ipc.Listener{{Name: "http", Address: "tcp://127.0.0.1:0"}}}})
	k.recv(ipc.TypeReady)
	s := newSlot(t, "http")
	k.activate(s)
	client := workertest.Dial(t, s.addr)
	for range 20 {
		for n := range routes {
			client.Want(t, strings.TrimPrefix(pattern(n), "GET "), "", false)
		}
	}
	client.Conn.Close()
	workertest.Eventually(t, "the client has gone", func() bool { return r.Stats().Open == 0 })
	told := newTold()
	k.drain(0)
	k.toTheEnd(told)
	for n := range routes {
		if got := told.routes[pattern(n)]; got.Status[1] != 20 {
			t.Errorf("%d: %+v", n, got)
		}
	}
	if told.messages < 2 {
		t.Errorf("all of it had room in %d messages", told.messages)
	}
	if err := r.wait(); err != nil {
		t.Fatal(err)
	}
}

// A request is counted where it was answered, whichever worker its connection came from.
func TestAMigratedConnectionIsCountedOnce(t *testing.T) {
	c := newCouple(t, named)
	k := workertest.Dial(t, c.slot.addr)
	const each = 3
	for range each {
		k.Want(t, "/", "old", false)
	}
	c.switchOver()
	workertest.Eventually(t, "the connection has moved", func() bool { return c.old.Stats().Moved == 1 && c.new.Stats().Open == 1 })
	for range each {
		k.Want(t, "/", "new", false)
	}
	before, old := counted(t, c.old)
	after, now := counted(t, c.new)
	if old["other"].Status[1] != each || now["other"].Status[1] != each {
		t.Errorf("the old worker has %+v, the new one %+v", old, now)
	}
	if before.Accepted != 1 || before.Open != 0 || after.Accepted != 0 || after.Open != 1 {
		t.Errorf("connections: %+v, %+v", before, after)
	}
	if s := c.old.Stats(); s.Moved != 1 {
		t.Errorf("%+v", s)
	}
}

// A connection that was handed off is in flight where it is served, as in the worker's stats.
func TestAHandedOffConnectionIsInFlight(t *testing.T) {
	c := newCouple(t, func(name string, w *Worker) {
		w.Handle("http", http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			leaving := Leaving(r.Context())
			conn, _, err := http.NewResponseController(rw).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(conn, "hello\n")
			<-leaving
			if err := w.HandOff(r.Context(), conn, Parcel{Kind: "echo"}); err != nil {
				t.Error(err)
			}
		}))
		w.Receive("echo", []int{0}, func(_ context.Context, conn net.Conn, _ Parcel) { io.Copy(conn, conn) })
	})
	k := workertest.Dial(t, c.slot.addr)
	if err := k.Write("GET", "/", ""); err != nil {
		t.Fatal(err)
	}
	if line, err := k.Reader.ReadString('\n'); line != "hello\n" {
		t.Fatal(line, err)
	}
	c.switchOver()
	io.WriteString(k.Conn, "x\n")
	if line, err := k.Reader.ReadString('\n'); line != "x\n" {
		t.Fatal(line, err)
	}
	counts, _ := c.new.core.Traffic.Counts.Report(measures, 0).Next()
	if l := counts.Listeners[0]; l.InFlight != 1 || l.Open != 1 || l.Accepted != 0 || c.new.Stats().InFlight != 1 {
		t.Errorf("%+v", l)
	}
	k.Conn.Close()
	l, routes := counted(t, c.new)
	if l.InFlight != 0 || len(routes) != 0 {
		t.Errorf("at the end %+v, %+v", l, routes)
	}
	if _, routes := counted(t, c.old); routes["other"].Status != [5]uint64{1} {
		t.Errorf("the old worker has %+v", routes)
	}
}
