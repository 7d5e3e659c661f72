package master

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/session"
)

// sealed makes sealed memory; the descriptor is the caller's.
func sealed(t *testing.T, content string) int {
	t.Helper()
	f, err := ipc.NewMemory("test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString(content); err != nil {
		t.Fatal(err)
	}
	if err := ipc.Seal(f); err != nil {
		t.Fatal(err)
	}
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// request asks and waits for the answer.
func (f *fakeWorker) request(kind session.Kind, b ipc.Blob, fd int) reply {
	f.w.t.Helper()
	f.fact(session.Fact{Kind: kind, Seq: 1, Blob: &b, FD: fd})
	return <-f.replies
}

// keep keeps content; the answer is "" or why not.
func (f *fakeWorker) keep(b ipc.Blob, content string) string {
	f.w.t.Helper()
	b.Size = int64(len(content))
	r := f.request(session.Keep, b, sealed(f.w.t, content))
	switch {
	case r.refused != "":
		return r.refused
	case r.Changed:
		return "changed"
	case r.Revision == 0:
		f.w.t.Errorf("kept without a revision")
	}
	return ""
}

// reads is what a worker finds; "-": nothing.
func (f *fakeWorker) reads(name string) (content string, revision uint64) {
	f.w.t.Helper()
	r := f.request(session.Fetch, ipc.Blob{Name: name}, -1)
	if r.None {
		return "-", 0
	}
	data := make([]byte, r.Size)
	if _, err := unix.Pread(r.fd, data, 0); err != nil {
		f.w.t.Errorf("reading what is kept: %v", err)
	}
	return string(data), r.Revision
}

func named(name string) ipc.Blob { return ipc.Blob{Name: name} }

// twoGenerations is a reload during whose bake the old generation is parked.
func twoGenerations(t *testing.T, story func(w *world, m *Master, old, young *fakeWorker)) {
	t.Helper()
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		old := w.of("v1")
		if why := old.keep(named("list"), "old"); why != "" {
			t.Fatal(why)
		}
		w.install("v2")
		if _, out := reload(t, m, api.ReloadRequest{}); out.Result != api.ResultDone {
			t.Fatalf("%+v", out)
		}
		until(t, "v1 is parked", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return old.parked })
		story(w, m, old, w.of("v2"))
	})
}

func want(t *testing.T, what, got, want string) {
	t.Helper()
	if want == "" && got != "" || want != "" && !strings.Contains(got, want) {
		t.Errorf("%s: %q, want %q", what, got, want)
	}
}

// What a parked version still had to write is read by the next; once that has
// written, the parked one cannot undo it. After a rollback it is the other way.
func TestWhoMayChangeWhatIsKept(t *testing.T) {
	twoGenerations(t, func(w *world, m *Master, old, young *fakeWorker) {
		want(t, "the parked one writes its last", old.keep(named("list"), "the last of old"), "")
		got, _ := young.reads("list")
		want(t, "the young one reads", got, "the last of old")
		want(t, "the young one writes", young.keep(named("list"), "young"), "")
		want(t, "the parked one writes again", old.keep(named("list"), "too late"), "since generation 1 was told to park")
		got, revision := old.reads("list")
		want(t, "the parked one reads", got, "young")
		want(t, "it writes on top of that", old.keep(ipc.Blob{Name: "list", If: revision}, "young, old"), "")
		want(t, "and not on top of something older", old.keep(ipc.Blob{Name: "list", If: revision}, "x"), "changed")
		want(t, "or of nothing", old.keep(ipc.Blob{Name: "list", New: true}, "x"), "changed")
		want(t, "it forgets what is newer", old.request(session.Forget, named("list"), -1).refused, "")
		want(t, "now it is nobody's", young.keep(ipc.Blob{Name: "list", New: true}, "young"), "")
		want(t, "it forgets the young one's", old.request(session.Forget, named("list"), -1).refused, "told to park")

		if _, out := read(t, must(m.operator.Rollback("alice", api.RollbackRequest{}))); out.Result != api.ResultDone {
			t.Fatalf("%+v", out)
		}
		until(t, "v1 serves", serves(w, "v1"))
		until(t, "v1 is active again", func() bool { w.mu.Lock(); defer w.mu.Unlock(); return !old.parked })
		want(t, "after the rollback the old one writes", old.keep(named("list"), "old again"), "")
		if st := m.Status(); len(st.Blobs) != 1 || st.Blobs[0].Name != "list" || st.Blobs[0].Size != 9 ||
			st.Blobs[0].Generation != 1 {
			t.Errorf("status shows %+v", st.Blobs)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

// A version that fails its checks changes nothing that others rely on.
func TestACandidateChangesNothing(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		w.of("v1").keep(named("list"), "old")
		w.is("v2", behaviour{hang: true})
		w.install("v2")
		events := must(m.operator.Reload("alice", true, api.ReloadRequest{}))
		var young *fakeWorker
		until(t, "the candidate lives", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, f := range w.workers {
				if f.program == "v2" && f.pid != 0 {
					young = f
				}
			}
			return young != nil
		})
		for _, b := range []ipc.Blob{named("list"), {Name: "list", If: must2(young.reads("list"))}} {
			want(t, "it writes", young.keep(b, "bad"), "has not been active yet")
		}
		want(t, "it forgets", young.request(session.Forget, named("list"), -1).refused, "has not been active yet")
		want(t, "it keeps what nobody does", young.keep(named("model"), "large"), "")
		want(t, "and something else in its place", young.keep(named("model"), "larger"), "")
		if _, out := read(t, events); out.Result == api.ResultDone {
			t.Fatalf("%+v", out)
		}
		until(t, "what it kept for itself is gone", func() bool { return len(m.Status().Blobs) == 1 })
		got, _ := w.of("v1").reads("list")
		want(t, "what is kept", got, "old")
	})
}

func must2[A, B any](_ A, b B) B { return b }

// A replacement is of a generation that was active: it may write at once.
func TestAReplacementGoesOn(t *testing.T) {
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		w.of("v1").keep(named("list"), "before the crash")
		w.crash("v1")
		until(t, "v1 serves again", serves(w, "v1"))
		got, _ := w.of("v1").reads("list")
		want(t, "the replacement reads", got, "before the crash")
		want(t, "and writes", w.of("v1").keep(named("list"), "after"), "")
	})
}

