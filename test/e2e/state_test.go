package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// writeEvery is a writer's pause: the list must not come to forget its oldest.
const writeEvery = 40 * time.Millisecond

// writers add items to the demo's list, each one after the other.
type writers struct {
	t        *testing.T
	s        *service.Service
	client   *http.Client
	stop     context.CancelFunc
	done     sync.WaitGroup
	mu       sync.Mutex
	answered map[string]bool // items whose POST was answered
	failed   []string
}

func writeList(t *testing.T, s *service.Service, n int) *writers {
	ctx, stop := context.WithCancel(context.Background())
	w := &writers{t: t, s: s, stop: stop, answered: map[string]bool{}, client: &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: n}, Timeout: 30 * time.Second}}
	for i := range n {
		w.done.Go(func() {
			for k := 0; ctx.Err() == nil; k++ {
				time.Sleep(writeEvery)
				w.post(fmt.Sprintf("writer %d, item %d", i, k))
			}
		})
	}
	t.Cleanup(func() { w.end() })
	return w
}

func (w *writers) post(item string) {
	resp, err := w.client.Post("http://"+w.s.Addr+"/list", "text/plain", strings.NewReader(item))
	var text string
	if err == nil {
		b, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		text = fmt.Sprintf("%s: %s", resp.Status, b)
	} else {
		text = err.Error()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if err == nil && resp.StatusCode == http.StatusCreated {
		w.answered[item] = true
	} else {
		w.failed = append(w.failed, item+": "+text)
	}
}

// more waits until so many more items were answered.
func (w *writers) more(n int) {
	w.t.Helper()
	count := func() int { w.mu.Lock(); defer w.mu.Unlock(); return len(w.answered) }
	want := count() + n
	for end := time.Now().Add(time.Minute); count() < want; time.Sleep(poll) {
		if time.Now().After(end) {
			w.t.Fatalf("the writers get no answers; failed: %q", w.failed)
		}
	}
}

func (w *writers) end() {
	w.stop()
	w.done.Wait()
	w.client.CloseIdleConnections()
}

// check wants every answered item in the list, and none twice.
func (w *writers) check() []string {
	w.t.Helper()
	w.end()
	items := list(w.t, w.s)
	times := map[string]int{}
	for _, item := range items {
		times[item]++
	}
	for item := range w.answered {
		if times[item] == 0 {
			w.t.Errorf("lost: %s", item)
		}
	}
	for item, n := range times {
		if n > 1 {
			w.t.Errorf("%d times: %s", n, item)
		}
	}
	return items
}

func list(t *testing.T, s *service.Service) []string {
	t.Helper()
	var answer struct{ Items []string }
	get(t, s, "/list", &answer)
	return answer.Items
}

func get(t *testing.T, s *service.Service, path string, into any) {
	t.Helper()
	// A connection of its own: one that is kept would keep the worker from leaving.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 30 * time.Second}
	resp, err := client.Get("http://" + s.Addr + path)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err == nil {
		err = json.Unmarshal(b, into)
	}
	if err != nil {
		t.Fatalf("GET %s: %s, %v: %s", path, resp.Status, err, b)
	}
}

// kept is a blob as status shows it.
func kept(t *testing.T, s *service.Service, name string) api.Blob {
	t.Helper()
	st, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range st.Blobs {
		if b.Name == name {
			return b
		}
	}
	return api.Blob{}
}

// The demo's list lives through reloads and rollbacks while four clients write
// to it: each item that was answered is in it, once, and no request fails.
func TestStateSurvivesReloadsAndRollbacks(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("rollout.bake", "1m").Set("worker.processes", 2) })
	w := writeList(t, s, 4)
	w.more(20)
	n := times(50, 4)
	for i := range n {
		s.Config.Set("worker.env.RELEASE", label(i+2))
		if out := reload(t, s, api.ReloadRequest{Label: label(i + 2)}); out.Result != api.ResultDone {
			t.Fatalf("reload: %+v", out)
		}
		w.more(10)
		if i%2 == 1 {
			if out, err := s.API.Rollback(t.Context(), api.RollbackRequest{}, nil); err != nil || out.Result != api.ResultDone {
				t.Fatalf("rollback: %+v, %v", out, err)
			}
			w.more(10)
		}
	}
	items := w.check()
	if len(w.failed) > 0 {
		t.Errorf("%d requests failed, the first: %s", len(w.failed), w.failed[0])
	}
	b := kept(t, s, "list")
	if b.Size == 0 || b.Generation == 0 || b.Since.IsZero() || b.Persist {
		t.Errorf("status shows %+v", b)
	}
	if out, code := s.CLI(t.Context(), "status"); code != 0 || !strings.Contains(out, "KEPT") {
		t.Errorf("masterd status: %d\n%s", code, out)
	}
	t.Logf("%d reloads, %d rollbacks, %d items", n, n/2, len(items))
}

