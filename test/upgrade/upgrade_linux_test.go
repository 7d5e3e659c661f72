package upgrade

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/load"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

const (
	patience  = 20 * time.Second // for a fact, on a busy machine
	rate      = 200              // requests a second, on each listener
	clients   = 8                // of each sort, on each listener
	whileBake = "5m"             // the generation before is parked until the end of the test
	shortBake = "100ms"
)

// world is a service, and both versions of what it runs.
type world struct {
	*service.Service
	t               *testing.T
	kind            string
	before, present service.Programs
	first           string // label of the version that the service began with
	end             []func() *load.Result
}

// TestUpgradeFromPreviousAndBack: the version before hands over to this one, and this
// one to the version before, each in the middle of a bake. No request fails, no
// connection is closed, each worker is the same, and the status says what it said.
// Workers of both versions of the SDK are started and adopted by masters of both.
func TestUpgradeFromPreviousAndBack(t *testing.T) {
	before, present := builtPrograms(t)
	for _, kind := range []string{"sdk", "socket-activation", "unmodified"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, kind, before, present)
			w.master(before)
			w.worker(before.Demo, 1, shortBake)
			if err := w.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			w.first = w.status().Active.Version.Label
			w.serves(1, 0)
			w.keep()
			w.load()

			w.reload(before.Demo, 2, whileBake)
			w.serves(2, 1)
			w.upgrade(present)
			w.must("rollback")
			w.serves(1, 0)
			w.reload(before.Demo, 3, shortBake)
			w.serves(3, 0)
			w.reload(present.Demo, 4, whileBake)
			w.serves(4, 3)
			w.upgrade(before)
			w.must("rollback")
			w.serves(3, 0)
			w.reload(present.Demo, 5, shortBake)
			w.serves(5, 0)

			w.kept()
			for _, end := range w.end {
				r := end()
				if r.Requests == 0 || r.Failed()+r.ClosedPolitely+r.ClosedIdle+r.ResetAfter+r.LeftOpen > 0 {
					t.Errorf("not a request may fail and not a connection be closed:\n%s", r)
				}
			}
		})
	}
}

func newWorld(t *testing.T, kind string, before, present service.Programs) *world {
	t.Helper()
	dir := servicetest.ShortDir(t)
	s := servicetest.In(t, service.Programs{Masterd: filepath.Join(dir, "masterd"), Demo: filepath.Join(dir, "worker")}, dir)
	w := &world{Service: s, t: t, kind: kind, before: before, present: present}
	s.Config.Set("worker.kind", kind).Set("worker.processes", 2).Set("drain.timeout", "10s")
	switch kind {
	case "sdk":
		shared, err := service.FreePort()
		if err != nil {
			t.Fatal(err)
		}
		s.Config.Set("worker.env.DEMO_LISTENERS", "http,shared,unix").Set("listeners", []any{
			map[string]any{"name": "http", "address": "tcp://" + s.Addr},
			map[string]any{"name": "shared", "address": "tcp://" + shared, "steering": "shared"},
			map[string]any{"name": "unix", "address": "unix://" + filepath.Join(dir, "public")},
		})
	case "socket-activation":
		s.Config.Set("worker.command", []string{present.Hostile, "stores", s.Addr}).Set("worker.ready", "notify").Set("worker.fd_store", 32)
	case "unmodified":
		s.Config.Set("worker.command", []string{present.Plain, s.Addr}).Set("worker.processes", 1)
	}
	return w
}