// Everything that is wrong with a request is answered with why, and costs no
// descriptor.
func TestWhatIsNotKept(t *testing.T) {
	cfg := testConfig()
	cfg.State.Count, cfg.State.Total = 2, 30
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		f := w.of("v1")
		before := descriptors(t)
		var pipe [2]int
		if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
			t.Fatal(err)
		}
		want(t, "a pipe", f.request(session.Keep, ipc.Blob{Name: "a"}, pipe[0]).refused, "not fit")
		unix.Close(pipe[1])
		want(t, "another size", f.request(session.Keep, ipc.Blob{Name: "a", Size: 3}, sealed(t, "four")).refused,
			"has 4 bytes")
		want(t, "too large", f.keep(named("a"), strings.Repeat("x", 2<<20)), "state.blob")
		want(t, "too much", f.keep(named("a"), strings.Repeat("x", 31)), "state.total")
		want(t, "a slash", f.keep(named("../a"), "x"), "a blob's name is")
		want(t, "a slash", f.request(session.Fetch, named("a/b"), -1).refused, "a blob's name is")
		want(t, "a slash", f.request(session.Forget, named("a/b"), -1).refused, "a blob's name is")
		want(t, "one", f.keep(named("a"), "0123456789"), "")
		want(t, "two", f.keep(named("b"), "0123456789"), "")
		want(t, "three", f.keep(named("c"), "0"), "state.count")
		want(t, "another in its place", f.keep(named("b"), "01234567890123456789"), "")
		want(t, "one byte more", f.keep(named("b"), "012345678901234567890"), "state.total")
		f.request(session.Forget, named("a"), -1)
		f.request(session.Forget, named("b"), -1)
		f.request(session.Forget, named("b"), -1)
		until(t, "nothing is left open", func() bool { return descriptors(t) <= before })
	})
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

// Ten workers keep at once, while one of them dies: each name has what one of
// them has kept, whole, and nothing stays open.
func TestManyKeepAtOnce(t *testing.T) {
	cfg := testConfig()
	cfg.Worker.Processes = 10
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		time.Sleep(time.Second)
		w.mu.Lock()
		var all []*fakeWorker
		for _, f := range w.workers {
			all = append(all, f)
		}
		w.mu.Unlock()
		if len(all) != 10 {
			t.Fatalf("%d workers", len(all))
		}
		before := descriptors(t)
		var done sync.WaitGroup
		for i, f := range all {
			done.Go(func() {
				for n := range 100 {
					content := strings.Repeat(fmt.Sprintf("%d/%d ", i, n), 50)
					if i == 0 && n == 50 {
						fd := sealed(t, content)
						go f.end(proc.Exit{Code: 1})
						f.fact(session.Fact{Kind: session.Keep, Seq: 1, Blob: &ipc.Blob{Name: "shared", Size: int64(len(content))},
							FD: fd})
						return
					}
					if why := f.keep(named("shared"), content); why != "" {
						t.Error(why)
					}
					if why := f.keep(named(fmt.Sprint("own", i%5)), content); why != "" {
						t.Error(why)
					}
				}
			})
		}
		done.Wait()
		got, _ := all[1].reads("shared")
		if first, _, _ := strings.Cut(got, " "); got != strings.Repeat(first+" ", 50) {
			t.Errorf("half of it: %q", got)
		}
		const blobs = 6
		until(t, "nothing else is open", func() bool { return descriptors(t) <= before+blobs })
	})
}

