package logs

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// The first master of a test is this binary.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "as-master" {
		firstMaster(os.Args[2])
	}
	os.Exit(m.Run())
}

// firstMaster reads a worker's output, says each line that it has passed on,
// and starts a worker that counts, until it is killed.
func firstMaster(dir string) {
	r, err := Open(Options{Dir: dir, Emit: func(e Entry, _ []byte) { os.Stdout.WriteString(e.Text + "\n") }})
	if err != nil {
		panic(err)
	}
	o, err := r.Add(Ident{Worker: 1})
	if err != nil {
		panic(err)
	}
	out, errs := o.FDs()
	c := exec.Command("/bin/sh", "-c", "i=0; while [ $i -lt 20000 ]; do i=$((i+1)); echo line $i; done; printf 'no end'; sleep 0.2; echo; exec sleep 1000")
	c.Stdout, c.Stderr = os.NewFile(uintptr(out), "out"), os.NewFile(uintptr(errs), "err")
	if err := c.Start(); err != nil {
		panic(err)
	}
	fmt.Println("worker", c.Process.Pid)
	select {}
}

// A master is killed while its worker writes: the next reads on at the very
// line. Only what was under way at that moment may come twice.
func TestOutputIsReadOnAfterAKill(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, after := range []int{1, 500, 5000, 19990} {
		dir := t.TempDir()
		c := exec.Command(self, "as-master", dir)
		out, err := c.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Start(); err != nil {
			t.Fatal(err)
		}
		var lines []string
		worker := 0
		for s := bufio.NewScanner(out); s.Scan(); {
			if n, _ := fmt.Sscanf(s.Text(), "worker %d", &worker); n == 0 {
				lines = append(lines, s.Text())
			}
			if len(lines) >= after && worker != 0 { // the worker may be quicker than who says its number
				c.Process.Kill()
			}
		}
		c.Wait()
		passed := len(lines)
		s := &sink{}
		r := open(t, Options{Dir: dir, Emit: s.emit})
		o, err := r.Adopt(Ident{Worker: 1})
		if err != nil {
			t.Fatal(err)
		}
		// It may have been killed after all that there was, which is not read again then.
		ended := slices.Contains(lines, "no end")
		eventually(t, "the last line is read", func() bool { return ended || slices.Contains(s.texts(), "no end") })
		unix.Kill(worker, unix.SIGKILL)
		o.Finish()
		rest := s.texts()
		if ended && len(rest) == 0 {
			continue
		}
		first, err := strconv.Atoi(strings.TrimPrefix(rest[0], "line "))
		if rest[0] == "no end" {
			first, err = 20001, nil
		}
		if err != nil || first > passed+1 {
			t.Fatalf("%d lines were passed on, the next master begins with %q", passed, rest[0])
		}
		if twice := passed + 1 - first; twice > 7000 { // one read of 64 KiB
			t.Errorf("%d lines came twice", twice)
		}
		for i, line := range rest {
			if n := first + i; line != fmt.Sprint("line ", n) && n <= 20000 || n > 20000 && line != "no end" {
				t.Fatalf("%q in the place of line %d", line, n)
			}
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("left over: %v", left)
		}
	}
}