// install puts a program where the service has it, in one step.
func (w *world) install(program, path string) {
	w.t.Helper()
	text, err := os.ReadFile(program)
	if err == nil {
		err = os.WriteFile(path+".new", text, 0o755)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) master(p service.Programs) { w.install(p.Masterd, w.Masterd) }

// worker has the n-th version be configured. Programs of other kinds know nothing of
// masterd and are the same ones each time.
func (w *world) worker(demo string, n int, bake string) {
	w.t.Helper()
	w.Config.Set("worker.env.RELEASE", fmt.Sprint(n)).Set("rollout.bake", bake)
	if w.kind == "sdk" {
		w.install(demo, w.Demo)
	}
	if err := w.Write(); err != nil {
		w.t.Fatal(err)
	}
}

// label of the n-th version: the first was started and has one that masterd chose.
func (w *world) label(n int) string {
	if n == 1 {
		return w.first
	}
	return fmt.Sprintf("v%d", n)
}

func (w *world) must(args ...string) {
	w.t.Helper()
	if out, code := w.CLI(w.t.Context(), args...); code != 0 {
		w.t.Fatalf("masterd %v ended with %d: %s", args, code, out)
	}
}

func (w *world) reload(demo string, n int, bake string) {
	w.t.Helper()
	w.worker(demo, n, bake)
	until := "serving"
	if bake == shortBake {
		until = "baked"
	}
	w.must("reload", "--label", w.label(n), "--until", until)
}

// upgrade has another masterd run, and compares what the status says then with what it
// said before.
func (w *world) upgrade(to service.Programs) {
	w.t.Helper()
	was := w.status()
	held := w.sockets(was.Master.Keeper)
	w.master(to)
	const why = "the other version"
	w.must("upgrade", "--reason", why)
	is := w.status()
	for end := time.Now().Add(patience); steady(is) != steady(was) && time.Now().Before(end); is = w.status() {
		time.Sleep(10 * time.Millisecond)
	}
	if got, want := steady(is), steady(was); got != want {
		w.t.Fatalf("the status after an upgrade is not that before it:\n%s", firstDifference(got, want))
	}
	if all, err := w.API.History(w.t.Context(), 1); err != nil || len(all) != 1 || all[0].What != "upgrade" || all[0].Outcome != api.ResultDone || all[0].Why != why {
		w.t.Errorf("the history ends with %+v, %v", all, err)
	}
	// Sockets that the next master does not find are taken out of the workers, and nobody
	// notices; where that is not allowed they are lost.
	still := w.sockets(is.Master.Keeper)
	gone := slices.DeleteFunc(held, func(s string) bool { return slices.Contains(still, s) })
	if len(gone) > 1 { // one is the connection of the master before
		w.t.Errorf("the keeper holds %d sockets no more that it held before", len(gone)-1)
	}
	if longer := is.Rollout.Deadline.Sub(was.Rollout.Deadline); longer < 0 || longer > patience {
		w.t.Errorf("the bake ends later by %s", longer)
	}
	same := func(path string) []byte {
		text, err := os.ReadFile(path)
		if err != nil {
			w.t.Fatal(err)
		}
		return text
	}
	if !slices.Equal(same(fmt.Sprintf("/proc/%d/exe", is.Master.PID)), same(to.Masterd)) {
		w.t.Error("it is not the other masterd that runs")
	}
}

// sockets of a process, by their numbers.
func (w *world) sockets(pid int) (all []string) {
	w.t.Helper()
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil || len(fds) == 0 {
		w.t.Fatalf("what process %d has open cannot be seen: %v", pid, err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err == nil && strings.HasPrefix(to, "socket:") {
			all = append(all, to)
		}
	}
	return all
}

func (w *world) status() api.Status {
	w.t.Helper()
	st, err := w.API.Status(w.t.Context())
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); st, err = w.API.Status(w.t.Context()) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return st
}

// steady is what an upgrade must not change: all of the status but the master's own
// version and age, and what is counted or measured.
func steady(st api.Status) string {
	st.Now = time.Time{}
	st.Master.Version, st.Master.Since = "", time.Time{}
	// The version before does not tell of these.
	st.RollbackTarget, st.Next = nil, nil
	for _, e := range []**api.Entry{&st.Last, &st.LastFailure, &st.LastCut} {
		if *e != nil {
			x := **e
			x.VersionID, x.Began, x.Switched = "", time.Time{}, time.Time{}
			*e = &x
		}
	}
	if st.Rollout != nil {
		r := *st.Rollout
		r.Trace, r.Deadline = "", time.Time{} // each master's own; later by what the upgrade took
		st.Rollout = &r
	}
	// The demo worker keeps something else besides, when its clients come and go.
	st.Blobs = slices.DeleteFunc(st.Blobs, func(b api.Blob) bool { return b.Name != "list" })
	for i := range st.Listeners {
		st.Listeners[i].Queue = 0
	}
	for i, g := range st.Generations {
		st.Generations[i].Share = 0 // nor of this; weight says the same
		st.Generations[i].Recent = nil
		for i := range g.Workers {
			k := &g.Workers[i]
			k.InFlight, k.Open, k.LongestMS, k.Requests, k.RSS, k.FDs, k.LastProbe = 0, 0, 0, 0, 0, 0, ""
			k.FDLimit, k.FDRatio, k.CPUSeconds, k.ProbeMS = 0, 0, 0, 0 // nor of these
		}
	}
	text, _ := json.MarshalIndent(st, "", " ")
	return string(text)
}

func firstDifference(got, want string) string {
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range min(len(g), len(w)) {
		if g[i] != w[i] {
			return fmt.Sprintf("line %d is %s, and was %s; just before:\n%s", i+1, g[i], w[i], strings.Join(w[max(0, i-6):i], "\n"))
		}
	}
	return got
}

// serves waits until the n-th version has the traffic, with one parked beside it or
// none (zero), and everything else is as it should be.
func (w *world) serves(n, parked int) {
	w.t.Helper()
	err := w.Wait(w.t.Context(), patience, fmt.Sprintf("version %d to serve, and %d to be parked", n, parked), func(st api.Status) bool {
		want := map[string]string{w.label(n): "active"}
		if parked > 0 {
			want[w.label(parked)] = "parked"
		}
		if st.State != "serving" || st.Active == nil || st.Active.Version.Label != w.label(n) || len(st.Generations) != len(want) {
			return false
		}
		for _, g := range st.Generations {
			if want[g.Version.Label] != g.Phase || len(g.Workers) != w.Config["worker"].(map[string]any)["processes"] {
				return false
			}
			for _, k := range g.Workers {
				if !k.Healthy || k.Restarts > 0 || (k.Protocol > 0) != (w.kind == "sdk") {
					return false
				}
			}
		}
		return (st.Rollout != nil) == (parked > 0)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	st := w.status()
	var steering []string
	for _, l := range st.Listeners {
		steering = append(steering, l.Steering)
	}
	want := map[string]string{"sdk": "kernel shared unix"}[w.kind]
	if got := strings.Join(steering, " "); want != "" && got != want || len(st.Reasons) > 0 || st.Hold != nil || st.Master.Restored != "" {
		w.t.Errorf("steering %s: %+v", got, st)
	}
}

// load begins, on each listener. Programs that were not prepared have no way to leave
// without closing connections that clients keep and use.
func (w *world) load() {
	addrs, kept := []string{w.Addr}, 0
	if w.kind == "sdk" {
		kept, addrs = clients, nil
		for _, l := range w.status().Listeners {
			_, addr, _ := strings.Cut(l.Address, "://")
			addrs = append(addrs, addr)
		}
	}
	for _, addr := range addrs {
		ctx, cancel := context.WithCancel(context.Background())
		l := load.Start(ctx, load.Plan{Addr: addr, Rate: rate, Kept: kept, Fresh: clients, Path: "/upload", Body: 512})
		end := sync.OnceValue(func() *load.Result { cancel(); return l.Wait() })
		w.t.Cleanup(func() { end() })
		w.end = append(w.end, end)
	}
}

// keep has the master keep something for the workers, and kept looks that it is there.
// Workers that store descriptors do so by themselves.
func (w *world) keep() {
	if w.kind == "sdk" {
		w.ask(http.MethodPost, "/list")
	}
}

func (w *world) kept() {
	w.t.Helper()
	switch w.kind {
	case "sdk":
		if got := w.ask(http.MethodGet, "/list"); got != `{"items":["kept"]}` {
			w.t.Errorf("the list is %s", got)
		}
	case "socket-activation":
		if all := w.ask(http.MethodGet, "/environ"); !strings.Contains(all, "LISTEN_FDNAMES=http"+strings.Repeat(":legacy", 4*2)+"\n") {
			w.t.Errorf("what four generations of two have stored is not there:\n%s", all)
		}
	}
}

func (w *world) ask(method, path string) string {
	w.t.Helper()
	r, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+w.Addr+path, strings.NewReader("kept"))
	if err != nil {
		w.t.Fatal(err)
	}
	r.Close = true
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		w.t.Fatal(err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode >= 300 {
		w.t.Fatalf("%s %s: %d %s, %v", method, path, answer.StatusCode, text, err)
	}
	return string(text)
}
