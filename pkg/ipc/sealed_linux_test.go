package ipc

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a worker may send instead of sealed memory.
func TestOnlySealedMemoryIsTaken(t *testing.T) {
	memfd := func(size int64, seals int) int {
		t.Helper()
		f, err := NewMemory("test")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { f.Close() })
		if err := f.Truncate(size); err != nil {
			t.Fatal(err)
		}
		fd := int(f.Fd())
		if seals == 0 {
			return fd
		}
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals); err != nil {
			t.Fatal(err)
		}
		return fd
	}
	opened := func(path string, flags int) int {
		t.Helper()
		fd, err := unix.Open(path, flags|unix.O_CLOEXEC|unix.O_NONBLOCK, 0o600)
		if err != nil {
			t.Skipf("%s: %v", path, err)
		}
		t.Cleanup(func() { unix.Close(fd) })
		return fd
	}
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte("12345678"), 0o600); err != nil {
		t.Fatal(err)
	}
	var pipe [2]int
	if err := unix.Pipe2(pipe[:], unix.O_CLOEXEC); err != nil {
		t.Fatal(err)
	}
	socket, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(pipe[0]); unix.Close(pipe[1]); unix.Close(socket) })
	const huge = 1 << 46
	noSealing, err := unix.MemfdCreate("test", unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(noSealing) })
	good := memfd(8, sealed)
	self := "/proc/self/fd/"
	for name, c := range map[string]struct {
		fd   int
		size int64
		says string
	}{
		"as it should be":    {good, 8, ""},
		"empty":              {memfd(0, sealed), 0, ""},
		"sparse and huge":    {memfd(huge, sealed), huge, ""}, // its size is for the room to refuse
		"not sealed":         {memfd(8, 0), 8, "not sealed"},
		"may still grow":     {memfd(8, sealed&^unix.F_SEAL_GROW), 8, "not sealed"},
		"may still shrink":   {memfd(8, sealed&^unix.F_SEAL_SHRINK), 8, "not sealed"},
		"may still change":   {memfd(8, sealed&^unix.F_SEAL_WRITE), 8, "not sealed"},
		"may still be asked": {memfd(8, sealed&^unix.F_SEAL_SEAL), 8, "not sealed"},
		"never sealable":     {noSealing, 0, "not sealed"},
		"longer":             {good, 7, "has 8 bytes"},
		"shorter":            {good, 9, "has 8 bytes"},
		"a file":             {opened(file, unix.O_RDONLY), 8, "not memory"},
		"a file in memory":   {opened("/dev/shm", unix.O_TMPFILE|unix.O_RDWR), 0, "not sealed"},
		"a directory":        {opened(t.TempDir(), unix.O_RDONLY), 0, "not memory"},
		"a path":             {opened(file, unix.O_PATH), 8, "not memory"},
		"a device":           {opened("/dev/zero", unix.O_RDONLY), 0, "not memory"},
		"a pipe":             {pipe[0], 0, "not memory"},
		"a socket":           {socket, 0, "not memory"},
		"nothing":            {-1, 0, "not memory"},
		"write-only":         {opened(self+strconv.Itoa(good), unix.O_WRONLY), 8, "cannot be read"},
		"read-only":          {opened(self+strconv.Itoa(good), unix.O_RDONLY), 8, ""},
	} {
		err := CheckSealed(c.fd, c.size)
		if c.says == "" && err != nil || c.says != "" && (err == nil || !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestSealedIsSealed(t *testing.T) {
	f, err := NewMemory("test")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteString("content"); err != nil {
		t.Fatal(err)
	}
	if err := Seal(f); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("x"), 0); err == nil {
		t.Error("written to")
	}
	if f.Truncate(0) == nil || f.Truncate(100) == nil {
		t.Error("truncated")
	}
	if b, err := unix.Mmap(int(f.Fd()), 0, 7, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err == nil {
		t.Errorf("mapped to be written to: %q", b)
	}
}
