package version

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

func TestPin(t *testing.T) {
	f := setup(t)
	f.openUp()
	src := f.program("shop", "v1")
	v := f.pin(src)
	content := elfFile("", "v1")
	digest, err := Digest(src.Program)
	if err != nil || v.Digest != digest || v.Size != int64(len(content)) || v.Label != shortDigest(digest) {
		t.Errorf("%+v, digest %s, %v", v, digest, err)
	}
	if v.Mode != ModeCopy || v.Pinned != filepath.Join(f.dir, v.ID, "shop") || v.Resolved != src.Program || v.Why == "" {
		t.Errorf("%+v", v)
	}
	stored, err := os.ReadFile(v.Pinned)
	if err != nil || !bytes.Equal(stored, content) {
		t.Errorf("%d bytes stored, %v", len(stored), err)
	}
	for path, want := range map[string]fs.FileMode{f.dir: 0o711, filepath.Dir(v.Pinned): 0o711, v.Pinned: 0o555, filepath.Join(f.dir, v.ID, "meta.json"): 0o600} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s: %v, %v; want %v", path, info.Mode(), err, want)
		}
	}
	f.entries(v.ID)
	f.runs(v, src.Program)
	f.open()
	if got, ok := f.Get(v.ID); !ok || fmt.Sprint(got) != fmt.Sprint(v) || len(f.Problems()) != 0 {
		t.Errorf("after a restart %+v, want %+v, problems %v", got, v, f.Problems())
	}
}

// What makes a version, and what does not.
func TestIdentity(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	first := f.pin(src)
	other := t.TempDir()
	for name, change := range map[string]func(*Source){
		"argument":  func(s *Source) { s.Args = append([]string{}, s.Program, "--mode=test") },
		"env value": func(s *Source) { s.Env = map[string]string{"A": "2"} },
		"env name":  func(s *Source) { s.Env = map[string]string{"A": "1", "B": ""} },
		"env file":  func(s *Source) { s.EnvFiles = []string{"/etc/shop.env"} },
		"directory": func(s *Source) { s.Dir = other },
		"mode":      func(s *Source) { s.Mode = ModePath },
		"program":   func(s *Source) { place(t, s.Program, elfFile("", "v2")) },
	} {
		changed := src
		change(&changed)
		if v := f.pin(changed); v.ID == first.ID {
			t.Errorf("another %s is the same version", name)
		}
		place(t, src.Program, elfFile("", "v1"))
	}
	same := f.program("elsewhere", "v1")
	same.Args = src.Args
	if v := f.pin(same); v.ID != first.ID || v.Resolved != same.Program {
		t.Errorf("the same content from elsewhere: %+v", v)
	}
	if v := f.pin(src); v.ID != first.ID || v.Created != first.Created || !v.Last.After(first.Last) {
		t.Errorf("pinned again: %+v, was %+v", v, first)
	}
}

// Equal content is stored once, and the second pin writes nothing.
func TestPinAgainWritesNothing(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	v := f.pin(src)
	f.reflink = func(_, _ *os.File) error {
		t.Error("copied again")
		return errors.ErrUnsupported
	}
	before, err := os.Stat(filepath.Dir(v.Pinned))
	if err != nil {
		t.Fatal(err)
	}
	if again := f.pin(src); again.ID != v.ID {
		t.Errorf("%+v", again)
	}
	if after, _ := os.Stat(filepath.Dir(v.Pinned)); !after.ModTime().Equal(before.ModTime()) {
		t.Error("the entry was written to")
	}
	src.Env = map[string]string{"A": "2"}
	second := f.pin(src)
	a, _ := os.Stat(v.Pinned)
	b, err := os.Stat(second.Pinned)
	if err != nil || !os.SameFile(a, b) {
		t.Errorf("another environment took another copy, %v", err)
	}
	if _, err := f.Prune(1, nil); err != nil {
		t.Fatal(err)
	}
	os.Remove(src.Program)
	f.runs(second, second.Pinned)
}

func TestLabels(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	src.Label = "release-1"
	v := f.pin(src)
	if again := f.pin(src); again.ID != v.ID {
		t.Errorf("pinned again under the same label: %+v", again)
	}
	// Another label, or none, is another version of the same program: what v was
	// called it is still called.
	src.Label = "release-1b"
	second := f.pin(src)
	src.Label = ""
	third := f.pin(src)
	if second.ID == v.ID || third.ID == v.ID || third.ID == second.ID || third.Label == "" {
		t.Errorf("%+v\n%+v\n%+v", v, second, third)
	}
	f.open()
	if got, _ := f.Get(v.ID); got.Label != "release-1" {
		t.Errorf("after a restart: %q", got.Label)
	}
	for _, bad := range []string{"a b", "a\nb", "\x1b[31m", "-x", strings.Repeat("x", maxLabel+1), "a\x00"} {
		src.Label = bad
		if _, err := f.Pin(t.Context(), src); err == nil {
			t.Errorf("the label %q was taken", bad)
		}
	}
}

