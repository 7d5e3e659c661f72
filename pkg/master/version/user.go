package version

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// User is whom a worker runs as.
type User struct {
	Name     string // for people; may be empty
	UID, GID int
	Groups   []int // supplementary ones
}

// reach tells why the user cannot execute the file at path, which has no
// symbolic links in it. It goes by permission bits: what only an access control
// list allows counts as not allowed. Nil and root may do everything.
func (u *User) reach(path string) error {
	if u == nil || u.UID == 0 {
		return nil
	}
	for at := path; ; at = filepath.Dir(at) {
		info, err := os.Stat(at)
		if err != nil {
			return err
		}
		if !u.mayPass(info) {
			return fmt.Errorf("the worker's user %s (uid %d) may not reach %s: %s has mode %v", u.Name, u.UID, path, at, info.Mode())
		}
		if at == filepath.Dir(at) {
			return nil
		}
	}
}

// mayPass looks at the execute bit of the first class that the user is in, as
// the kernel does: an owner who is denied is not helped by the others' bit.
func (u *User) mayPass(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	bit := fs.FileMode(0o001)
	switch gid := int(st.Gid); {
	case int(st.Uid) == u.UID:
		bit = 0o100
	case gid == u.GID, slices.Contains(u.Groups, gid):
		bit = 0o010
	}
	return info.Mode().Perm()&bit != 0
}
