package version

import (
	"bytes"
	"context"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// elfFile makes a small ELF file that is whole: headers, one segment of all of
// it, a dynamic section with this run path if it is not empty, and some text.
func elfFile(runpath, text string) []byte {
	const ehdr, phdr, shdr = 64, 56, 64
	dynstr := "\x00" + runpath + "\x00"
	names := "\x00.dynstr\x00.dynamic\x00.shstrtab\x00"
	at := uint64(ehdr + phdr)
	strAt := at
	dynAt := strAt + uint64(len(dynstr))
	namesAt := dynAt + 32
	textAt := namesAt + uint64(len(names))
	shAt := textAt + uint64(len(text))
	size := shAt + 4*shdr

	var b bytes.Buffer
	put := func(v any) { _ = binary.Write(&b, binary.LittleEndian, v) }
	put(elf.Header64{
		Ident: [16]byte{0x7f, 'E', 'L', 'F', byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)},
		Type:  uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: uint32(elf.EV_CURRENT),
		Phoff: ehdr, Shoff: shAt, Ehsize: ehdr, Phentsize: phdr, Phnum: 1, Shentsize: shdr, Shnum: 4, Shstrndx: 3,
	})
	put(elf.Prog64{Type: uint32(elf.PT_LOAD), Filesz: size, Memsz: size})
	b.WriteString(dynstr)
	put([4]uint64{uint64(elf.DT_RUNPATH), 1, uint64(elf.DT_NULL), 0})
	b.WriteString(names + text)
	put(elf.Section64{})
	put(elf.Section64{Name: 1, Type: uint32(elf.SHT_STRTAB), Off: strAt, Size: uint64(len(dynstr)), Addralign: 1})
	put(elf.Section64{Name: 9, Type: uint32(elf.SHT_DYNAMIC), Link: 1, Off: dynAt, Size: 32, Entsize: 16, Addralign: 1})
	put(elf.Section64{Name: 18, Type: uint32(elf.SHT_STRTAB), Off: namesAt, Size: uint64(len(names)), Addralign: 1})
	return b.Bytes()
}

// place writes an executable.
func place(t testing.TB, path string, content []byte) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o600), os.Chmod(path, 0o755)); err != nil {
		t.Fatal(err)
	}
}

// clock is a time that goes on by a second whenever it is read.
func clock() func() time.Time {
	now := time.Unix(1e9, 0)
	return func() time.Time {
		now = now.Add(time.Second)
		return now
	}
}

type fixture struct {
	*Store
	t    testing.TB
	root string // holds versions/ and bin/
}

func setup(t testing.TB) *fixture {
	t.Helper()
	root, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, root: root}
	f.open()
	return f
}

// open opens the store, as a next master would.
func (f *fixture) open() {
	f.t.Helper()
	s, err := Open(filepath.Join(f.root, "versions"), Options{Now: clock()})
	if err != nil {
		f.t.Fatal(err)
	}
	s.pinRetry = time.Millisecond
	f.Store = s
}

// program places a small program with this text in it.
func (f *fixture) program(name, text string) Source {
	f.t.Helper()
	path := filepath.Join(f.root, "bin", name)
	place(f.t, path, elfFile("", text))
	return Source{Program: path, Args: []string{path, "--mode=prod"}, Env: map[string]string{"A": "1"}, Dir: f.root}
}

func (f *fixture) pin(src Source) Version {
	f.t.Helper()
	v, err := f.Pin(f.t.Context(), src)
	if err != nil {
		f.t.Fatal(err)
	}
	return v
}

// runs asserts which file would be executed.
func (f *fixture) runs(v Version, want string) {
	f.t.Helper()
	got, err := f.Executable(f.t.Context(), v.ID)
	if err != nil || got != want {
		f.t.Fatalf("would execute %q, %v; want %s", got, err, want)
	}
}

// entries asserts what is in the store's directory, and in each entry.
func (f *fixture) entries(want ...string) {
	f.t.Helper()
	list, err := os.ReadDir(f.dir)
	if err != nil {
		f.t.Fatal(err)
	}
	var got []string
	for _, e := range list {
		got = append(got, e.Name())
		inside, _ := os.ReadDir(filepath.Join(f.dir, e.Name()))
		for _, e := range inside {
			if strings.HasPrefix(e.Name(), ".") {
				f.t.Errorf("left over in an entry: %s", e.Name())
			}
		}
	}
	slices.Sort(want)
	if !slices.Equal(got, want) {
		f.t.Errorf("the store has %v, want %v", got, want)
	}
}

// Digest returns the digest of the file at path, "sha256:" and 64 hex digits.
func Digest(path string) (string, error) {
	f, _, err := openProgram(path, 0)
	if err != nil {
		return "", err
	}
	defer f.Close()
	digest, _, err := hashAll(context.Background(), f)
	if err != nil {
		return "", fmt.Errorf("read %s: %w", path, err)
	}
	return digest, nil
}

// Executable is ExecutableBy for the master's own user.
func (s *Store) Executable(ctx context.Context, id string) (path string, err error) {
	return s.ExecutableBy(ctx, id, nil)
}

// IsReplaced tells whether err, of Executable, says that a program is there
// which is not the one pinned, rather than none at all.
func IsReplaced(err error) bool {
	var differs errDiffers
	return errors.As(err, &differs)
}