// The test program itself: Go, self-contained, some megabytes.
func TestPinGoProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := setup(t)
	v := f.pin(Source{Program: self, Args: []string{self}, Dir: f.root})
	if v.Mode != ModeCopy {
		t.Errorf("mode %s: %s", v.Mode, v.Why)
	}
	if f.records[v.ID].Build == "" {
		t.Error("no build information was kept")
	}
	if _, err := Digest(v.Pinned); err != nil {
		t.Error(err)
	}
}

func TestSymlinksAreResolvedOnce(t *testing.T) {
	f := setup(t)
	release := func(n, text string) string {
		dir := filepath.Join(f.root, "releases", n)
		place(t, filepath.Join(dir, "shop"), elfFile("", text))
		return dir
	}
	one, two := release("1", "v1"), release("2", "v2")
	current := filepath.Join(f.root, "current")
	if err := os.Symlink(one, current); err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(current, "shop")
	src := Source{Program: program, Args: []string{program}, Dir: current}
	v1 := f.pin(src)
	if err := errors.Join(os.Remove(current), os.Symlink(two, current)); err != nil {
		t.Fatal(err)
	}
	v2 := f.pin(src)
	if v1.Dir != one || v2.Dir != two || v1.Program != program || v1.Resolved != filepath.Join(one, "shop") {
		t.Errorf("%+v\n%+v", v1, v2)
	}
	f.runs(v1, filepath.Join(one, "shop"))
	f.runs(v2, filepath.Join(two, "shop"))
}

// A program that grows while it is read is read again.
func TestHalfWritten(t *testing.T) {
	for _, sooner := range []bool{true, false} {
		t.Run(fmt.Sprintf("ends in time %v", sooner), func(t *testing.T) {
			f := setup(t)
			src := f.program("shop", "v1")
			reads := 0
			f.reflink = func(_, _ *os.File) error {
				if reads++; reads < 4 || !sooner { // somebody writes just now
					file, err := os.OpenFile(src.Program, os.O_WRONLY|os.O_APPEND, 0)
					if err != nil {
						t.Fatal(err)
					}
					fmt.Fprint(file, "more")
					file.Close()
				}
				return errors.ErrUnsupported
			}
			v, err := f.Pin(t.Context(), src)
			if !sooner {
				if err == nil || !strings.Contains(err.Error(), "still writing") || !strings.Contains(err.Error(), src.Program) || reads != pinAttempts {
					t.Errorf("after %d reads: %v", reads, err)
				}
				f.entries()
				return
			}
			want, _ := os.ReadFile(src.Program)
			got, _ := os.ReadFile(v.Pinned)
			if err != nil || !bytes.Equal(got, want) {
				t.Errorf("%v, stored %d of %d bytes", err, len(got), len(want))
			}
			f.entries(v.ID)
		})
	}
}

// Written over by a program of the same size while it is read: what is stored is
// the one or the other.
func TestWrittenOver(t *testing.T) {
	f := setup(t)
	src := f.program("shop", strings.Repeat("1", chunk))
	next := elfFile("", strings.Repeat("2", chunk))
	reads := 0
	f.reflink = func(dst, from *os.File) error { // the first half only, then it changes
		if reads++; reads > 1 {
			return errors.ErrUnsupported
		}
		if _, err := io.CopyN(dst, from, chunk/2); err != nil {
			t.Fatal(err)
		}
		place(t, src.Program, next)
		return errors.ErrUnsupported
	}
	v, err := f.Pin(t.Context(), src)
	got, _ := os.ReadFile(v.Pinned)
	if err != nil || reads != 2 || !bytes.Equal(got, next) {
		t.Errorf("%v, %d reads, stored %d bytes", err, reads, len(got))
	}
	f.runs(v, src.Program)
}

// Cut where a slow copy stands still: its size does not change, but its own
// headers tell.
func TestTruncated(t *testing.T) {
	f := setup(t)
	src := f.program("shop", strings.Repeat("v1", 1000))
	whole, _ := os.ReadFile(src.Program)
	for _, n := range []int{1, 20, 64, 130, 1000, len(whole) - 1} {
		place(t, src.Program, whole[:n])
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		_, err := f.Pin(ctx, src)
		cancel()
		if n < 4 {
			continue // nothing to tell a file of one byte by
		}
		if err == nil || !strings.Contains(err.Error(), "not whole") || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%d of %d bytes: %v", n, len(whole), err)
		}
	}
	place(t, src.Program, whole)
	f.pin(src)
}