// A worker that is killed while it writes loses no item that was answered.
func TestStateSurvivesAKill(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("restart.loop", 100).Set("restart.max", "200ms") })
	baked(t, s)
	w := writeList(t, s, 4)
	for range times(20, 3) {
		w.more(30)
		pid, err := s.Worker(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(t.Context(), 30*time.Second, "the worker's replacement", func(st api.Status) bool {
			for _, g := range st.Generations {
				if st.Active != nil && g.ID == st.Active.Generation && len(g.Workers) == 1 && g.Workers[0].PID != pid && g.Workers[0].Phase == "active" {
					return st.State == "serving" || st.State == "degraded" // so many kills are a crash loop, and said
				}
			}
			return false
		}); err != nil {
			t.Fatal(err)
		}
	}
	w.more(30)
	items := w.check()
	t.Logf("%d items, %d requests had no answer", len(items), len(w.failed))
}

// What is over a limit is refused with the limit's name, and costs nothing: not
// what is kept, not the worker, and not the next request.
func TestStateOverItsLimit(t *testing.T) {
	t.Parallel()
	s := started(t, func(c service.Config) { c.Set("state.blob", "1KiB") })
	w := writeList(t, s, 0)
	w.post("small")
	before, pid := kept(t, s, "list"), worker(t, s)
	for range times(50, 5) {
		w.post(strings.Repeat("x", 2<<10))
	}
	if n := times(50, 5); len(w.failed) != n || !strings.Contains(w.failed[0], "503") || !strings.Contains(w.failed[0], "state.blob allows 1.0 KiB") {
		t.Errorf("%d of %d were refused, the first so: %q", len(w.failed), n, w.failed)
	}
	if after := kept(t, s, "list"); after != before || after.Size == 0 {
		t.Errorf("status shows %+v, and before %+v", after, before)
	}
	w.post("small as well")
	if items := w.check(); len(items) != 2 || worker(t, s) != pid {
		t.Errorf("%q, worker %d then %d", items, pid, worker(t, s))
	}
	logged(t, s, "refused a worker's keep of state")
}

