package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/masterd/masterd/pkg/master/trust"
)

func TestIndex(t *testing.T) {
	base := filepath.Join(t.TempDir(), "base")
	shop := Entry{"shop", "/etc/masterd/shop.yaml", t.TempDir()}
	if list := Index(base, trust.Own()); len(list) != 0 {
		t.Fatalf("%v", list)
	}
	for range 2 {
		if err := Enter(base, shop); err != nil {
			t.Fatal(err)
		}
	}
	// One whose directory is gone goes with the next that comes.
	dead := Entry{"dead", "/x", filepath.Join(t.TempDir(), "gone")}
	if err := Enter(base, dead); err != nil {
		t.Fatal(err)
	}
	blog := Entry{"blog", "/etc/masterd/blog.yaml", t.TempDir()}
	if err := Enter(base, blog); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, indexDir)
	junk := errors.Join(os.WriteFile(filepath.Join(dir, "a.json"), []byte("{"), 0o644), os.WriteFile(filepath.Join(dir, "b.json"), []byte(`{"runtime_dir":"x"}`), 0o644),
		os.Symlink("/etc/passwd", filepath.Join(dir, "c.json")), os.Mkdir(filepath.Join(dir, "d.json"), 0o755))
	if junk != nil {
		t.Fatal(junk)
	}
	list := Index(base, trust.Own())
	if len(list) != 2 || !slices.Contains(list, shop) || !slices.Contains(list, blog) {
		t.Errorf("%v", list)
	}
	if os.Geteuid() == 0 { // what a stranger could have written is not read
		if err := os.Chown(dir, 54321, -1); err != nil {
			t.Fatal(err)
		}
		if list := Index(base, trust.Own()); len(list) != 0 {
			t.Errorf("of a stranger: %v", list)
		}
		_ = os.Chown(dir, 0, -1)
	}
	_ = os.Chmod(dir, 0o777)
	if list := Index(base, trust.Own()); len(list) != 0 {
		t.Errorf("everybody can write: %v", list)
	}
	for _, name := range []string{"a", "b", "c", "d"} {
		os.Remove(filepath.Join(dir, name+".json"))
	}
	for _, e := range []Entry{shop, shop, blog} {
		if err := e.Leave(base); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(base); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the index is left: %v", err)
	}
}

// An index is read up to a limit.
func TestIndexIsBounded(t *testing.T) {
	base := t.TempDir()
	if err := os.Mkdir(filepath.Join(base, indexDir), 0o755); err != nil {
		t.Fatal(err)
	}
	for i := range maxEntries + 100 {
		if err := os.WriteFile(filepath.Join(base, indexDir, fmt.Sprintf("%d.json", i)), []byte(`{"runtime_dir":"/x"}`), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(Index(base, trust.Own())); n != maxEntries {
		t.Errorf("%d entries", n)
	}
}
