package atomicfile

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
)

func TestWriteAndRead(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "state.json")
	for _, text := range []string{"one", "a longer second", ""} {
		if err := Write(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
		got, err := Read(path, 100)
		if err != nil || string(got) != text {
			t.Fatalf("read %q, %v; want %q", got, err, text)
		}
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o640 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	only(t, dir, "state.json")
}

func TestModeIgnoresUmask(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	path := filepath.Join(t.TempDir(), "f")
	if err := Write(path, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if info, _ := os.Stat(path); info.Mode().Perm() != 0o644 {
		t.Errorf("mode %v", info.Mode())
	}
}

// A link at the path is replaced; what it points to is neither read nor written.
func TestSymlinks(t *testing.T) {
	dir := t.TempDir()
	victim, path := filepath.Join(dir, "victim"), filepath.Join(dir, "f")
	if err := errors.Join(os.WriteFile(victim, []byte("mine"), 0o600), os.Symlink(victim, path)); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(path, 100); err == nil || !strings.Contains(err.Error(), path+": it is a symbolic link") {
		t.Errorf("read through a link: %v", err)
	}
	if err := Write(path, []byte("new"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got, _ := os.ReadFile(victim); string(got) != "mine" {
		t.Errorf("the link's target now says %q", got)
	}
	if got, err := Read(path, 100); err != nil || string(got) != "new" {
		t.Errorf("%q, %v", got, err)
	}
}

func TestReadRefuses(t *testing.T) {
	dir := t.TempDir()
	if _, err := Read(filepath.Join(dir, "none"), 10); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: %v", err)
	}
	large := filepath.Join(dir, "large")
	if err := os.WriteFile(large, make([]byte, 11), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Read(large, 10); err == nil || !strings.Contains(err.Error(), large) {
		t.Errorf("too large: %v", err)
	}
	if _, err := Read(large, 11); err != nil {
		t.Errorf("just not too large: %v", err)
	}
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{dir, pipe} { // and neither hangs
		if _, err := Read(path, 10); err == nil || !strings.Contains(err.Error(), "not a regular file") {
			t.Errorf("%s: %v", path, err)
		}
	}
}

func TestWriteFailsCleanly(t *testing.T) {
	dir := t.TempDir()
	missing := filepath.Join(dir, "no", "f")
	if err := Write(missing, nil, 0o600); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), missing) {
		t.Errorf("missing directory: %v", err)
	}
	taken := filepath.Join(dir, "taken")
	if err := os.Mkdir(taken, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Write(taken, nil, 0o600); err == nil || !strings.Contains(err.Error(), taken) || strings.Contains(err.Error(), tempMark) {
		t.Errorf("over a directory: %v", err)
	}
	only(t, dir, "taken")
}

// Readers see whole contents only, whatever writers do.
func TestConcurrentWriters(t *testing.T) {
	const writers, rounds, size = 4, 25, 32 << 10
	dir := t.TempDir()
	path := filepath.Join(dir, "f")
	if err := Write(path, bytes.Repeat([]byte("0"), size), 0o600); err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range writers {
		all.Go(func() {
			for range rounds {
				if err := Write(path, bytes.Repeat([]byte(fmt.Sprint(i)), size), 0o600); err != nil {
					t.Error(err)
				}
			}
		})
	}
	for range writers * rounds {
		got, err := Read(path, size)
		if err != nil || len(got) != size || len(bytes.Trim(got, string(got[0]))) != 0 {
			t.Fatalf("a mixed content of %d bytes, %v", len(got), err)
		}
	}
	all.Wait()
	only(t, dir, "f")
}

func TestSweep(t *testing.T) {
	dir := t.TempDir()
	killed, err := create(filepath.Join(dir, "state.json"))
	if err != nil {
		t.Fatal(err)
	}
	killed.Close()
	for _, name := range []string{".hidden", "a.tmp-0123456789abcdef", ".a.tmp-x", "state.json"} {
		if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := Sweep(dir); err != nil {
		t.Fatal(err)
	}
	only(t, dir, ".a.tmp-x", ".hidden", "a.tmp-0123456789abcdef", "state.json")
}

// only asserts what is in a directory.
func only(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s has %v, want %v", dir, got, want)
	}
}