// What is to outlive the stop is in the state directory then; the disk's being
// full does not keep the master from ending.
func TestStopWritesWhatIsToStay(t *testing.T) {
	for _, full := range []bool{false, true} {
		cfg := testConfig()
		cfg.StateDir = t.TempDir()
		if full { // nothing can be made where a file is
			if err := os.WriteFile(filepath.Join(cfg.StateDir, blobsDir), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		run(t, cfg, func(w *world, m *Master) {
			until(t, "v1 serves", serves(w, "v1"))
			f := w.of("v1")
			want(t, "a", f.keep(ipc.Blob{Name: "stays", Persist: true}, "secret"), "")
			want(t, "b", f.keep(ipc.Blob{Name: "goes"}, "x"), "")
			want(t, "c", f.keep(ipc.Blob{Name: "changed its mind", Persist: true}, "x"), "name")
		})
		files, _ := filepath.Glob(filepath.Join(cfg.StateDir, blobsDir, "*"))
		if !full && (len(files) != 1 || filepath.Base(files[0]) != "stays.blob") || full && len(files) != 0 {
			t.Errorf("disk full: %v, and there are %v", full, files)
		}
	}
}

// What an earlier stop has written is there until it is no longer the last: a
// master that dies from then on must not bring back something older.
func TestNothingOlderComesBack(t *testing.T) {
	for how, change := range map[string]func(f *fakeWorker) string{
		"replaced":      func(f *fakeWorker) string { return f.keep(ipc.Blob{Name: "list", Persist: true}, "new") },
		"not to stay":   func(f *fakeWorker) string { return f.keep(named("list"), "new") },
		"forgotten":     func(f *fakeWorker) string { return f.request(session.Forget, named("list"), -1).refused },
		"left as it is": nil,
	} {
		cfg := testConfig()
		cfg.StateDir = t.TempDir()
		file := filepath.Join(cfg.StateDir, blobsDir, "list.blob")
		run(t, cfg, func(w *world, m *Master) {
			until(t, "v1 serves", serves(w, "v1"))
			want(t, how, w.of("v1").keep(ipc.Blob{Name: "list", Persist: true}, "old"), "")
		})
		run(t, cfg, func(w *world, m *Master) {
			until(t, "v1 serves", serves(w, "v1"))
			f := w.of("v1")
			got, _ := f.reads("list")
			want(t, how+": after the stop it reads", got, "old")
			if change == nil {
				if _, err := os.Stat(file); err != nil {
					t.Errorf("%s: %v", how, err)
				}
				return
			}
			want(t, how, change(f), "")
			until(t, how+": the file is gone", func() bool { _, err := os.Stat(file); return os.IsNotExist(err) })
		})
		content, err := os.ReadFile(file)
		stays := how == "replaced" || how == "left as it is"
		if stays && err != nil || !stays && !os.IsNotExist(err) || how == "replaced" &&
			!strings.HasSuffix(string(content), "\nnew") {
			t.Errorf("%s: after the next stop: %q, %v", how, content, err)
		}
	}
}

// However many keep at once, the total holds, and what does not fit is refused
// and costs nothing.
func TestTheTotalHoldsForAllTogether(t *testing.T) {
	const each, room = 10, 5
	cfg := testConfig()
	cfg.Worker.Processes = 10
	cfg.State.Total = each * room
	run(t, cfg, func(w *world, m *Master) {
		until(t, "v1 serves with all", func() bool { return serves(w, "v1")() && w.living() == cfg.Worker.Processes })
		w.mu.Lock()
		var all []*fakeWorker
		for _, f := range w.workers {
			all = append(all, f)
		}
		w.mu.Unlock()
		before := descriptors(t)
		var mu sync.Mutex
		kept := 0
		var done sync.WaitGroup
		for i, f := range all {
			done.Go(func() {
				why := f.keep(named(fmt.Sprint("own", i)), strings.Repeat("x", each))
				mu.Lock()
				defer mu.Unlock()
				if why == "" {
					kept++
				} else {
					want(t, "what does not fit", why, "state.total")
				}
			})
		}
		done.Wait()
		if n := len(m.Status().Blobs); kept != room || n != room {
			t.Errorf("%d were kept and %d are there; there is room for %d", kept, n, room)
		}
		until(t, "nothing else is open", func() bool { return descriptors(t) <= before+room })
	})
}

// Replacing costs the master nothing that stays: neither descriptors, which
// would be the memory of what was replaced, nor memory of its own.
func TestReplacedTenThousandTimes(t *testing.T) {
	const replacements, growth = 10_000, 1 << 20
	run(t, testConfig(), func(w *world, m *Master) {
		until(t, "v1 serves", serves(w, "v1"))
		f := w.of("v1")
		content := strings.Repeat("x", 4<<10)
		keep := func(n int) {
			for range n {
				if why := f.keep(named("list"), content); why != "" {
					t.Fatal(why)
				}
			}
		}
		heap := func() uint64 {
			var s runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&s)
			return s.HeapAlloc
		}
		keep(replacements / 10) // what is made once is there now
		before, fds := heap(), descriptors(t)
		keep(replacements)
		until(t, "what was replaced is closed", func() bool {
			closing, _ := fdpass.Closing() // and who closes is gone: it has a stack
			return closing == 0 && descriptors(t) <= fds
		})
		after := heap()
		if after > before+growth {
			t.Errorf("%d replacements: the heap has grown from %d to %d bytes", replacements, before, after)
		}
		t.Logf("%d replacements: heap %d KiB before, %d KiB after; %d descriptors", replacements, before>>10, after>>10,
			descriptors(t))
	})
}
