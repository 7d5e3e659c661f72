package keeper

import (
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// A number that was dropped and closed is given again at once, to something else. A keeper
// that takes the place of one that has died is never given that.
func TestNumbersAreGivenAgain(t *testing.T) {
	for range 5 {
		path := filepath.Join(dir(t), "keeper.sock")
		refilled := make(chan struct{}, 100)
		r, _ := join(t, path, func() bool { refilled <- struct{}{}; return true })
		stop := make(chan struct{})
		var puts sync.WaitGroup
		var mu sync.Mutex
		want := map[string]string{}
		for n := range 8 {
			name := fmt.Sprint("n", n)
			puts.Go(func() {
				before := -1
				for i := 0; ; i++ {
					fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC)
					if err != nil {
						t.Error(err)
						return
					}
					content := fmt.Sprint(name, " ", i)
					if _, err := unix.Write(fd, []byte(content)); err != nil {
						t.Error(err)
					}
					r.Put(name, nil, fd)
					if before >= 0 { // its place is taken
						unix.Close(before)
					}
					select {
					case <-stop:
						mu.Lock()
						want[name] = ":" + content
						mu.Unlock()
						t.Cleanup(func() { unix.Close(fd) })
						return
					default:
					}
					if before = fd; (n+i)%2 == 0 {
						r.Drop(name)
						unix.Close(fd)
						before = -1
					}
				}
			})
		}
		if err := unix.Kill(r.PID(), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		<-refilled
		close(stop)
		puts.Wait()
		r.Settle()
		r.Leave()
		next, held := join(t, path, nil)
		got := contents(t, held)
		for name, content := range want {
			if got[name] != content {
				t.Errorf("%s: %q is held, %q was put", name, got[name], content)
			}
		}
		if len(got) != len(want) {
			t.Errorf("%v, want %v", got, want)
		}
		ends(t, next, path)
	}
}

// What an earlier master had held is taken by whom it concerns, once; the rest is let go.
func TestWhatIsLeftIsTakenOnce(t *testing.T) {
	path := filepath.Join(dir(t), "keeper.sock")
	r, _ := join(t, path, nil)
	for _, name := range []string{"b/1", "b/12", "a/2", "a/1", "c"} {
		put(t, r, name, "", text(t, name))
	}
	if r.Inherits() {
		t.Error("a first master inherits something")
	}
	r.Leave()

	next, err := Join(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	if !next.Inherits() {
		t.Error("it inherits nothing")
	}
	var names []string
	for _, h := range next.Take("a/") {
		names = append(names, h.Name)
		unix.Close(h.FD)
	}
	if !slices.Equal(names, []string{"a/1", "a/2"}) {
		t.Error(names)
	}
	fd, there := next.TakeOne("b/1")
	if _, again := next.TakeOne("b/1"); !there || again || len(next.Take("a/")) > 0 {
		t.Error("it is not taken, or twice")
	}
	next.Put("b/1", nil, fd)
	if got := next.Rest(); !slices.Equal(got, []string{"b/12", "c"}) {
		t.Error(got)
	}
	next.Leave()
	unix.Close(fd)
	last, held := join(t, path, nil)
	got := contents(t, held)
	if len(got) != 3 || got["a/1"] != ":a/1" || got["a/2"] != ":a/2" || got["b/1"] != ":b/1" { // who has taken something drops it
		t.Error(got)
	}
	ends(t, last, path)
}
