package version

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// mount mounts a small tmpfs for one test.
func mount(t *testing.T, flags uintptr, options string) string {
	t.Helper()
	dir := t.TempDir()
	if err := unix.Mount("masterd-test", dir, "tmpfs", flags, options); err != nil {
		t.Skipf("cannot mount a tmpfs here: %v", err)
	}
	t.Cleanup(func() {
		// Detached, because somebody's glance at it (df) makes it busy.
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

func TestFullDisk(t *testing.T) {
	f := setup(t)
	disk := mount(t, 0, "size=1m,mode=0711")
	s, err := Open(filepath.Join(disk, "versions"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.Store = s
	small := f.program("small", "v1")
	v := f.pin(small)
	big := f.program("big", strings.Repeat("x", 2<<20))
	_, err = f.Pin(t.Context(), big)
	if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), big.Program) || !strings.Contains(err.Error(), "make room") {
		t.Fatalf("%v", err)
	}
	f.entries(v.ID)
	f.runs(v, small.Program)

	// Not one byte left: what is pinned can be pinned, run and found again.
	filler, err := os.Create(filepath.Join(disk, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	for refused := 0; refused < 100; { // near its limit, tmpfs may refuse too soon
		if _, err := filler.Write(make([]byte, 4096)); err != nil {
			refused++
		}
	}
	filler.Close()
	if again := f.pin(small); again.ID != v.ID {
		t.Errorf("%+v", again)
	}
	os.Remove(small.Program)
	f.runs(v, v.Pinned)
	if _, err := f.Pin(t.Context(), f.program("other", "v2")); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("%v", err)
	}
	f.entries(v.ID)
	if _, err := f.Prune(0, nil); err != nil {
		t.Errorf("prune on a full disk: %v", err)
	}
	f.entries()
}

func TestNoExec(t *testing.T) {
	f := setup(t)
	disk := mount(t, unix.MS_NOEXEC, "size=1m,mode=0711")
	dir := filepath.Join(disk, "versions")
	if err := Check(filepath.Join(dir, "not", "yet")); err == nil || !strings.Contains(err.Error(), "noexec") {
		t.Errorf("%v", err)
	}
	s, err := Open(dir, Options{})
	if err != nil {
		t.Fatal(err)
	}
	f.Store = s
	src := f.program("shop", "v1")
	if _, err := f.Pin(t.Context(), src); err == nil || !strings.Contains(err.Error(), "noexec") {
		t.Errorf("%v", err)
	}
	f.entries()
	src.Mode = ModePath
	f.runs(f.pin(src), src.Program)
	if err := Check(f.root); err != nil {
		t.Errorf("%v", err)
	}
}

func TestFileCapabilities(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	// VFS_CAP_REVISION_2 with CAP_NET_BIND_SERVICE permitted and effective.
	attr := []byte{1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0}
	if err := unix.Setxattr(src.Program, "security.capability", attr, 0); err != nil {
		t.Skipf("cannot set file capabilities here: %v", err)
	}
	if v := f.pin(src); v.Mode != ModePath || !strings.Contains(v.Why, "file capabilities") {
		t.Errorf("%+v", v)
	}
	src.Mode = ModeCopy
	if _, err := f.Pin(t.Context(), src); err == nil || !strings.Contains(err.Error(), "file capabilities") {
		t.Errorf("%v", err)
	}
}

// A program that somebody has open for writing may be half of one.
func TestOpenForWriting(t *testing.T) {
	f := setup(t)
	src := f.program("shop", "v1")
	writer, err := os.OpenFile(src.Program, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = f.Pin(ctx, src)
	if err == nil || !strings.Contains(err.Error(), "open for writing") {
		t.Errorf("%v", err)
	}
	writer.Close()
	f.pin(src)
}

// The pinned copy is a program: it runs, also the instant after it was stored,
// while other processes are being started.
func TestPinnedCopyRuns(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	f := setup(t)
	content, err := os.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	f.pinRetry = pinRetry // a child may have path open for writing until it runs
	path := filepath.Join(f.root, "bin", "self")
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		for {
			select {
			case <-stop:
				return
			default:
				_ = exec.Command("/bin/true").Run()
			}
		}
	}()
	for i := range 3 {
		place(t, path, append(content, byte(i)))
		v := f.pin(Source{Program: path, Args: []string{path}, Dir: f.root})
		os.Remove(path)
		f.runs(v, v.Pinned)
		if out, err := exec.Command(v.Pinned, "-test.list=^$").CombinedOutput(); err != nil {
			t.Errorf("%v: %s", err, out)
		}
	}
	close(stop)
	<-stopped
}
