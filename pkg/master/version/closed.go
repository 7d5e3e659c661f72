package version

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
)

// A copy is as hard to read as its original: one that not everybody could read is
// closed. The mode of the file says which it is, so that nothing else has to.

// forAll tells whether every user can read and execute the file at path, which has no
// symbolic links in it.
func forAll(path string, info fs.FileInfo) bool {
	nobody := &User{UID: -1, GID: -1}
	return info.Mode().Perm()&0o004 != 0 && nobody.reach(path) == nil
}

func copyMode(closed bool) fs.FileMode {
	if closed {
		return 0o500
	}
	return 0o555
}

// entryMode is that of the directory around a copy.
func entryMode(closed bool) fs.FileMode {
	if closed {
		return 0o700
	}
	return 0o711
}

func (s *Store) isClosed(r record) bool {
	info, err := os.Lstat(r.pinned(s.dir))
	return err == nil && info.Mode().Perm()&0o004 == 0
}

// admit closes a copy to everybody but the master's user and the group of a worker's
// user. The group may read it, too: a process whose program it cannot read can
// neither open itself nor be looked into by a next master that is not root.
func (s *Store) admit(r record, by *User) error {
	gid, group := os.Getegid(), false
	if by != nil && by.UID != 0 && by.UID != os.Geteuid() {
		gid, group = by.GID, true
	}
	set := func(path string, mode, more fs.FileMode) error {
		if group {
			mode |= more
		}
		info, err := os.Lstat(path)
		if err != nil {
			return err
		}
		// What is as it should be keeps its time of change, by which it need not be read again.
		if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Gid) == gid && info.Mode().Perm() == mode {
			return nil
		}
		if err := os.Lchown(path, -1, gid); err != nil {
			return fmt.Errorf("giving it to the worker's group: %w; give the master CAP_CHOWN, or let everybody read the program", err)
		}
		return os.Chmod(path, mode)
	}
	copied := r.pinned(s.dir)
	if err := set(filepath.Dir(copied), entryMode(true), 0o010); err != nil {
		return err
	}
	return set(copied, copyMode(true), 0o050)
}
