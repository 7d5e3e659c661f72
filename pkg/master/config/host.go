package config

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// Host is what a configuration depends on besides its file: everything that
// [Parse] asks of the machine, so that tests need no real one. A nil function
// answers that all is well.
type Host struct {
	Root    bool   // the master runs as root
	UID     int    // as which user it runs
	Home    string // its home directory; empty: none
	Runtime string // $XDG_RUNTIME_DIR; empty: none
	State   string // $XDG_STATE_HOME; empty: none
	Temp    string // the directory for temporary files

	User    func(name string) error           // nil: there is such a user, by name or number
	Group   func(name string) error           // nil: there is such a group, by name or number
	Program func(name string) (string, error) // the absolute path of a bare name in the master's PATH
	InUse   func(dir string) bool             // a service of this user's has it as its runtime directory

	Makeable func(dir string) bool // the directory is there, or this user can make it, and may write to it
}

// SystemHost is the machine the process runs on. env is the process's
// environment, as from os.Environ.
func SystemHost(env []string) Host {
	vars := environ(env)
	h := Host{
		Root: os.Geteuid() == 0, UID: os.Geteuid(),
		Home: vars["HOME"], Runtime: vars["XDG_RUNTIME_DIR"], State: vars["XDG_STATE_HOME"], Temp: vars["TMPDIR"],
		User:    func(name string) error { _, err := lookupUser(name); return err },
		Group:   func(name string) error { _, err := lookupGroup(name); return err },
		Program: func(name string) (string, error) { return findProgram(name, vars["PATH"]) },
		InUse:   func(dir string) bool { return inUse(dir, os.Geteuid()) },

		Makeable: makeable,
	}
	// The XDG specification: relative paths are invalid and to be ignored.
	if !filepath.IsAbs(h.Runtime) {
		h.Runtime = ""
	}
	if !filepath.IsAbs(h.State) {
		h.State = ""
	}
	if !filepath.IsAbs(h.Temp) {
		h.Temp = "/tmp"
	}
	return h
}

// RuntimeBase is the directory that holds the runtime directories of the user's
// services where runtime_dir is not set: the best one that can be made. A user of
// a service often has a home directory that is not there, or is not his.
func (h Host) RuntimeBase() string {
	bases := h.RuntimeBases()
	for _, base := range bases {
		if h.Makeable == nil || h.Makeable(base) {
			return base
		}
	}
	return bases[len(bases)-1]
}

// RuntimeBases are all that it can be, or was with an earlier masterd or in
// another environment, the best one first. What lies in a directory for temporary
// files is removed by whoever tidies it up, so that is the last one.
func (h Host) RuntimeBases() (bases []string) {
	if h.Root {
		return []string{"/run/masterd"}
	}
	own := "masterd-" + strconv.Itoa(h.UID)
	if h.Runtime != "" {
		bases = append(bases, filepath.Join(h.Runtime, own))
	}
	// No service can have this name. Paths of sockets are short.
	if state := h.StateBase(); state != "" && len(state)+len("/.run/")+maxService <= MaxRuntimeDir {
		bases = append(bases, filepath.Join(state, ".run"))
	}
	return append(bases, filepath.Join(h.Temp, own))
}

// runtimeDir is where a service's runtime directory is by default: where it is
// in use, or else in the best place.
func (h Host) runtimeDir(service string) string {
	for _, base := range h.RuntimeBases() {
		if dir := filepath.Join(base, service); h.InUse != nil && service != "" && h.InUse(dir) {
			return dir
		}
	}
	return filepath.Join(h.RuntimeBase(), service)
}

// makeable asks the nearest directory above that is there.
func makeable(dir string) bool {
	info, err := os.Stat(dir)
	for errors.Is(err, fs.ErrNotExist) && dir != filepath.Dir(dir) {
		dir = filepath.Dir(dir)
		info, err = os.Stat(dir)
	}
	return err == nil && info.IsDir() && unix.Access(dir, unix.W_OK|unix.X_OK) == nil
}

// inUse tells whether a master runs in a directory, or has left something there
// for the next one. What another user could have put there does not count.
func inUse(dir string, uid int) bool {
	for _, d := range []string{filepath.Dir(dir), dir} {
		if info, err := os.Lstat(d); err != nil || !info.IsDir() || info.Mode().Perm()&0o022 != 0 || !ownedBy(info, uid) {
			return false
		}
	}
	for _, name := range []string{"live.json", "admin.sock"} {
		if _, err := os.Lstat(filepath.Join(dir, name)); err == nil {
			return true
		}
	}
	return false
}

func ownedBy(info fs.FileInfo, uid int) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && int(st.Uid) == uid
}

// StateBase is the directory that holds the state directories of all of the
// user's services, where state_dir is not set; empty when there is no home
// directory to derive it from.
func (h Host) StateBase() string {
	switch {
	case h.Root:
		return "/var/lib/masterd"
	case h.State != "":
		return filepath.Join(h.State, "masterd")
	case filepath.IsAbs(h.Home):
		return filepath.Join(h.Home, ".local", "state", "masterd")
	}
	return ""
}

func (h Host) user(name string) error {
	if h.User == nil {
		return nil
	}
	return h.User(name)
}

func (h Host) group(name string) error {
	if h.Group == nil {
		return nil
	}
	return h.Group(name)
}

func (h Host) program(name string) (string, error) {
	if h.Program == nil {
		return "/usr/bin/" + name, nil
	}
	return h.Program(name)
}

// environ is a list of NAME=VALUE as a map; the last of two wins.
func environ(env []string) map[string]string {
	vars := make(map[string]string, len(env))
	for _, e := range env {
		if name, value, ok := strings.Cut(e, "="); ok {
			vars[name] = value
		}
	}
	return vars
}

// lookupUser finds a user by name or number.
func lookupUser(name string) (*user.User, error) {
	u, err := user.Lookup(name)
	var unknown user.UnknownUserError
	if errors.As(err, &unknown) {
		if _, bad := strconv.ParseUint(name, 10, 32); bad == nil {
			u, err = user.LookupId(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("there is no user %q", name)
	}
	return u, nil
}

// lookupGroup finds a group by name or number.
func lookupGroup(name string) (*user.Group, error) {
	g, err := user.LookupGroup(name)
	var unknown user.UnknownGroupError
	if errors.As(err, &unknown) {
		if _, bad := strconv.ParseUint(name, 10, 32); bad == nil {
			g, err = user.LookupGroupId(name)
		}
	}
	if err != nil {
		return nil, fmt.Errorf("there is no group %q", name)
	}
	return g, nil
}

// findProgram looks a bare name up in a PATH. Directories that are not absolute
// are passed over: what they mean depends on where the master was started.
func findProgram(name, path string) (string, error) {
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue
		}
		file := filepath.Join(dir, name)
		st, err := os.Stat(file)
		if err == nil && st.Mode().IsRegular() && st.Mode()&0o111 != 0 {
			return file, nil
		}
	}
	return "", fmt.Errorf("%q is not in PATH (%s): %w", name, path, fs.ErrNotExist)
}
