package listen

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
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
	if err := errors.Join(set.Assigned(0, []string{"http"}, testGeneration), os.Chown(dir, stranger, stranger)); err != nil {
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
	if err := set.Steer([]Share{{Slot: 0, Weight: 1}}, 0); err != nil { // it may have been for other listeners
		t.Error(err)
	}
	if err := set.Add([]config.Listener{other}); err == nil || !strings.Contains(err.Error(), dir+" belongs to uid 54321") {
		t.Errorf("another mode: %v", err)
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
	w.steer(Share{Slot: 0, Weight: 1})
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
// takes over: who serves goes on, the path leads where it did, and the other listeners are
// steered. Once the directory is mended the path leads where it should.
func TestTakeoverInADirectoryOfAnother(t *testing.T) {
	dir := filepath.Dir(victim(t))
	c, other := onPath("http", filepath.Join(dir, "s")), tcp("other", "127.0.0.1")
	s := keepertest.New(t)
	first := mustHold(t, s, testSlots, c, other)
	first.man(1, "http", "other")
	first.steer(Share{Slot: 1, Weight: 1})
	if err := errors.Join(first.Leave(), os.Chown(dir, stranger, stranger)); err != nil {
		t.Fatal(err)
	}
	next := mustHold(t, s, testSlots+2, c, other) // there is nothing for two of the slots
	if err := next.Assigned(1, []string{"http", "other"}, testGeneration); err != nil {
		t.Fatal(err)
	}
	next.man(0, "http", "other")
	for _, beside := range []string{"1", "0"} {
		got, also := count(t, "unix", c.Path, 5), count(t, "tcp", next.Addr("other"), 5)
		if got["1"] != 5 || also[beside] != 5 {
			t.Errorf("%v, and by TCP %v of %s", got, also, beside)
		}
		next.steer(Share{Slot: 0, Weight: 1})
	}
	if st := next.Status(); !strings.Contains(st[0].Reason, "left as it is: "+dir+" belongs to uid 54321") {
		t.Errorf("%+v", st[0])
	}
	changed := c
	changed.Mode = 0o666
	if err := next.Add([]config.Listener{changed}); err == nil || !strings.Contains(err.Error(), dir+" belongs to uid 54321") {
		t.Error(err)
	}
	if err := os.Chown(dir, 0, 0); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the path leads where it should", func() bool { return count(t, "unix", c.Path, 5)["0"] == 5 })
	if st := next.Status(); st[0].Reason != "" {
		t.Errorf("%+v", st[0])
	}
	next.man(testSlots+1, "http")
	next.steer(Share{Slot: testSlots + 1, Weight: 1})
	if got := count(t, "unix", c.Path, 5); got[strconv.Itoa(testSlots+1)] != 5 {
		t.Error(got)
	}
}
