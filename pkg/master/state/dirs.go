package state

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"

	"github.com/masterd/masterd/pkg/master/trust"
)

const dirMode = 0o711 // workers reach what they are told of, nobody needs a list

// Dirs makes directories that only the master's user can write to, with their
// parents, and checks the ones that are there. Nobody else may be able to swap
// any part of the path: see [trust.Owners].
func Dirs(paths ...string) error {
	for _, path := range paths {
		if err := makeDir(path); err != nil {
			return fmt.Errorf("use the directory %s: %w", path, err)
		}
	}
	return nil
}

// TryDirs finds out what [Dirs] would refuse, and makes nothing.
func TryDirs(paths ...string) error {
	for _, path := range paths {
		info, err := trust.Own().Check(path)
		if err == nil && !trust.Own().Has(trust.Owner(info)) {
			err = trust.Own().Stranger(path, info)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("use the directory %s: %w", path, err)
		}
	}
	return nil
}

func makeDir(path string) error {
	real, info, err := trust.Own().Make(path)
	if err != nil {
		return err
	}
	return usable(real, info)
}

// usable gives the last directory the mode it needs, and no more than that is
// changed about one that was there: others may pass through, nobody else writes.
func usable(path string, info fs.FileInfo) error {
	if !trust.Own().Has(trust.Owner(info)) {
		return trust.Own().Stranger(path, info)
	}
	if trust.Owner(info) != os.Geteuid() && os.Geteuid() != 0 { // root's
		if info.Mode().Perm()&0o002 != 0 {
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
