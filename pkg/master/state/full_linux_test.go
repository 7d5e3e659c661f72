package state

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// fill fills the file system of dir to its last page, until the test ends.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	page := bytes.Repeat([]byte{'x'}, 4096)
	for err == nil {
		_, err = f.Write(page)
	}
	for off := int64(0); unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 1<<40+off, 4096) == nil; off += 4096 {
	}
}

func liveOf(workers int) []byte {
	l := Live{Boot: "boot"}
	for i := range workers {
		l.Workers = append(l.Workers, LiveWorker{ID: uint64(i), Begun: strings.Repeat("1", 20), Secret: strings.Repeat("0", 64)})
	}
	text, _ := l.Encode()
	return text
}

// Whoever fills the runtime directory's file system keeps no master from writing down
// what the next one needs, however often, and whether it grows or not.
func TestLiveIsKeptOnAFullFileSystem(t *testing.T) {
	dir := t.TempDir()
	if err := unix.Mount("state-test", dir, "tmpfs", 0, "size=2m"); err != nil {
		t.Skipf("needs root: %v", err)
	}
	t.Cleanup(func() { unix.Unmount(dir, unix.MNT_DETACH) })
	first := []byte("service: shop\n")
	if err := KeepConfig(dir, Digest(first), first); err != nil {
		t.Fatal(err)
	}
	if err := KeepLive(dir, liveOf(1)); err != nil {
		t.Fatal(err)
	}
	fill(t, dir)
	for i := range 100 {
		workers := []int{1, 100, 3, 200, 50}[i%5]
		if err := KeepLive(dir, liveOf(workers)); err != nil {
			t.Fatalf("the %dth time, %d workers: %v", i, workers, err)
		}
		if l, err := LoadLive(dir, "boot"); err != nil || len(l.Workers) != workers {
			t.Fatalf("the %dth time: %+v, %v", i, l, err)
		}
	}
	// A reload of that moment has its configuration kept, too.
	next := []byte("service: shop\nenvironment: next\n")
	if err := KeepConfig(dir, Digest(next), next); err != nil {
		t.Fatal(err)
	}
	if got, err := LoadConfig(dir, Digest(next)); err != nil || !bytes.Equal(got, next) {
		t.Errorf("%q, %v", got, err)
	}
	if err := DropLive(dir); err != nil {
		t.Fatal(err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "*")); len(left) != 1 {
		t.Errorf("%v are left", left)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("%v are left", left)
	}
}

// Whoever reads while it is written gets one content, never a part of another.
func TestLiveIsReadWholeWhileItIsWritten(t *testing.T) {
	dir := t.TempDir()
	if err := KeepLive(dir, liveOf(1)); err != nil {
		t.Fatal(err)
	}
	stop, failed := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(failed)
		for {
			select {
			case <-stop:
				return
			default:
			}
			l, err := LoadLive(dir, "boot")
			if err == nil && (l == nil || len(l.Workers) != 1 && len(l.Workers) != 100) {
				err = fmt.Errorf("%+v", l)
			}
			if err != nil {
				failed <- err
				return
			}
		}
	}()
	for i := range 200 {
		text := liveOf([]int{1, 100}[i%2])
		if !json.Valid(text) {
			t.Fatal("no JSON")
		}
		if err := KeepLive(dir, text); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-failed; err != nil {
		t.Error(err)
	}
}