// What is replaced over and over leaves nothing behind in the master. (The SDK
// makes about a hundred requests in a second, and each item is two.)
func TestStateIsReplacedForever(t *testing.T) {
	t.Parallel()
	const (
		few    = 8    // descriptors that come and go: checks, questions
		growth = 8192 // KiB
	)
	s := started(t, nil)
	w := writeList(t, s, 0)
	w.post("the first")
	held := func() int {
		n, err := descriptors(s.PID())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := times(3000, 100)
	fds, rss := held(), kib(t, s.PID(), "status", "VmRSS:")
	for i := range n {
		w.post(fmt.Sprint("item ", i))
	}
	after := kib(t, s.PID(), "status", "VmRSS:")
	if len(w.failed) > 0 {
		t.Fatalf("%q", w.failed)
	}
	for end := time.Now().Add(time.Minute); held() > fds+few; time.Sleep(poll) {
		if time.Now().After(end) {
			t.Fatalf("the master has %d descriptors, before it had %d", held(), fds)
		}
	}
	if after > rss+growth {
		t.Errorf("the master has grown from %.0f to %.0f KiB", rss, after)
	}
	t.Logf("%d replacements: the master has %.0f KiB and %d descriptors, before it had %.0f and %d", n, after, held(), rss, fds)
}

func worker(t *testing.T, s *service.Service) int {
	t.Helper()
	pid, err := s.Worker(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return pid
}

// A stop drops what is kept, unless it was asked for otherwise.
func TestStateAcrossAStop(t *testing.T) {
	t.Parallel()
	for _, persist := range []bool{false, true} {
		s := started(t, func(c service.Config) {
			if persist {
				c.Set("worker.env.DEMO_PERSIST", "1")
			}
		})
		w := writeList(t, s, 1)
		w.more(3)
		items := w.check()
		if b := kept(t, s, "list"); b.Persist != persist {
			t.Errorf("status shows %+v", b)
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		file := filepath.Join(s.Dir, "state", "blobs", "list.blob")
		info, err := os.Stat(file)
		if persist && (err != nil || info.Mode().Perm() != 0o600) || !persist && !os.IsNotExist(err) {
			t.Errorf("the file: %v, %v", info, err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := 0
		if persist {
			want = len(items)
		}
		if got := list(t, s); len(got) != want {
			t.Errorf("persist %v: %d items after the stop, before it %d", persist, len(got), len(items))
		}
		if err := s.Stop(); err != nil {
			t.Fatal(err)
		}
		if persist {
			if err := os.WriteFile(file, []byte("damaged\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if got := list(t, s); len(got) != 0 {
				t.Errorf("%d items of a damaged file", len(got))
			}
			logged(t, s, "list.blob is damaged")
		}
	}
}

// Two versions that map one table do not cost two tables.
func TestVersionsShareATable(t *testing.T) {
	t.Parallel()
	mib := times(256, 32)
	s := started(t, func(c service.Config) {
		c.Set("worker.env.DEMO_TABLE", fmt.Sprint(mib)).Set("rollout.bake", "10m").Set("state.blob", "1GiB").Set("state.total", "2GiB")
	})
	type table struct{ Size, CRC32 int64 }
	var first, second table
	get(t, s, "/table", &first)
	if first.Size != int64(mib)<<20 {
		t.Fatalf("%+v", first)
	}
	before := memory(t, s)
	s.Config.Set("worker.env.RELEASE", "v2")
	if out := reload(t, s, api.ReloadRequest{Label: "v2"}); out.Result != api.ResultDone {
		t.Fatalf("reload: %+v", out)
	}
	get(t, s, "/table", &second)
	if first != second {
		t.Errorf("%+v, then %+v", first, second)
	}
	after := memory(t, s)
	t.Logf("a table of %d MiB: one version %v MiB of it, two versions %v MiB (proportional, shared memory; all of each: %v, %v)",
		mib, before.shared, after.shared, before.rss, after.rss)
	if len(after.shared) != 2 {
		t.Fatalf("%d workers", len(after.shared))
	}
	if sum := after.shared[0] + after.shared[1]; sum > float64(mib)*1.1 || after.rss[0]+after.rss[1] < 1.9*float64(mib) {
		t.Errorf("two versions hold %.0f MiB of a table of %d MiB, and see %.0f", sum, mib, after.rss[0]+after.rss[1])
	}
}

// held is what each worker holds of shared memory, in MiB: its part of what is
// shared, and all that it sees.
type held struct{ shared, rss []float64 }

func memory(t *testing.T, s *service.Service) (h held) {
	t.Helper()
	st, err := s.API.Status(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, g := range st.Generations {
		for _, w := range g.Workers {
			h.shared = append(h.shared, kib(t, w.PID, "smaps_rollup", "Pss_Shmem:")/1024)
			h.rss = append(h.rss, kib(t, w.PID, "status", "RssShmem:")/1024)
		}
	}
	return h
}

// kib is a line of a file in /proc/PID.
func kib(t *testing.T, pid int, file, name string) float64 {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", pid, file))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) >= 2 && f[0] == name {
			var n float64
			if _, err := fmt.Sscan(f[1], &n); err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("/proc/%d/%s has no %s", pid, file, name)
	return 0
}
