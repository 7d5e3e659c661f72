package atomicfile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Whatever lies in the places of the two files, what was written is read, by those who
// know nothing of them too.
func TestReservedReplacesWhateverIsThere(t *testing.T) {
	for what, put := range map[string]func(path string) error{
		"nothing":          func(string) error { return nil },
		"a longer file":    func(path string) error { return os.WriteFile(path, []byte(strings.Repeat("old", 1000)), 0o644) },
		"a symbolic link":  func(path string) error { return os.Symlink("/etc/passwd", path) },
		"an empty folder":  func(path string) error { return os.Mkdir(path, 0o755) },
		"a link to itself": func(path string) error { return os.Symlink(path, path) },
	} {
		t.Run(what, func(t *testing.T) {
			for _, where := range []string{"", spareMark} {
				path := filepath.Join(t.TempDir(), "live")
				if err := put(path + where); err != nil {
					t.Fatal(err)
				}
				r := Reserved{Spare: path, Size: 1 << 12, Pad: ' '}
				for _, text := range []string{"first", "2nd", "the third"} {
					if err := r.Replace(path, []byte(text), 0o640); err != nil {
						t.Fatal(err)
					}
					for _, read := range []func(string, int64) ([]byte, error){Read, ReadReserved} {
						if got, err := read(path, 1<<16); err != nil || strings.TrimRight(string(got), " ") != text {
							t.Errorf("%q, %v; want %q", got, err, text)
						}
					}
					if info, err := os.Lstat(path); err != nil || info.Mode() != 0o640 {
						t.Errorf("%v, %v", info, err)
					}
				}
				if err := r.Drop(); err != nil {
					t.Error(err)
				}
			}
		})
	}
}

// While somebody reads the one before, it is not written again.
func TestReservedIsNotWrittenUnderAReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "live")
	r := Reserved{Spare: path, Size: 1 << 12, Pad: ' '}
	write := func(text string) {
		t.Helper()
		if err := r.Replace(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("one")
	write("two")
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := lockShared(f); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"three", "four", "five"} {
		write(text)
		if got, err := ReadReserved(path, 1<<16); err != nil || strings.TrimRight(string(got), " ") != text {
			t.Errorf("%q, %v", got, err)
		}
	}
	var was [3]byte
	if _, err := f.ReadAt(was[:], 0); err != nil || string(was[:]) != "two" {
		t.Errorf("under its reader it has become %q, %v", was, err)
	}
	if err := unlock(f); err != nil {
		t.Error(err)
	}
	write("six")
}