func TestUnusableSources(t *testing.T) {
	f := setup(t)
	good := f.program("shop", "v1")
	bin := func(name string) string { return filepath.Join(f.root, "bin", name) }
	place(t, bin("plain"), []byte("x"))
	os.Chmod(bin("plain"), 0o644)
	place(t, bin("empty"), nil)
	place(t, bin("secret"), elfFile("", ""))
	os.Chmod(bin("secret"), 0o111)
	if err := syscall.Mkfifo(bin("pipe"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		change func(*Source)
		want   string
	}{
		"relative":          {func(s *Source) { s.Program = "bin/shop" }, "not absolute"},
		"missing":           {func(s *Source) { s.Program = bin("none") }, "no such file"},
		"directory":         {func(s *Source) { s.Program = f.root }, "not a file but a directory"},
		"pipe":              {func(s *Source) { s.Program = bin("pipe") }, "not a file but a pipe"},
		"device":            {func(s *Source) { s.Program = "/dev/null" }, "not a file but a device"},
		"not executable":    {func(s *Source) { s.Program = bin("plain") }, "chmod +x"},
		"empty":             {func(s *Source) { s.Program = bin("empty") }, "empty"},
		"unreadable":        {func(s *Source) { s.Program = bin("secret") }, "must be able to read"},
		"no arguments":      {func(s *Source) { s.Args = nil }, "argument list"},
		"zero in argument":  {func(s *Source) { s.Args = []string{"a", "b\x00"} }, "argument 1"},
		"not UTF-8":         {func(s *Source) { s.Env = map[string]string{"KEY": "s3cret\xff"} }, "KEY"},
		"no variable":       {func(s *Source) { s.Env = map[string]string{"A=B": ""} }, "A=B"},
		"no directory":      {func(s *Source) { s.Dir = bin("none") }, "working directory"},
		"file as directory": {func(s *Source) { s.Dir = bin("shop") }, "working directory"},
		"unknown mode":      {func(s *Source) { s.Mode = "link" }, `"link"`},
	} {
		if name == "unreadable" && os.Geteuid() == 0 {
			continue // root reads everything
		}
		src := good
		test.change(&src)
		_, err := f.Pin(t.Context(), src)
		if err == nil || !strings.Contains(err.Error(), test.want) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", name, err)
		}
		if _, inspected := Inspect(src); inspected == nil || err == nil || inspected.Error() != err.Error() {
			t.Errorf("%s: Inspect says %v, Pin %v", name, inspected, err)
		}
	}
	f.entries()
}

// Whatever the file system offers, what is stored is what was read.
func TestReflink(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	f.reflink = func(dst, from *os.File) error { // as a file system that can
		_, err := io.Copy(dst, from)
		if err == nil {
			_, err = dst.Seek(0, io.SeekStart)
		}
		return err
	}
	v := f.pin(src)
	got, err := os.ReadFile(v.Pinned)
	if err != nil || !bytes.Equal(got, elfFile("", "v1")) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	os.Remove(src.Program)
	f.runs(v, v.Pinned)
}

func TestCancelled(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	ctx, cancel := context.WithCancel(t.Context())
	f.reflink = func(_, _ *os.File) error { cancel(); return errors.ErrUnsupported }
	if _, err := f.Pin(ctx, src); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	f.entries()
	f.pinning <- struct{}{} // another pin is under way
	if _, err := f.Pin(ctx, src); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	<-f.pinning
}

func TestConcurrentUse(t *testing.T) {
	f := setup(t)
	var sources []Source
	for i := range 4 {
		sources = append(sources, f.program(fmt.Sprint("shop", i), fmt.Sprint("v", i)))
	}
	f.now = time.Now // the fixture's clock is for one goroutine
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			v, err := f.Pin(t.Context(), sources[i%4])
			if err == nil {
				_, err = f.Executable(t.Context(), v.ID)
			}
			if err == nil {
				err = f.Hold(v.ID, i%2 == 0)
			}
			if err == nil {
				_, err = f.Prune(4, map[string]bool{v.ID: true})
			}
			if err != nil {
				t.Error(err)
			}
			f.List()
			_, _ = f.Resolve(v.Label)
		})
	}
	all.Wait()
	if n := len(f.List()); n != 4 {
		t.Errorf("%d versions", n)
	}
}

func TestStoreIsBounded(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	v := f.pin(src)
	for i := range maxVersions - 1 {
		f.records[fmt.Sprint(i)] = f.records[v.ID]
	}
	src.Env = nil
	if _, err := f.Pin(t.Context(), src); err == nil || !strings.Contains(err.Error(), "256 versions") {
		t.Errorf("%v", err)
	}
	f.entries(v.ID)
	src.Env = map[string]string{"A": strings.Repeat("x", maxMeta)}
	if _, err := f.Pin(t.Context(), src); err == nil {
		t.Error("an environment that cannot be read again was written")
	}
}

func BenchmarkPin(b *testing.B) {
	const size = 20 << 20
	content := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for _, known := range []bool{false, true} {
		b.Run(map[bool]string{false: "new", true: "known"}[known], func(b *testing.B) {
			f := setup(b)
			src := f.program("shop", "")
			b.SetBytes(size)
			for i := 0; b.Loop(); i++ {
				if i == 0 || !known {
					b.StopTimer()
					place(b, src.Program, elfFile("", string(content)+fmt.Sprint(i)))
					if _, err := f.Prune(0, nil); err != nil {
						b.Fatal(err)
					}
					if known {
						f.pin(src)
					}
					b.StartTimer()
				}
				f.pin(src)
			}
		})
	}
}
