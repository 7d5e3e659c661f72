package listen

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
)

const stranger = 54321

// victim is a file of root's that nobody else may read.
func victim(t *testing.T) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to have something that a worker's user wants")
	}
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// untouched asserts that a file of root's is as it was.
func untouched(t *testing.T, path string) {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil || st.Mode != unix.S_IFREG|0o600 || st.Gid != 0 {
		t.Errorf("%s has mode %o and group %d, %v", path, st.Mode, st.Gid, err)
	}
}

// watching has something done again and again until the test, or stop, ends it.
func watching(t *testing.T, do func()) (stop func()) {
	end, ended := make(chan bool), make(chan bool)
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
				do()
				runtime.Gosched() // it may be the only processor
			}
		}
	}()
	stopped := false
	stop = func() {
		if !stopped {
			stopped = true
			close(end)
			<-ended
		}
	}
	t.Cleanup(stop)
	return stop
}

// A user who can write to the directory swaps a socket that was just bound for a link
// to a file of root's, which would then get the socket's mode.
func TestDirectoryOfAWorkersUser(t *testing.T) {
	secret, dir := victim(t), t.TempDir()
	c := onPath("http", filepath.Join(dir, "s"))
	c.Mode = 0o666
	trap := filepath.Join(dir, "trap")
	for _, own := range []struct {
		mode  fs.FileMode
		owner int
		group int
	}{{0o755, stranger, stranger}, {0o775, 0, stranger}, {0o777, 0, 0}} {
		if err := errors.Join(os.Chown(dir, own.owner, own.group), os.Chmod(dir, own.mode)); err != nil {
			t.Fatal(err)
		}
		stop := watching(t, func() {
			for _, i := range []string{"0", "own"} {
				at := hiddenName(c.Path, i)
				if info, err := os.Lstat(at); err == nil && info.Mode().Type() == fs.ModeSocket {
					_ = errors.Join(os.Symlink(secret, trap), os.Rename(trap, at))
				}
			}
		})
		for range 20 {
			set, err := Open(Options{Listeners: []config.Listener{c}, Slots: testSlots})
			if err == nil {
				t.Errorf("a directory of uid %d, group %d with mode %v was taken", own.owner, own.group, own.mode)
				_ = set.Close()
				break
			}
			if !strings.Contains(err.Error(), "listener http") || !strings.Contains(err.Error(), ", or type: ch") {
				t.Error(err)
				break
			}
			for _, i := range []string{"0", "own"} {
				_ = os.Remove(hiddenName(c.Path, i))
			}
		}
		stop()
		untouched(t, secret)
	}
}

