package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	dirMode  = 0o711 // workers reach what they are told of, nobody needs a list
	maxLinks = 40    // symbolic links followed in one path, as the kernel
)

// Dirs makes directories that only the master's user can write to, with their
// parents, and checks the ones that are there. Nobody else may be able to swap
// any part of the path: in a directory that everybody can write to (/tmp) the
// next part must be a real directory of the master's own. Symbolic links made
// by root or the master's user elsewhere are followed.
func Dirs(paths ...string) error {
	for _, path := range paths {
		if err := makeDir(path); err != nil {
			return fmt.Errorf("use the directory %s: %w", path, err)
		}
	}
	return nil
}

// makeDir walks down from the root. What was checked cannot be swapped by
// anybody but root and us, so that looking at a name twice is looking at the
// same thing.
func makeDir(path string) error {
	if !filepath.IsAbs(path) {
		return errors.New("the path is not absolute")
	}
	at, rest := "/", strings.Split(path, "/")
	parent, err := os.Lstat(at)
	for links := 0; err == nil && len(rest) > 0; {
		name := rest[0]
		rest = rest[1:]
		if name == "" || name == "." {
			continue
		}
		if name == ".." { // at has no symbolic links in it
			at = filepath.Dir(at)
			parent, err = os.Lstat(at)
			continue
		}
		next := filepath.Join(at, name)
		info, err := lookOrMake(next)
		if err != nil {
			return err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			if err := step(next, parent, info); err != nil {
				return err
			}
			at, parent = next, info
			continue
		}
		if links++; links > maxLinks {
			return fmt.Errorf("%s: too many symbolic links", next)
		}
		target, err := follow(next, parent, info)
		if err != nil {
			return err
		}
		if filepath.IsAbs(target) {
			at = "/"
			if parent, err = os.Lstat(at); err != nil {
				return err
			}
		}
		rest = append(strings.Split(target, "/"), rest...)
	}
	if err != nil {
		return err
	}
	return usable(at, parent)
}

// lookOrMake makes one directory if there is nothing of its name.
func lookOrMake(path string) (fs.FileInfo, error) {
	info, err := os.Lstat(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return info, err
	}
	err = os.Mkdir(path, dirMode)
	if err == nil {
		err = os.Chmod(path, dirMode) // the umask may have taken bits away
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	return os.Lstat(path)
}

// follow returns what a symbolic link says. In a directory that everybody can
// write to it is a trap.
func follow(path string, parent, info fs.FileInfo) (string, error) {
	if open(parent) || !trusted(info) {
		return "", fmt.Errorf("%s is a symbolic link that others could have put there: it is not followed; remove it, or set another directory", path)
	}
	return os.Readlink(path)
}

// step checks one directory on the way.
func step(path string, parent, info fs.FileInfo) error {
	switch {
	case !info.IsDir():
		return fmt.Errorf("%s is there and is not a directory", path)
	case open(parent) && parent.Mode()&fs.ModeSticky == 0:
		return fmt.Errorf("everybody can rename what is in %s (mode %v without the sticky bit); use another directory, or chmod o-w it", filepath.Dir(path), parent.Mode().Perm())
	case open(parent) && !trusted(info):
		return foreign(path, info)
	}
	return nil
}

func foreign(path string, info fs.FileInfo) error {
	return fmt.Errorf("%s belongs to uid %d, neither to root nor to the master's user (uid %d): it is not used; remove it, or set another directory", path, owner(info), os.Geteuid())
}

// usable gives the last directory the mode it needs, and no more than that is
// changed about one that was there: others may pass through, nobody else writes.
func usable(path string, info fs.FileInfo) error {
	if !trusted(info) {
		return foreign(path, info)
	}
	if owner(info) != os.Geteuid() && os.Geteuid() != 0 { // root's
		if open(info) {
			return fmt.Errorf("everybody can write to %s (mode %v); use another directory", path, info.Mode().Perm())
		}
		const writeAndPass = 2 | 1
		if err := syscall.Access(path, writeAndPass); err != nil {
			return fmt.Errorf("it belongs to root and uid %d may not write to it: %w", os.Geteuid(), err)
		}
		return nil
	}
	want := (info.Mode().Perm() | dirMode) &^ 0o022
	if info.Mode().Perm() == want {
		return nil
	}
	return os.Chmod(path, want)
}

// open tells whether everybody can put something into a directory.
func open(info fs.FileInfo) bool { return info.Mode().Perm()&0o002 != 0 }

// trusted tells whether something belongs to root or to us.
func trusted(info fs.FileInfo) bool {
	uid := owner(info)
	return uid == 0 || uid == os.Geteuid()
}

func owner(info fs.FileInfo) int {
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return os.Geteuid()
}
