package config

import (
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
)

// What an account may want of a file, as bits of one digit of a file's mode.
const mayExecute = 1 // of a directory: enter

// account is whom a process runs as.
type account struct {
	name   string // for people
	uid    uint32
	groups []uint32
}

func (a account) String() string { return a.name }

// self is this process.
func self() account {
	a := account{name: "the master's user", uid: uint32(os.Geteuid()), groups: []uint32{uint32(os.Getegid())}}
	if groups, err := os.Getgroups(); err == nil {
		for _, g := range groups {
			a.groups = append(a.groups, uint32(g))
		}
	}
	return a
}

// workerAccount is whom workers run as.
func workerAccount(w Worker) (account, error) {
	if w.User == "" && w.Group == "" {
		a := self()
		a.name = "the worker's user"
		return a, nil
	}
	a := account{name: "the worker's user", uid: uint32(os.Geteuid())}
	if w.User != "" {
		a.name = "the user " + w.User
		u, err := lookupUser(w.User)
		if err != nil && (!isID(w.User) || w.Group == "") {
			return a, err
		}
		if err != nil {
			u = &user.User{Uid: w.User}
		}
		a.uid = number(u.Uid)
		if ids, err := u.GroupIds(); err == nil && u.Gid != "" {
			for _, id := range ids {
				a.groups = append(a.groups, number(id))
			}
		}
	}
	if w.Group != "" {
		g, err := lookupGroup(w.Group)
		switch {
		case err == nil:
			a.groups = append(a.groups, number(g.Gid))
		case isID(w.Group):
			a.groups = append(a.groups, number(w.Group))
		default:
			return a, err
		}
	}
	return a, nil
}

func number(id string) uint32 {
	n, _ := strconv.ParseUint(id, 10, 32)
	return uint32(n)
}

// reach says why the account may not do with a path what is wanted; empty: by
// what permissions tell, it may. Every directory on the way must be entered,
// and on the way that symbolic links make of it. Where an access control list
// may say otherwise, nothing is said.
func (a account) reach(path string, want uint32) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return fileCause(err).Error()
	}
	for _, p := range []string{path, real} {
		for dir := filepath.Dir(p); ; dir = filepath.Dir(dir) {
			if st, err := os.Stat(dir); err == nil && !a.may(st, mayExecute) && !hasACL(dir) {
				return fmt.Sprintf("it may not enter the directory %s (%s)", dir, st.Mode())
			}
			if dir == filepath.Dir(dir) {
				break
			}
		}
	}
	if st, err := os.Stat(real); err == nil && !a.may(st, want) && !hasACL(real) {
		return fmt.Sprintf("its permissions (%s) do not allow it", st.Mode())
	}
	return ""
}

// may compares with the bits of a file's mode that count for the account.
func (a account) may(st fs.FileInfo, want uint32) bool {
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	perm := uint32(st.Mode().Perm())
	switch {
	case a.uid == 0:
		return st.IsDir() || perm&0o111 != 0
	case sys.Uid == a.uid:
		return perm>>6&want == want
	case slices.Contains(a.groups, sys.Gid):
		return perm>>3&want == want
	}
	return perm&want == want
}
