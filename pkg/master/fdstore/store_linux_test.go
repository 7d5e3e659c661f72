package fdstore

import (
	"os"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
)

func open(t testing.TB) (*Store, *keepertest.Shelf) {
	t.Helper()
	k := keepertest.New(t)
	s, err := New(Options{Keeper: k})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s, k
}

func pipe(t *testing.T) (r, w int) {
	t.Helper()
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	return fds[0], fds[1]
}

func dup(t *testing.T, fd int) int {
	t.Helper()
	n, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func names(t *testing.T, s *Store) (all []string) {
	t.Helper()
	files, err := s.Files()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		all = append(all, f.Name)
		unix.Close(f.FD)
	}
	return all
}

func TestStoreIsBounded(t *testing.T) {
	s, k := open(t)
	r, w := pipe(t)
	defer unix.Close(w)
	if err := s.Add("cache", []int{r, dup(t, r)}, true, 2); err != nil {
		t.Error(err)
	}
	if n := s.Count(); n != 1 {
		t.Errorf("the same file is kept %d times", n)
	}
	var ends []int
	for range 3 {
		r, w := pipe(t)
		ends = append(ends, r)
		defer unix.Close(w)
	}
	if err := s.Add("", ends, true, 2); err == nil {
		t.Error("three more were taken where one had room")
	}
	if got := names(t, s); len(got) != 2 || got[0] != "cache" || got[1] != "stored" || len(k.Names()) != 2 {
		t.Errorf("%v, held %q", got, k.Names())
	}
	s.Remove("cache")
	if got := names(t, s); len(got) != 1 || len(k.Names()) != 1 {
		t.Errorf("%v, held %q", got, k.Names())
	}
}

// What has lost its other end is let go, unless it was asked to stay.
func TestDeadEndsAreLetGo(t *testing.T) {
	s, _ := open(t)
	r1, w1 := pipe(t)
	r2, w2 := pipe(t)
	if err := s.Add("goes", []int{r1}, true, 5); err != nil {
		t.Fatal(err)
	}
	if err := s.Add("stays", []int{r2}, false, 5); err != nil {
		t.Fatal(err)
	}
	unix.Close(w1)
	unix.Close(w2)
	for end := time.Now().Add(10 * time.Second); s.Count() > 1; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("it is kept for ever")
		}
	}
	if got := names(t, s); len(got) != 1 || got[0] != "stays" {
		t.Error(got)
	}
}

// A file has no other end, and is kept.
func TestFilesAreKept(t *testing.T) {
	s, _ := open(t)
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := s.Add("file", []int{dup(t, int(f.Fd()))}, true, 1); err != nil || s.Count() != 1 {
		t.Error(err, s.Count())
	}
}

func TestNextMasterHasThem(t *testing.T) {
	s, k := open(t)
	r, w := pipe(t)
	defer unix.Close(w)
	if err := s.Add("cache", []int{r}, true, 5); err != nil {
		t.Fatal(err)
	}
	k.Check()
	held := k.All()
	bad, bw := pipe(t)
	unix.Close(bw)
	held = append(held, keeper.Held{Name: HeldPrefix + "x", Meta: []byte("{}"), FD: bad})
	s.Close()
	next, _ := open(t)
	next.Adopt(held)
	if got := names(t, next); len(got) != 1 || got[0] != "cache" {
		t.Error(got)
	}
	r2, w2 := pipe(t)
	defer unix.Close(w2)
	if err := next.Add("more", []int{r2}, true, 5); err != nil || next.Count() != 2 {
		t.Error(err, next.Count())
	}
}

// Whatever the keeper says that it holds for the store is taken over within the limit, and
// kept by what it says, or let go.
func FuzzAdopt(f *testing.F) {
	f.Add(HeldPrefix+"1", []byte(`{"worker":1,"name":"a","poll":true}`))
	f.Add(HeldPrefix+"9223372036854775807", []byte(`{}`))
	f.Add(HeldPrefix+"-1", []byte(`{"name":"\u0000"}`))
	f.Add("1", []byte(`{`))
	f.Fuzz(func(t *testing.T, name string, meta []byte) {
		s, k := open(t)
		fd, err := unix.Dup(0)
		if err != nil {
			t.Fatal(err)
		}
		s.Adopt([]keeper.Held{{Name: name, Meta: meta, FD: fd}})
		if n := s.Count(); n > 1 || n != len(k.Names()) {
			t.Errorf("%d are stored, %q kept", n, k.Names())
		}
	})
}
