//go:build linux

package worker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/state"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// keepsWhatItIsGiven is what holds with a master and without one.
func keepsWhatItIsGiven(t *testing.T, w *Worker) {
	ctx := t.Context()
	if b, err := w.Kept(ctx, "list"); !errors.Is(err, ErrNotKept) || b != nil {
		t.Fatalf("nothing was kept, and found %q, %v", b, err)
	}
	want := func(name, content string) {
		t.Helper()
		b, err := w.Kept(ctx, name)
		if err != nil || string(b) != content {
			t.Fatalf("%s is %.40q, %v; want %.40q", name, b, err, content)
		}
		m, err := w.MapKept(ctx, name)
		if err != nil || string(m.Bytes()) != content {
			t.Fatalf("%s is mapped as %v, %v; want %.40q", name, m, err, content)
		}
		for range 2 {
			if err := m.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	ok := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	large := strings.Repeat("0123456789abcdef", 1<<16)
	ok(w.Keep(ctx, "list", []byte("one"), Persist()))
	want("list", "one")
	ok(w.Keep(ctx, "list", []byte("two, longer")))
	want("list", "two, longer")
	ok(w.Keep(ctx, "list", nil))
	want("list", "")
	ok(w.KeepFrom(ctx, "large", io.MultiReader(strings.NewReader(large[:100]), strings.NewReader(large[100:])), int64(len(large))))
	want("large", large)
	if err := w.KeepFrom(ctx, "large", strings.NewReader("short"), 100); err == nil {
		t.Error("kept 100 bytes of 5")
	}
	want("large", large)

	// A mapping is what it was.
	m, err := w.MapKept(ctx, "large")
	ok(err)
	defer m.Close()
	ok(w.Keep(ctx, "large", []byte("small")))
	want("large", "small")
	if string(m.Bytes()) != large {
		t.Error("a mapping has changed")
	}

	// What was read is the reader's.
	b, err := w.Kept(ctx, "large")
	ok(err)
	copy(b, "SMALL")
	want("large", "small")

	ok(w.Forget(ctx, "list"))
	ok(w.Forget(ctx, "list"))
	if _, err := w.MapKept(ctx, "list"); !errors.Is(err, ErrNotKept) {
		t.Errorf("forgotten, and %v", err)
	}
	for _, name := range []string{"", "a/b", "..", strings.Repeat("x", ipc.MaxBlobName+1), "ü", "a b", "a\x00"} {
		err := w.Keep(ctx, name, []byte("x"))
		if name == ".." {
			ok(err) // plain, if odd: it is no file's name here
			continue
		}
		if err == nil {
			t.Errorf("kept by the name %q", name)
		}
	}

	// Many update one blob: no update is lost.
	const each, writers = 5, 6
	var wg tasks.Group
	for range writers {
		wg.Go(func() {
			for range each {
				if err := w.UpdateKept(ctx, "count", func(old []byte) ([]byte, error) { return append(old, '.'), nil }); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	want("count", strings.Repeat(".", each*writers))
	no := errors.New("no")
	if err := w.UpdateKept(ctx, "count", func([]byte) ([]byte, error) { return nil, no }); !errors.Is(err, no) {
		t.Errorf("change said no, and %v", err)
	}

	ended, cancel := context.WithCancel(ctx)
	cancel()
	if err := w.Keep(ended, "list", nil); !errors.Is(err, context.Canceled) {
		t.Errorf("kept with a context that has ended: %v", err)
	}
}

func TestKeepAlone(t *testing.T) { keepsWhatItIsGiven(t, workerWith(t, Options{}, nil)) }

func TestKeepUnderAMaster(t *testing.T) {
	before := descriptors(t)
	k := newKeepingMaster(t)
	r := k.worker()
	keepsWhatItIsGiven(t, r.Worker)
	r.stop()
	r.wait()
	k.stop()
	k.tasks.Wait()
	workertest.Eventually(t, "no descriptor is left", func() bool { return descriptors(t) <= before+len(k.fds) })
}

func TestPersistIsAskedFor(t *testing.T) {
	k := newKeepingMaster(t)
	r := k.worker()
	if err := r.Keep(t.Context(), "a", nil, Persist()); err != nil || !k.kept("a").Persist {
		t.Errorf("%v, %+v", err, k.kept("a"))
	}
	if err := r.Keep(t.Context(), "a", nil); err != nil || k.kept("a").Persist {
		t.Errorf("%v, %+v", err, k.kept("a"))
	}
}

// A program reads its state before it is ready, while the master is still far.
func TestKeepBeforeReady(t *testing.T) {
	k := newKeepingMaster(t)
	k.stop()
	w := workerWith(t, Options{}, map[string]string{
		ipc.EnvControl: k.path, ipc.EnvWorker: "7", ipc.EnvSecret: "s3cret", ipc.EnvGeneration: "3"})
	w.OnActive(func(context.Context) {})
	asking := make(chan struct{})
	w.BeforeReady(func(ctx context.Context) error {
		close(asking)
		if err := w.Keep(ctx, "a", []byte("x")); err != nil {
			return err
		}
		_, err := w.Kept(ctx, "a")
		return err
	})
	r := run(t, w)
	<-asking
	k.start()
	workertest.Eventually(t, "it is ready", func() bool { return r.State() == StateReady })
}

func TestAMasterThatIsTooOld(t *testing.T) {
	k := newKeepingMaster(t)
	k.mu.Lock()
	k.keeps = false
	k.mu.Unlock()
	r := k.worker()
	if err := r.Keep(t.Context(), "a", nil); !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), "upgrade masterd") {
		t.Errorf("%v", err)
	}
	if _, err := r.Kept(t.Context(), "a"); !errors.Is(err, errors.ErrUnsupported) || errors.Is(err, ErrNotKept) {
		t.Errorf("%v", err)
	}
}

func TestAMasterThatRefuses(t *testing.T) {
	k := newKeepingMaster(t)
	r := k.worker()
	k.answers(func(m ipc.Message) bool {
		k.link.Send(ipc.Message{Type: ipc.TypeRefused, Seq: m.Seq, Text: "state.blob allows 1 KiB"})
		return true
	})
	if err := r.Keep(t.Context(), "a", nil); err == nil || !strings.Contains(err.Error(), "keeping a: the master refuses: state.blob allows 1 KiB") {
		t.Errorf("%v", err)
	}
}

// Nothing hangs on a master that says nothing, and a late answer harms nobody.
func TestAMasterThatIsSilent(t *testing.T) {
	k := newKeepingMaster(t)
	r := k.worker()
	late := make(chan uint64, 100)
	k.answers(func(m ipc.Message) bool { late <- m.Seq; return true })
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // it has to have been asked by then
	defer cancel()
	if _, err := r.Kept(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "has not answered") {
		t.Errorf("%v", err)
	}
	k.answers(nil)
	k.link.Send(ipc.Message{Type: ipc.TypeBlob, Seq: <-late, Blob: &ipc.Blob{Name: "a", None: true}})
	if err := r.Keep(t.Context(), "a", []byte("x")); err != nil {
		t.Error(err)
	}
}

// The connection breaks in the middle: what may be made twice is, and of an
// update it is said that nobody knows.
func TestTheConnectionBreaks(t *testing.T) {
	k := newKeepingMaster(t)
	r := k.worker()
	once := func() func(ipc.Message) bool {
		var one sync.Once
		return func(m ipc.Message) (broke bool) {
			if m.Type == ipc.TypeKeep {
				one.Do(func() { k.hangUp(); broke = true })
			}
			return broke
		}
	}
	k.answers(once())
	if err := r.Keep(t.Context(), "a", []byte("kept")); err != nil {
		t.Fatal(err)
	}
	if b, err := r.Kept(t.Context(), "a"); err != nil || string(b) != "kept" {
		t.Errorf("%q, %v", b, err)
	}
	k.answers(once())
	if err := r.UpdateKept(t.Context(), "a", func([]byte) ([]byte, error) { return []byte("b"), nil }); !errors.Is(err, state.ErrLost) || !strings.Contains(err.Error(), "not known") {
		t.Errorf("%v", err)
	}
}

// A master that is gone is waited for, not for ever; the end of the worker ends
// the wait.
func TestNoMasterAnyMore(t *testing.T) {
	k := newKeepingMaster(t)
	r := k.worker()
	if err := r.Keep(t.Context(), "a", nil); err != nil {
		t.Fatal(err)
	}
	k.stop()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := r.Keep(ctx, "a", nil); !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "no connection to the master") {
		t.Errorf("%v", err)
	}
	failed := make(chan error)
	go func() { failed <- r.Keep(context.Background(), "a", nil) }()
	r.stop()
	if err := workertest.Comes(t, failed); err == nil || !strings.Contains(err.Error(), "the worker has ended") {
		t.Errorf("%v", err)
	}
}

// A worker never makes so many requests that its master cuts it off.
func TestRequestsArePaced(t *testing.T) {
	const limit = 256 // of the protocol, in any second
	k := newKeepingMaster(t)
	r := k.worker()
	var wg tasks.Group
	for i := range 8 {
		wg.Go(func() {
			for range 40 {
				if err := r.Keep(t.Context(), fmt.Sprint("blob", i), []byte("x")); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	for i := range k.times {
		n := 0
		for _, at := range k.times[i:] {
			if at.Sub(k.times[i]) < time.Second {
				n++
			}
		}
		if n > limit*4/5 {
			t.Fatalf("%d requests in a second", n)
		}
	}
}
