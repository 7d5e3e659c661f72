package logs

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
	"unicode/utf8"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
)

// clock is a time that only moves when told.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) advance(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// sink collects what is emitted.
type sink struct {
	mu    sync.Mutex
	lines []Entry
	raw   []string
}

func (s *sink) emit(e Entry, raw []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lines = append(s.lines, e)
	s.raw = append(s.raw, string(raw))
}

func (s *sink) texts() (texts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.lines {
		texts = append(texts, e.Text)
	}
	return texts
}

func open(t testing.TB, o Options) *Collector {
	t.Helper()
	if o.Dir == "" {
		o.Dir = filepath.Join(t.TempDir(), "out")
	}
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

func add(t testing.TB, r *Collector, worker uint64) *Output {
	t.Helper()
	o, err := r.Add(Ident{Worker: worker, Generation: 7, Version: "v1", PID: func() int { return 4242 }})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

// look has everything that is there read now, as the collector's goroutine would.
func look(r *Collector) {
	r.do(func() {
		for r.look(turnSize) {
		}
	})
}

func say(t testing.TB, fd int, text string) {
	t.Helper()
	for b := []byte(text); len(b) > 0; {
		n, err := unix.Write(fd, b)
		if err != nil {
			t.Fatal(err)
		}
		b = b[n:]
	}
}

func eventually(t testing.TB, what string, fact func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !fact(); {
		if time.Now().After(deadline) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func TestLines(t *testing.T) {
	var s sink
	c := newClock()
	r := open(t, Options{Emit: s.emit, Clock: c.Now})
	o := add(t, r, 3)
	out, err := o.FDs()
	say(t, out, "one\ntwo\n\nfour, without")
	look(r)
	say(t, out, " end\r\n")
	look(r)
	say(t, err, "five\n")
	look(r)
	say(t, out, "\xff\x00six\n")
	look(r)
	want := []string{"one", "two", "", "four, without end", "five", "\uFFFD\x00six"}
	if got := o.Last(10); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if got := s.texts(); !slices.Equal(got, want) {
		t.Errorf("emitted %q", got)
	}
	if s.raw[5] != "\xff\x00six" {
		t.Errorf("raw %q", s.raw[5])
	}
	e := s.lines[4]
	if e != (Entry{api.LogLine{At: c.Now(), Worker: 3, Generation: 7, Version: "v1", Stream: "stderr", Text: "five"}, 4242}) {
		t.Errorf("%+v", e)
	}
	if got := o.Last(2); !slices.Equal(got, want[4:]) {
		t.Errorf("last two %q", got)
	}
	if got := o.Last(-1); len(got) != 0 {
		t.Errorf("last -1: %q", got)
	}
}

// The kernel's word is enough: nobody asks.
func TestLinesComeByThemselves(t *testing.T) {
	for _, watched := range []bool{true, false} {
		var s sink
		r := open(t, Options{Emit: s.emit})
		if !watched {
			r.Close()
			r = polled(t, Options{Emit: s.emit, Dir: t.TempDir()})
		}
		o := add(t, r, 1)
		out, _ := o.FDs()
		for i := range 3 {
			say(t, out, fmt.Sprintf("%d\n", i))
			eventually(t, "the line is emitted", func() bool { return len(s.texts()) == i+1 })
		}
	}
}

// polled is a collector without inotify.
func polled(t *testing.T, o Options) *Collector {
	t.Helper()
	r, err := Open(o)
	if err != nil {
		t.Fatal(err)
	}
	r.Close()
	r.watch, r.stop, r.ended = nil, make(chan struct{}), make(chan struct{})
	r.close = sync.Once{}
	go r.run()
	t.Cleanup(func() { r.Close() })
	return r
}

func TestLongLinesAreCut(t *testing.T) {
	r := open(t, Options{Line: 10})
	o := add(t, r, 1)
	out, _ := o.FDs()
	say(t, out, "0123456789\n0123456789abc\n")
	look(r)
	say(t, out, strings.Repeat("x", 8))
	look(r)
	say(t, out, strings.Repeat("y", 300_000))
	look(r)
	say(t, out, "\nend\n")
	look(r)
	want := []string{"0123456789", "0123456789 … [3 more bytes cut]", "xxxxxxxxyy … [299998 more bytes cut]", "end"}
	if got := o.Last(10); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if n := r.Cut(1); n != 2 {
		t.Errorf("%d cut", n)
	}
}

func TestRate(t *testing.T) {
	var s sink
	c := newClock()
	r := open(t, Options{PerWorker: 100, Emit: s.emit, Clock: c.Now})
	o := add(t, r, 1)
	other := add(t, r, 2)
	out, stderr := o.FDs()
	line := strings.Repeat("x", 9) + "\n"

	say(t, out, strings.Repeat(line, 30)) // a burst of two seconds passes
	look(r)
	if got := len(s.texts()); got != 21 { // and the note
		t.Errorf("%d lines of a burst", got)
	}
	if r.Dropped(1) != 10 || r.Dropped(2) != 0 || r.Dropped(0) != 10 {
		t.Errorf("dropped %d", r.Dropped(1))
	}
	if got := o.Last(1)[0]; !strings.HasPrefix(got, "10 lines (100 B) of this worker's output were dropped: more than 100 B/s") {
		t.Error(got)
	}
	say(t, stderr, line) // both streams share
	look(r)
	if r.Dropped(1) != 11 {
		t.Errorf("dropped %d", r.Dropped(1))
	}
	_, fd := other.FDs()
	say(t, fd, "innocent\n") // other workers do not
	look(r)
	if got := other.Last(1)[0]; got != "innocent" {
		t.Error(got)
	}

	c.advance(100 * time.Millisecond) // not enough to be worth while
	say(t, out, line)
	look(r)
	if r.Dropped(1) != 12 {
		t.Errorf("dropped %d", r.Dropped(1))
	}
	c.advance(400 * time.Millisecond)
	say(t, out, "again\n")
	look(r)
	if got := o.Last(1)[0]; got != "again" {
		t.Error(got)
	}
	// One note a second, and it comes when the worker has fallen silent.
	c.advance(499 * time.Millisecond)
	look(r)
	if got := o.Last(1)[0]; got != "again" {
		t.Error(got)
	}
	c.advance(time.Millisecond)
	look(r)
	if got := o.Last(1)[0]; !strings.HasPrefix(got, "2 lines (20 B)") {
		t.Error(got)
	}
	if l := r.Lines(1, 1); l[0].Stream != "masterd" {
		t.Errorf("%+v", l)
	}
}

// A flood that ends in a crash: what it said last is what matters.
func TestCrashAfterFlood(t *testing.T) {
	var s sink
	c := newClock()
	r := open(t, Options{PerWorker: 1 << 10, Emit: s.emit, Clock: c.Now})
	o := add(t, r, 1)
	o.Started()
	out, stderr := reopen(t, o)
	for range 100 {
		say(t, out, strings.Repeat("noise noise noise noise\n", 10_000))
	}
	look(r)
	say(t, out, strings.Repeat("noise\n", 5))
	say(t, stderr, "panic: no more\n\ngoroutine 1 [running]:\nmain.main()\n\t/src/main.go:12 +0x1d\nexit status 2")
	o.Finish()
	got := o.Last(6)
	want := []string{"panic: no more", "", "goroutine 1 [running]:", "main.main()", "\t/src/main.go:12 +0x1d", "exit status 2"}
	if !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	texts := s.texts()
	if !slices.Equal(texts[len(texts)-6:], want) {
		t.Errorf("emitted %q", texts[len(texts)-6:])
	}
	// Every line was passed on or counted; two notes are neither.
	passed := uint64(0)
	for _, e := range s.lines {
		if e.Stream != "masterd" {
			passed++
		}
	}
	if total := passed + r.Dropped(1); total != 100*10_000+5+6 {
		t.Errorf("%d lines accounted for", total)
	}
	if names, _ := os.ReadDir(r.opt.Dir); len(names) != 0 {
		t.Errorf("files are left: %v", names)
	}
	o.Finish() // twice is once
}

// reopen is the worker's own copy of what the master has closed.
func reopen(t testing.TB, o *Output) (stdout, stderr int) {
	t.Helper()
	var fds [2]int
	for i, s := range o.streams() {
		fd, err := unix.Open(s.path, unix.O_WRONLY|unix.O_APPEND|unix.O_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		fds[i] = fd
	}
	return fds[0], fds[1]
}

func TestFloodIsBounded(t *testing.T) {
	r := open(t, Options{PerWorker: 1 << 20})
	o := add(t, r, 1)
	o.Started()
	out, _ := reopen(t, o)
	line := strings.Repeat("x", 99) + "\n"
	chunk := strings.Repeat(line, 10_000) // 1 MB
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	space := int64(0)
	for range 100 {
		say(t, out, chunk)
		look(r)
		space = max(space, used(t, o.out.path))
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if space > giveBackStep+readSize+2*pageSize {
		t.Errorf("the file held %d bytes", space)
	}
	if grown := int64(after.HeapAlloc) - int64(before.HeapAlloc); grown > 4<<20 {
		t.Errorf("the heap grew by %d bytes", grown)
	}
	o.Finish()
	if n := len(r.Lines(1, 10_000)); n > ringLines {
		t.Errorf("%d lines are kept", n)
	}
}

func used(t testing.TB, path string) int64 {
	t.Helper()
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		t.Fatal(err)
	}
	return st.Blocks * 512
}

// A backlog that nobody read, as after a long stop, is not read line by line.
func TestBacklogIsSkipped(t *testing.T) {
	r := open(t, Options{})
	o := add(t, r, 1)
	o.Started()
	out, _ := reopen(t, o)
	r.do(func() { // the collector stands still
		say(t, out, "first\n")
		if err := unix.Ftruncate(out, backlogLimit+5<<20); err != nil { // a hole: as large, and quicker
			t.Error(err)
		}
		say(t, out, "\nlast\n")
	})
	o.Finish()
	lines := r.Lines(1, 10)
	if len(lines) < 2 || lines[len(lines)-1].Text != "last" || !strings.Contains(lines[0].Text, "68 MiB of this worker's stdout were skipped unread") {
		t.Errorf("%d lines, %.200s", len(lines), fmt.Sprint(lines))
	}
}

// No holes on this file system: the file is emptied whenever all is read.
func TestWithoutHoles(t *testing.T) {
	r := open(t, Options{})
	o := add(t, r, 1)
	r.do(func() { o.out.whole, o.err.whole = true, true })
	o.Started()
	out, _ := reopen(t, o)
	for i := range 10 {
		say(t, out, strings.Repeat("0123456789abcde\n", giveBackStep/16))
		look(r)
		if n := used(t, o.out.path); n != 0 {
			t.Errorf("%d bytes are held", n)
		}
		say(t, out, fmt.Sprintf("round %d\n", i))
		look(r)
		if got := o.Last(1); got[0] != fmt.Sprintf("round %d", i) {
			t.Errorf("%q", got)
		}
	}
}

func TestTruncatedByItsWriter(t *testing.T) {
	r := open(t, Options{})
	o := add(t, r, 1)
	out, _ := o.FDs()
	say(t, out, "a long line before\n")
	look(r)
	if err := unix.Ftruncate(out, 0); err != nil {
		t.Fatal(err)
	}
	say(t, out, "after\n")
	look(r)
	if got := o.Last(2); !slices.Equal(got, []string{"a long line before", "after"}) {
		t.Errorf("%q", got)
	}
}

// The master is gone: its workers write on, and die of nothing.
func TestWorkersOutliveTheRoom(t *testing.T) {
	dir := t.TempDir()
	r, err := Open(Options{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	o, err := r.Add(Ident{Worker: 9})
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr := o.FDs()
	script := `trap 'echo stopped; exit 0' TERM; i=0; while :; do i=$((i+1)); echo "line $i" || exit 9; done`
	devnull, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer devnull.Close()
	pid, err := syscall.ForkExec("/bin/sh", []string{"sh", "-c", script}, &syscall.ProcAttr{
		Env: []string{"PATH=/bin:/usr/bin"}, Files: []uintptr{devnull.Fd(), uintptr(stdout), uintptr(stderr)}})
	if err != nil {
		t.Fatal(err)
	}
	o.Started()
	eventually(t, "lines come", func() bool { return len(o.Last(5)) == 5 })
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "w9.out")
	size := func() int64 {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		return info.Size()
	}
	then := size()
	eventually(t, "it writes on", func() bool { return size() > then+1000 })
	syscall.Kill(pid, syscall.SIGTERM)
	var ws syscall.WaitStatus
	if _, err := syscall.Wait4(pid, &ws, 0, nil); err != nil || !ws.Exited() || ws.ExitStatus() != 0 {
		t.Errorf("%v, %v", ws, err)
	}
	text, _ := os.ReadFile(path)
	if !bytes.HasSuffix(text, []byte("stopped\n")) {
		t.Errorf("%q", text[max(0, len(text)-20):])
	}
	// What is asked of a closed collector is answered, with nothing.
	if r.Lines(0, 5) != nil || o.Last(1) != nil || r.Dropped(0) != 0 {
		t.Error("a closed collector knows something")
	}
	if _, err := r.Add(Ident{Worker: 10}); err == nil {
		t.Error("a closed collector took a worker")
	}
	for range r.Follow(t.Context(), 1000, 0, 1) {
		t.Error("a closed collector can be followed")
	}
}

func TestFinishedWorkersAreForgotten(t *testing.T) {
	r := open(t, Options{Line: 1 << 20})
	const n = keepFinished + 4
	for i := range uint64(n) {
		o := add(t, r, i+1)
		out, _ := o.FDs()
		say(t, out, fmt.Sprintf("I was %d\n", i+1))
		o.Finish()
	}
	if got := r.Lines(4, 1); len(got) != 0 {
		t.Errorf("%v", got)
	}
	if got := r.Lines(5, 1); len(got) != 1 || got[0].Text != "I was 5" {
		t.Errorf("%v", got)
	}
	if got := len(r.Lines(0, 1000)); got != keepFinished {
		t.Errorf("%d", got)
	}
	// And sooner when they had much to say, but never the newest.
	for i := range uint64(4) {
		o := add(t, r, 100+i)
		out, _ := o.FDs()
		say(t, out, strings.Repeat(strings.Repeat("x", 1000)+"\n", 1000))
		o.Finish()
	}
	if len(r.Lines(103, 2000)) == 0 || len(r.Lines(102, 2000)) == 0 || len(r.Lines(101, 2000)) != 0 {
		t.Error("kept too much or too little")
	}
}

func TestSameWorkerTwice(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "w1.out"), []byte("of an earlier master\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	r := open(t, Options{Dir: dir})
	o := add(t, r, 1)
	if _, err := r.Add(Ident{Worker: 1}); err == nil {
		t.Error("twice")
	}
	look(r)
	if got := o.Last(5); len(got) != 0 {
		t.Errorf("%q", got)
	}
	for _, s := range o.streams() {
		info, err := os.Stat(s.path)
		if err != nil || info.Mode() != 0o600 {
			t.Errorf("%v, %v", info, err)
		}
	}
}

func TestDirectoryThatCannotBeMade(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	os.WriteFile(file, nil, 0o600)
	if _, err := Open(Options{Dir: filepath.Join(file, "out")}); err == nil {
		t.Error("made")
	} else {
		t.Log(err)
	}
}

func TestOwner(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	r := open(t, Options{})
	o, err := r.Add(Ident{Worker: 1, UID: 4321})
	if err != nil {
		t.Fatal(err)
	}
	var st unix.Stat_t
	if err := unix.Stat(o.out.path, &st); err != nil || st.Uid != 4321 {
		t.Errorf("%d, %v", st.Uid, err)
	}
}

func TestFollow(t *testing.T) {
	r := open(t, Options{})
	one, two := add(t, r, 1), add(t, r, 2)
	out1, _ := one.FDs()
	out2, _ := two.FDs()
	say(t, out1, "a\nb\n")
	look(r)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	all := r.Follow(ctx, 1000, 0, 1)
	first := r.Follow(ctx, 1000, 1, 0)
	say(t, out2, "c\n")
	look(r)
	say(t, out1, "d\n")
	look(r)
	for _, want := range []string{"b", "c", "d"} {
		if got := (<-all).Text; got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
	if got := (<-first).Text; got != "d" {
		t.Errorf("%q", got)
	}
	one.Finish()
	if l, open := <-first; open {
		t.Errorf("after the worker's end: %v", l)
	}
	cancel()
	if l, open := <-all; open {
		t.Errorf("after the reader left: %v", l)
	}
	for range r.Follow(t.Context(), 1000, 1, 0) { // of a finished one
		t.Error("more lines")
	}
	if got := <-r.Follow(t.Context(), 1000, 1, 1); got.Text != "d" {
		t.Errorf("%v", got)
	}
}

func TestSlowFollower(t *testing.T) {
	r := open(t, Options{})
	o := add(t, r, 1)
	out, _ := o.FDs()
	lines := r.Follow(t.Context(), 1000, 1, 0)
	say(t, out, strings.Repeat("x\n", followerQueue+100))
	look(r)
	for range followerQueue {
		if l := <-lines; l.Text != "x" {
			t.Fatal(l)
		}
	}
	say(t, out, "y\n")
	look(r)
	if l := <-lines; l.Stream != "masterd" || l.Text != "100 lines are missing here: they were read too slowly" {
		t.Error(l)
	}
	if l := <-lines; l.Text != "y" {
		t.Error(l)
	}
}

// One user cannot take the places of all, and what he leaves is had again.
func TestTooManyFollowers(t *testing.T) {
	r := open(t, Options{})
	wantFull := func(uid uint32, want string) {
		t.Helper()
		lines := r.Follow(t.Context(), uid, 0, 0)
		if l := <-lines; !strings.Contains(l.Text, want) {
			t.Error(l)
		}
		if _, open := <-lines; open {
			t.Error("it is open")
		}
	}
	ctx, leave := context.WithCancel(t.Context())
	first := r.Follow(ctx, 1000, 0, 0)
	for range maxFollowers {
		r.Follow(t.Context(), 1000, 0, 0)
	}
	wantFull(1000, "16 readers of uid 1000 follow this output already")
	for uid := uint32(1001); uid < 1000+maxFollowers/maxPerUser; uid++ {
		for range maxPerUser {
			r.Follow(t.Context(), uid, 0, 0)
		}
	}
	wantFull(0, "64 readers follow this output already")
	leave()
	for range first { // it is closed once its place is free
	}
	o := add(t, r, 1)
	lines := r.Follow(t.Context(), 0, 0, 0)
	out, _ := o.FDs()
	say(t, out, "hello\n")
	if l := <-lines; l.Text != "hello" {
		t.Error(l)
	}
}

func BenchmarkFlood(b *testing.B) {
	r := open(b, Options{PerWorker: 1 << 20})
	o := add(b, r, 1)
	out, _ := o.FDs()
	chunk := strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		say(b, out, chunk)
		look(r)
	}
}

func BenchmarkLines(b *testing.B) {
	r := open(b, Options{})
	o := add(b, r, 1)
	out, _ := o.FDs()
	chunk := strings.Repeat(strings.Repeat("x", 99)+"\n", 10_000)
	b.SetBytes(int64(len(chunk)))
	for b.Loop() {
		say(b, out, chunk)
		look(r)
	}
}

// However a worker's output comes in pieces, the same lines come of it: whole ones, valid
// text, no longer than is allowed.
func FuzzLines(f *testing.F) {
	f.Add([]byte("one\ntwo\r\n\n\xff\xfe\nrest"), []byte{1, 200, 3})
	f.Add([]byte(strings.Repeat("long", 20)+"\n"), []byte{7})
	f.Add([]byte(`{"msg":"history","by":"root"}`+"\n"), []byte{})
	f.Fuzz(func(t *testing.T, text, pieces []byte) {
		const limit = 16
		lines := func(pieces []byte) (all []string) {
			r := &Collector{opt: Options{Clock: time.Now, Emit: func(e Entry, raw []byte) {
				if len(raw) > limit || bytes.ContainsRune(raw, '\n') || !utf8.ValidString(e.Text) {
					t.Errorf("%q, %q", e.Text, raw)
				}
				all = append(all, e.Text)
			}}}
			o := &Output{collector: r, id: Ident{Line: limit, PID: func() int { return 1 }}, out: newStream("stdout"), err: newStream("stderr")}
			for rest := text; len(rest) > 0; {
				n := len(rest)
				if len(pieces) > 0 {
					n, pieces = min(n, 1+int(pieces[0])), pieces[1:]
				}
				r.split(o, o.out, rest[:n])
				rest = rest[n:]
			}
			return all
		}
		whole, cut := lines(nil), lines(pieces)
		if !slices.Equal(whole, cut) || len(whole) != bytes.Count(text, []byte{'\n'}) {
			t.Errorf("%q and %q", whole, cut)
		}
	})
}

// Cut is how many lines of a worker's (0: of all there ever were) were cut
// because they were too long.
func (r *Collector) Cut(worker uint64) (n uint64) {
	r.do(func() {
		if worker == 0 {
			n = r.cut
		} else if o := r.outputs[worker]; o != nil {
			n = o.cut
		}
	})
	return n
}