// A directory that is given away while masterd runs: what is there then is not touched
// as root, and that is said once.
func TestDirectoryIsGivenAway(t *testing.T) {
	secret, dir := victim(t), filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	core, seen := observer.New(zap.InfoLevel)
	c := onPath("http", filepath.Join(dir, "s"))
	set, err := Open(Options{Listeners: []config.Listener{c}, Slots: 2, Log: zap.New(core)})
	if err != nil {
		t.Fatal(err)
	}
	defer set.Close()
	if err := errors.Join(set.Manned(0, []string{"http"}, testGeneration), os.Chown(dir, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	for _, at := range []string{c.Path, hiddenName(c.Path, "0"), hiddenName(c.Path, "1"), hiddenName(c.Path, "own")} {
		if err := errors.Join(os.Remove(at), os.Symlink(secret, at)); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 {
		set.mendDrift(time.Now())
	}
	other := c
	other.Mode = 0o666
	for what, err := range map[string]error{
		"steering":     set.Steer([]Share{{0, 1}}),
		"another mode": set.Add([]config.Listener{other}),
	} {
		if err == nil || !strings.Contains(err.Error(), dir+" belongs to uid 54321") {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n := seen.FilterMessageSnippet("cannot be looked after").Len(); n != 1 {
		t.Errorf("it was said %d times: %v", n, seen.All())
	}
	untouched(t, secret)
}

// What has taken a socket's name in a directory of root's is not changed in its place.
func TestNameIsAnothers(t *testing.T) {
	secret, dir := victim(t), t.TempDir()
	c := onPath("http", filepath.Join(dir, "s"))
	for what, put := range map[string]func(at string) error{
		"a link": func(at string) error { return os.Symlink(secret, at) },
		"a file": func(at string) error { return os.Link(secret, at) },
	} {
		set, err := Open(Options{Listeners: []config.Listener{c}, Slots: 2})
		if err != nil {
			t.Fatal(err)
		}
		at := hiddenName(c.Path, "1")
		if err := errors.Join(os.Remove(at), put(at)); err != nil {
			t.Fatal(err)
		}
		other := c
		other.Mode = 0o666
		if err := set.Add([]config.Listener{other}); err == nil || !strings.Contains(err.Error(), at+" is not masterd's socket any more") {
			t.Errorf("%s: %v", what, err)
		}
		untouched(t, secret)
		if err := errors.Join(set.Close(), os.Remove(at)); err != nil {
			t.Error(err)
		}
	}
}

// A socket has no more than its mode from the moment that it has a name, and in the end
// all of it, whatever the umask.
func TestModeFromTheFirstMoment(t *testing.T) {
	for _, test := range []struct{ umask, mode int }{{0, 0o600}, {0o077, 0o666}, {0o022, 0o660}} {
		c := onPath("http", filepath.Join(t.TempDir(), "s"))
		c.Mode = uint32(test.mode)
		before := syscall.Umask(test.umask)
		more := 0
		stop := watching(t, func() {
			for _, i := range []string{"0", "1", "own"} {
				var st unix.Stat_t
				if unix.Lstat(hiddenName(c.Path, i), &st) == nil && int(st.Mode)&0o777&^test.mode != 0 {
					more++
				}
			}
		})
		var set *Set
		var err error
		for range 50 {
			if set, err = Open(Options{Listeners: []config.Listener{c}, Slots: 2}); err != nil {
				t.Fatal(err)
			}
			if info, err := os.Lstat(c.Path); err != nil || int(info.Mode().Perm()) != test.mode {
				t.Errorf("umask %#o: %v, %v", test.umask, info.Mode(), err)
			}
			if err := set.Close(); err != nil {
				t.Error(err)
			}
		}
		stop()
		syscall.Umask(before)
		if more > 0 {
			t.Errorf("umask %#o: more than %#o was seen %d times", test.umask, test.mode, more)
		}
	}
}

// Links of the operator's are followed: /var/run is one, and so is a release's current.
func TestPathByTrustedLinks(t *testing.T) {
	top := t.TempDir()
	real := filepath.Join(top, "releases", "42", "run")
	current := filepath.Join(top, "current")
	if err := errors.Join(os.MkdirAll(real, 0o755), os.Symlink("releases/42", current)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(current, "run", "s")
	w := newWorld(t, onPath("http", path))
	w.man(0, "http")
	w.steer(Share{0, 1})
	if got := count(t, "unix", filepath.Join(real, "s"), 5); got["0"] != 5 {
		t.Error(got)
	}
	if os.Geteuid() != 0 {
		return
	}
	if err := os.Lchown(current, stranger, stranger); err != nil {
		t.Fatal(err)
	}
	if e := refused(t, onPath("other", filepath.Join(current, "run", "t"))); !strings.Contains(e.Error(), "is not followed") {
		t.Error(e)
	}
}

// A master that comes after one that took such a directory, or after it was given away,
// does not take over half: it says why not, and who serves goes on.
func TestTakeoverInADirectoryOfAnother(t *testing.T) {
	dir := filepath.Dir(victim(t))
	c := onPath("http", filepath.Join(dir, "s"))
	s := newShelf(t)
	first := mustHold(t, s, testSlots, c)
	first.man(1, "http")
	first.steer(Share{1, 1})
	if err := errors.Join(first.Leave(), os.Chown(dir, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	left, before := s.names(), descriptors(t)
	next, err := heldWorld(t, s, testSlots, c)
	if err == nil {
		next.Leave()
		t.Fatal("it was taken over")
	}
	if e := asListenError(t, err); !strings.Contains(e.Error(), dir+" belongs to uid 54321") {
		t.Error(err)
	}
	eventually(t, "no descriptor is left", func() bool { return descriptors(t) <= before })
	if got := count(t, "unix", c.Path, 5); got["1"] != 5 || !slices.Equal(s.names(), left) {
		t.Errorf("%v, held are %v, of %v", got, s.names(), left)
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	next = mustHold(t, s, testSlots, c)
	next.man(0, "http")
	next.steer(Share{0, 1})
	if got := count(t, "unix", c.Path, 5); got["0"] != 5 {
		t.Error(got)
	}
}
