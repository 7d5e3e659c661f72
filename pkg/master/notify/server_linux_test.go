package notify

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/keeper/keepertest"
)

// A test binary that is told what to say says it, as a process of its own.
func TestMain(m *testing.M) {
	if text, ok := os.LookupEnv("NOTIFY_TEST_SAY"); ok {
		if err := send(os.Getenv("NOTIFY_SOCKET"), text); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func send(path, text string, fds ...int) error {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	return unix.Sendmsg(fd, []byte(text), oob, &unix.SockaddrUnix{Name: path}, 0)
}

type heard struct {
	Message
	fds []int
}

type hall struct {
	*Server
	t    *testing.T
	kept *keepertest.Shelf
	log  *observer.ObservedLogs
	ear  chan heard
}

func hallOf(t *testing.T, dir string) *hall {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	h := &hall{t: t, kept: keepertest.New(t), log: logs, ear: make(chan heard, 1000)}
	r, err := Open(Options{Dir: dir, Log: zap.New(core), Keeper: h.kept})
	if err != nil {
		t.Fatal(err)
	}
	h.Server = r
	t.Cleanup(r.Close)
	return h
}

// held is what the keeper holds of a worker's.
func (h *hall) held(id uint64) int {
	h.t.Helper()
	k, there := h.kept.Of("notify/" + strconv.FormatUint(id, 10))
	if !there {
		h.t.Fatalf("the keeper holds %q", h.kept.Names())
	}
	return k.FD
}

func (h *hall) worker(id uint64, group bool) Worker {
	return Worker{ID: id, UID: os.Geteuid(), Group: group, Hear: func(m Message, fds []int) { h.ear <- heard{m, fds} }}
}

func (h *hall) add(id uint64, group bool) string {
	h.t.Helper()
	path, err := h.Add(h.worker(id, group))
	if err != nil {
		h.t.Fatal(err)
	}
	return path
}

func (h *hall) next() heard {
	h.t.Helper()
	select {
	case m := <-h.ear:
		return m
	case <-time.After(10 * time.Second):
		h.t.Fatal("nothing is heard")
		return heard{}
	}
}

// refused waits for a line that says why.
func (h *hall) refused(why string) {
	h.t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(time.Millisecond) {
		for _, e := range h.log.All() {
			if strings.Contains(fmt.Sprint(e.Message, e.ContextMap()), why) {
				return
			}
		}
	}
	h.t.Fatalf("nothing is refused because %q; the log: %v", why, h.log.All())
}

func TestWhatIsSaidBeforeIsHeard(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	path := h.add(7, false)
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", st.Mode(), err)
	}
	if err := send(path, "STATUS=loading"); err != nil {
		t.Fatal(err)
	}
	h.Begin(7, os.Getpid())
	if m := h.next(); m.Status != "loading" {
		t.Errorf("%+v", m)
	}
	if err := send(path, "READY=1"); err != nil {
		t.Fatal(err)
	}
	if m := h.next(); !m.Ready {
		t.Errorf("%+v", m)
	}
	h.Forget(7)
	if _, err := os.Stat(path); !os.IsNotExist(err) || len(h.kept.Names()) != 0 {
		t.Errorf("the socket is left: %v, %v", err, h.kept.Names())
	}
}

// say has another process speak.
func say(t *testing.T, path, text string, leader int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "NOTIFY_TEST_SAY="+text, "NOTIFY_SOCKET="+path)
	if leader == 0 { // a group of its own
		cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
}

func TestStrangersAreNotHeard(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	path := h.add(1, false)
	h.Begin(1, os.Getpid())
	say(t, path, "READY=1", 1)
	h.refused("may not speak for the worker")
	if err := send(path, "STATUS=mine"); err != nil {
		t.Fatal(err)
	}
	if m := h.next(); m.Ready || m.Status != "mine" {
		t.Errorf("a child was heard: %+v", m)
	}
}

func TestProcessesOfTheGroupAreHeard(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	path := h.add(1, true)
	// A child that is not waited for until it was heard stays a process of the group.
	cmd := exec.Command("sleep", "60")
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	h.Begin(1, cmd.Process.Pid)
	say(t, path, "READY=1", 0)
	h.refused("may not speak for the worker")

	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "NOTIFY_TEST_SAY=READY=1", "NOTIFY_SOCKET="+path)
	child.SysProcAttr = &unix.SysProcAttr{Setpgid: true, Pgid: cmd.Process.Pid}
	if err := child.Start(); err != nil {
		t.Fatal(err)
	}
	if m := h.next(); !m.Ready {
		t.Errorf("%+v", m)
	}
	if err := child.Wait(); err != nil {
		t.Error(err)
	}
}