// A collector that ends in order loses nothing and says nothing twice, partial lines
// included; without the note of the place the first data is begun with.
func TestAdoptReadsOn(t *testing.T) {
	dir := t.TempDir()
	s := &sink{}
	r := open(t, Options{Dir: dir, Emit: s.emit})
	o := add(t, r, 1)
	out, errs := o.FDs()
	mine, err := unix.Dup(out)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(mine)
	say(t, out, strings.Repeat("0123456789abcde\n", 1<<16)) // 1 MiB, of which most is given back
	say(t, out, "half a li")
	say(t, errs, "an error\n")
	o.Started()
	look(r)
	stdout, stderr := o.Offset()
	if stdout != 1<<20 || stderr != int64(len("an error\n")) {
		t.Errorf("offsets %d, %d", stdout, stderr)
	}
	r.Close()
	say(t, mine, "ne\nnext\n")

	s2 := &sink{}
	r = open(t, Options{Dir: dir, Emit: s2.emit})
	if _, err := r.Adopt(Ident{Worker: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.Adopt(Ident{Worker: 1}); err == nil {
		t.Error("adopted twice")
	}
	look(r)
	if got := s2.texts(); !slices.Equal(got, []string{"half a line", "next"}) {
		t.Fatalf("%.200q", got)
	}
	r.Close()

	if err := os.WriteFile(filepath.Join(dir, "w1.pos"), []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	s3 := &sink{}
	r = open(t, Options{Dir: dir, Emit: s3.emit})
	if o, err = r.Adopt(Ident{Worker: 1}); err != nil {
		t.Fatal(err)
	}
	look(r)
	got := s3.texts()
	if n := len(got); n < 3 || n > (giveBackStep+2*pageSize)/16 || !slices.Contains(got, "half a line") || !slices.Contains(got, "an error") || strings.ContainsRune(strings.Join(got, ""), 0) {
		t.Fatalf("%d lines, %.200q", len(got), got)
	}
	if err := os.WriteFile(filepath.Join(dir, "w9.out"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "other"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := r.Sweep(); err != nil {
		t.Error(err)
	}
	o.Finish()
	if left, _ := os.ReadDir(dir); len(left) != 1 || left[0].Name() != "other" {
		t.Errorf("left over: %v", left)
	}
}

// Too much that nobody read is skipped, and said; so is what is no file.
func TestAdoptSkipsAndSaysSo(t *testing.T) {
	dir := t.TempDir()
	for name, size := range map[string]int64{"w1.out": 100 << 20, "w1.err": 3} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
		f, _ := os.OpenFile(filepath.Join(dir, name), os.O_WRONLY, 0)
		f.WriteString("xx\n")
		if size > 3 {
			f.WriteAt([]byte("\nlast\n"), size)
		}
		f.Close()
	}
	if err := unix.Mkfifo(filepath.Join(dir, "w2.out"), 0o600); err != nil {
		t.Fatal(err)
	}
	s := &sink{}
	r := open(t, Options{Dir: dir, Emit: s.emit})
	for worker := range uint64(2) {
		if _, err := r.Adopt(Ident{Worker: worker + 1}); err != nil {
			t.Fatal(err)
		}
	}
	look(r)
	text := strings.Join(s.texts(), "\n")
	for _, want := range []string{"skipped unread: it was written while there was no master", "\nlast", "is no file", "no such file"} {
		if !strings.Contains(text, want) {
			t.Errorf("nobody says %q", want)
		}
	}
}

// The places survive whatever is written into their file.
func FuzzPlace(f *testing.F) {
	f.Add([]byte{})
	f.Add([]byte("0123456789abcdef"))
	var n atomic.Int64
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(dir, fmt.Sprint(n.Add(1)))
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		defer os.Remove(path)
		p := openPlace(path, false)
		for _, at := range p.read() {
			if at < 0 {
				t.Error(at)
			}
			file := filepath.Join(dir, "file"+filepath.Base(path))
			os.WriteFile(file, []byte("text"), 0o600)
			s := newStream("stdout")
			s.path = file
			if err := s.reopen(at); err != nil || s.pos < 0 || s.pos > 4 || s.given > s.pos {
				t.Errorf("%d: %+v, %v", at, s, err)
			}
			s.remove()
		}
		p.file.Close()
	})
}

// What workers write while no master is there is bounded, and the next master
// says what is lost of it and reads the end.
func TestOutputIsBoundedWithoutAMaster(t *testing.T) {
	dir := t.TempDir()
	first, err := Open(Options{Dir: dir, Emit: func(Entry, []byte) {}})
	if err != nil {
		t.Fatal(err)
	}
	o, err := first.Add(Ident{Worker: 7})
	if err != nil {
		t.Fatal(err)
	}
	fd, _ := o.FDs()
	out, err := unix.Dup(fd)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(out), "out")
	defer f.Close()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		for i := range 3 * aloneLimit / (16 << 10) {
			if _, err := fmt.Fprintf(f, "%016383d\n", i); err != nil {
				t.Fatal(err)
			}
		}
		Bound(dir)
	}
	fmt.Fprintln(f, "the end")
	var st unix.Stat_t
	if err := unix.Fstat(out, &st); err != nil {
		t.Fatal(err)
	}
	if got := st.Blocks * 512; got > backlogKeep+1<<16 {
		t.Fatalf("%d bytes are kept", got)
	}

	var lines atomic.Int64
	end := make(chan struct{})
	dropped := make(chan string, 4)
	next, err := Open(Options{Dir: dir, Emit: func(e Entry, _ []byte) {
		lines.Add(1)
		switch {
		case e.Text == "the end":
			close(end)
		case strings.Contains(e.Text, "dropped"):
			dropped <- e.Text
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	if _, err := next.Adopt(Ident{Worker: 7}); err != nil {
		t.Fatal(err)
	}
	<-end
	t.Logf("%d lines; %s", lines.Load(), <-dropped)
}

// Offset is how far its lines were passed on, in bytes of what the worker has
// ever written.
func (o *Output) Offset() (stdout, stderr int64) {
	o.collector.do(func() { stdout, stderr = o.out.resumeAt(), o.err.resumeAt() })
	return stdout, stderr
}
