package state

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// shared makes a directory that everybody can write to, as /tmp is.
func shared(t *testing.T, mode fs.FileMode) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "tmp")
	if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, mode)); err != nil {
		t.Fatal(err)
	}
	return dir
}

func mode(t *testing.T, path string) fs.FileMode {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	return info.Mode().Perm()
}

func TestDirsAreMade(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	root := shared(t, 0o777|fs.ModeSticky)
	a, b := filepath.Join(root, "masterd-1", "shop"), filepath.Join(root, "state", "masterd", "shop")
	for range 2 { // the second time they are there
		if err := Dirs(a, b); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{a, b, filepath.Dir(a)} {
		if got := mode(t, dir); got != 0o711 {
			t.Errorf("%s has mode %v", dir, got)
		}
	}
}

func TestDirsAreMended(t *testing.T) {
	for _, test := range []struct{ was, want fs.FileMode }{
		{0o700, 0o711}, {0o777, 0o755}, {0o755, 0o755}, {0o750, 0o751}, {0o711, 0o711},
	} {
		dir := filepath.Join(t.TempDir(), "d")
		if err := errors.Join(os.Mkdir(dir, 0o700), os.Chmod(dir, test.was)); err != nil {
			t.Fatal(err)
		}
		if err := Dirs(dir); err != nil {
			t.Fatal(err)
		}
		if got := mode(t, dir); got != test.want {
			t.Errorf("%v became %v, want %v", test.was, got, test.want)
		}
	}
}

// In a directory that everybody can write to, whoever is first could choose
// where the control sockets are.
func TestDirsRefuseTraps(t *testing.T) {
	elsewhere := t.TempDir()
	for name, test := range map[string]struct {
		mode fs.FileMode // of the shared directory
		trap func(path string) error
		want string
	}{
		"link":        {0o777 | fs.ModeSticky, func(p string) error { return os.Symlink(elsewhere, p) }, "symbolic link"},
		"broken link": {0o777 | fs.ModeSticky, func(p string) error { return os.Symlink("/nonexistent", p) }, "symbolic link"},
		"file":        {0o777 | fs.ModeSticky, func(p string) error { return os.WriteFile(p, nil, 0o600) }, "not a directory"},
		"not sticky":  {0o777, func(p string) error { return os.Mkdir(p, 0o711) }, "sticky"},
		"of another": {0o777 | fs.ModeSticky, func(p string) error {
			if os.Geteuid() != 0 {
				return errors.ErrUnsupported
			}
			return errors.Join(os.Mkdir(p, 0o777), os.Chown(p, 12345, 12345))
		}, "belongs to uid 12345"},
	} {
		t.Run(name, func(t *testing.T) {
			root := shared(t, test.mode)
			trap := filepath.Join(root, "masterd-0")
			if err := test.trap(trap); errors.Is(err, errors.ErrUnsupported) {
				t.Skip("needs root")
			} else if err != nil {
				t.Fatal(err)
			}
			for _, path := range []string{trap, filepath.Join(trap, "shop")} {
				if err := Dirs(path); err == nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), trap) {
					t.Errorf("%s: %v", path, err)
				}
			}
			if left, _ := os.ReadDir(elsewhere); len(left) != 0 {
				t.Errorf("followed: %v", left)
			}
		})
	}
}

// A link in a place of one's own is somebody's wish (/var/lib on a larger disk).
func TestDirsFollowTrustedLinks(t *testing.T) {
	root := t.TempDir()
	real := filepath.Join(root, "disk", "real")
	if err := errors.Join(os.MkdirAll(real, 0o755), os.MkdirAll(filepath.Join(root, "var"), 0o755),
		os.Symlink("../disk/./real", filepath.Join(root, "var", "lib")), os.Symlink(filepath.Join(root, "loop"), filepath.Join(root, "loop"))); err != nil {
		t.Fatal(err)
	}
	if err := Dirs(filepath.Join(root, "var", "lib", "shop")); err != nil {
		t.Fatal(err)
	}
	if got := mode(t, filepath.Join(real, "shop")); got != 0o711 {
		t.Errorf("mode %v", got)
	}
	if err := Dirs(filepath.Join(root, "loop", "shop")); err == nil || !strings.Contains(err.Error(), "too many symbolic links") {
		t.Errorf("a loop: %v", err)
	}
	if err := Dirs("relative"); err == nil {
		t.Error("a relative path was taken")
	}
}

// Whoever owns a directory on the way can put another in the place of the next.
func TestDirsRefuseParentsOfOthers(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root, to make another user's directory")
	}
	up := filepath.Join(t.TempDir(), "up")
	if err := errors.Join(os.Mkdir(up, 0o755), os.Chown(up, 54321, 54321)); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(up, "shop")
	for _, f := range []func(...string) error{TryDirs, Dirs} {
		if err := f(dir); err == nil || !strings.Contains(err.Error(), up+" belongs to uid 54321") {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(dir); err == nil {
		t.Error("it was made")
	}
	if err := TryDirs(filepath.Join(t.TempDir(), "new", "shop")); err != nil {
		t.Error(err)
	}
}