func TestDescriptorsComeAlong(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	path := h.add(1, false)
	h.Begin(1, os.Getpid())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if err := send(path, "FDSTORE=1\nFDNAME=cache", int(r.Fd())); err != nil {
		t.Fatal(err)
	}
	m := h.next()
	if !m.Store || m.Name != "cache" || len(m.fds) != 1 {
		t.Fatalf("%+v", m)
	}
	if flags, err := unix.FcntlInt(uintptr(m.fds[0]), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
		t.Errorf("the descriptor would be inherited: %v, %v", flags, err)
	}
	unix.Close(m.fds[0])

	// A barrier: its descriptor is closed by whoever has done all before.
	if err := send(path, "BARRIER=1", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if m = h.next(); !m.Barrier {
		t.Fatalf("%+v", m)
	}
	unix.Close(m.fds[0])
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("somebody still holds the barrier: %d, %v", n, err)
	}

	// Those that nothing was said of are closed.
	if r, w, err = os.Pipe(); err != nil {
		t.Fatal(err)
	}
	if err := send(path, "READY=1", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	if m = h.next(); !m.Ready || len(m.fds) != 0 || len(m.Problems) != 1 {
		t.Errorf("%+v", m)
	}
	if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("an unexpected descriptor is kept: %d, %v", n, err)
	}
}

func TestTooLongIsRefused(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	path := h.add(1, false)
	h.Begin(1, os.Getpid())
	if err := send(path, "READY=1\nX="+strings.Repeat("x", maxMessage)); err != nil {
		t.Fatal(err)
	}
	h.refused("longer than 4096 bytes")
	if err := send(path, "READY=1"); err != nil {
		t.Fatal(err)
	}
	if m := h.next(); !m.Ready {
		t.Errorf("%+v", m)
	}
}

// Who says more than is passed on does not wait for it: what it says is merged, and
// no fact and no last word is lost.
func TestFloodIsMerged(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	path := h.add(1, false)
	h.Begin(1, os.Getpid())
	begun := time.Now()
	const n = 20 * perSecond
	for i := range n {
		text := fmt.Sprint("WATCHDOG=1\nSTATUS=", i)
		if i == n/2 {
			text += "\nREADY=1\nERRNO=7"
		}
		if err := send(path, text); err != nil {
			t.Fatal(err)
		}
	}
	took := time.Since(begun)
	if paced := n * time.Second / perSecond; took > paced/4 {
		t.Errorf("%d messages were sent in %v; the sender waits", n, took)
	}
	h.Heard(1, 10*time.Second)
	heard, ready, errno, last := 0, false, 0, ""
	for last != fmt.Sprint(n-1) {
		m := h.next()
		heard++
		ready = ready || m.Ready
		errno = max(errno, m.Errno)
		last = m.Status
		if !m.Watchdog {
			t.Fatalf("%+v", m)
		}
	}
	if most := burst + int(time.Since(begun).Seconds()*perSecond) + 1; heard > most {
		t.Errorf("%d messages were passed on in %v, more than %d", heard, time.Since(begun), most)
	}
	if !ready || errno != 7 {
		t.Errorf("what was said in the middle is lost: ready %v, errno %d", ready, errno)
	}
}

// What brings descriptors keeps its place among the rest.
func TestFloodKeepsOrder(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	path := h.add(1, false)
	h.Begin(1, os.Getpid())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	const n = 2 * burst
	for i := range n {
		if err := send(path, fmt.Sprint("STATUS=", i)); err != nil {
			t.Fatal(err)
		}
	}
	if err := send(path, "BARRIER=1", int(w.Fd())); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for last := ""; ; {
		m := h.next()
		if m.Barrier {
			unix.Close(m.fds[0])
			if last != fmt.Sprint(n-1) {
				t.Errorf("the barrier came after %q", last)
			}
			return
		}
		last = m.Status
	}
}

// NOTIFYACCESS takes from and gives within what is configured.
func TestAccessIsNarrowed(t *testing.T) {
	h := hallOf(t, filepath.Join(t.TempDir(), Dir))
	child := func(path, text string) {
		t.Helper()
		cmd := exec.Command(os.Args[0]) // of this process's group
		cmd.Env = append(os.Environ(), "NOTIFY_TEST_SAY="+text, "NOTIFY_SOCKET="+path)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Wait() }) // so long it is a process of the group
	}
	group, err := unix.Getpgid(0)
	if err != nil {
		t.Fatal(err)
	}
	path := h.add(1, true)
	h.Begin(1, group)
	h.Main(1, os.Getpid())
	hears := func(text string, by func(path, text string)) {
		t.Helper()
		by(path, "STATUS="+text)
		if m := h.next(); m.Status != text {
			t.Errorf("%+v, want %q", m, text)
		}
	}
	main := func(path, text string) {
		t.Helper()
		if err := send(path, text); err != nil {
			t.Fatal(err)
		}
	}
	said := func(a Access) {
		t.Helper()
		main(path, "NOTIFYACCESS="+string(a))
		if m := h.next(); m.Access != a {
			t.Errorf("%+v, want access %s", m, a)
		}
	}
	hears("a child", child)
	said(AccessMain)
	child(path, "STATUS=too much")
	h.refused("may not speak for the worker")
	hears("the main one", main)
	// The socket is made again, and what was said still holds.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if mended, err := h.Mend(); !mended || err != nil {
		t.Fatal(mended, err)
	}
	hears("the main one", main)
	h.log.TakeAll()
	child(path, "STATUS=too much again")
	h.refused("may not speak for the worker")
	said(AccessAll)
	hears("a child again", child)
	said(AccessNone)
	main(path, "STATUS=nobody")
	if m := (heard{}); len(h.ear) > 0 {
		m = h.next()
		t.Errorf("%+v", m)
	}

	// The configuration has the last word, and the next master knows what was said.
	path = h.add(2, false)
	h.Begin(2, group)
	h.Main(2, os.Getpid())
	main(path, "NOTIFYACCESS=all")
	if m := h.next(); m.Access != "" || len(m.Problems) != 1 || !strings.Contains(m.Problems[0], "more than worker.notify_access allows") {
		t.Errorf("%+v", m)
	}
	hears("still the main one", main)
	w := h.worker(3, true)
	w.Access = AccessMain
	if path, err = h.Add(w); err != nil {
		t.Fatal(err)
	}
	h.Begin(3, group)
	h.Main(3, os.Getpid())
	child(path, "STATUS=too much")
	h.refused("worker:3")
	hears("the main one of the next master", main)
}

// The next master hears what was said while there was none.
func TestNextMasterHears(t *testing.T) {
	dir := filepath.Join(t.TempDir(), Dir)
	first := hallOf(t, dir)
	path := first.add(3, false)
	first.add(4, false)
	first.Begin(3, os.Getpid())
	first.kept.Check()
	kept, err := fdpass.Duplicate(first.held(3))
	if err != nil {
		t.Fatal(err)
	}
	first.Server.Close()
	if err := send(path, "STATUS=between"); err != nil {
		t.Fatal(err)
	}
	second := hallOf(t, dir)
	if err := second.Adopt(second.worker(3, false), kept); err != nil {
		t.Fatal(err)
	}
	if err := second.Sweep(); err != nil {
		t.Error(err)
	}
	second.Begin(3, os.Getpid())
	if m := second.next(); m.Status != "between" {
		t.Errorf("%+v", m)
	}
	if all, err := os.ReadDir(dir); err != nil || len(all) != 1 {
		t.Errorf("%v, %v", all, err)
	}
}

// What is in the way is replaced: the file of a dead socket.
func TestDeadSocketIsReplaced(t *testing.T) {
	dir := filepath.Join(t.TempDir(), Dir)
	h := hallOf(t, dir)
	dead, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(dir, "5"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	dead.Close()
	path := h.add(5, false)
	h.Begin(5, os.Getpid())
	if err := send(path, "READY=1"); err != nil {
		t.Fatal(err)
	}
	h.next()
}
