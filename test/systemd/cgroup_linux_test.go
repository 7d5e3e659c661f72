package systemd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

var boxes atomic.Int64 // booted by this process

// cgroupMount is where the host has cgroup v2: on a hybrid one not at the top.
func cgroupMount() (string, error) {
	b, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 2 && f[2] == "cgroup2" {
			return f[1], nil
		}
	}
	return "", errors.New("cgroup v2 is not mounted")
}

func makeCgroup() (string, error) {
	mount, err := cgroupMount()
	if err != nil {
		return "", err
	}
	path := filepath.Join(mount, fmt.Sprintf("%s%d-%d", cgroupPrefix, os.Getpid(), boxes.Add(1)))
	return path, os.Mkdir(path, 0o755)
}

// v1Controllers are those of version 1 that a box may have, and the hierarchy of systemd's own.
var v1Controllers = []string{"pids", "memory", "name=systemd"}

// hasControllers tells whether a box has what limits of tasks and memory need by version 2.
func (b *box) hasControllers() bool {
	text, err := os.ReadFile(filepath.Join(b.cgroup, "cgroup.controllers"))
	names := strings.Fields(string(text))
	return err == nil && slices.Contains(names, "pids") && slices.Contains(names, "memory")
}

// v1Dirs are the cgroups of version 1 of a name, below those that this process is in.
func v1Dirs(name string) (dirs []string) {
	own, _ := os.ReadFile("/proc/self/cgroup")
	mounts, _ := os.ReadFile("/proc/self/mounts")
	for _, c := range v1Controllers {
		for line := range strings.Lines(string(own)) {
			_, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
			names, path, _ := strings.Cut(rest, ":")
			if name == "" || !slices.Contains(strings.Split(names, ","), c) {
				continue
			}
			for line := range strings.Lines(string(mounts)) {
				if f := strings.Fields(line); len(f) > 3 && f[2] == "cgroup" && slices.Contains(strings.Split(f[3], ","), c) {
					dirs = append(dirs, filepath.Join(f[1], path, name))
					break
				}
			}
		}
	}
	return dirs
}

func makeV1(name string) error {
	dirs := v1Dirs(name)
	if len(dirs) != len(v1Controllers) {
		return fmt.Errorf("of %q only %q are of version 1, and none of version 2", v1Controllers, dirs)
	}
	for _, dir := range dirs {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// enterV1 has this process be in them.
func enterV1(name string) error {
	for _, dir := range v1Dirs(name) {
		if err := os.WriteFile(filepath.Join(dir, "cgroup.procs"), []byte("0"), 0); err != nil {
			return err
		}
	}
	return nil
}

// removeCgroup removes a cgroup and those in it, once the last process is gone.
func removeCgroup(path string) error {
	late := time.Now().Add(goneTimeout)
	for {
		err := tryRemoveCgroup(path)
		if err == nil || errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if !errors.Is(err, syscall.EBUSY) || time.Now().After(late) {
			return err
		}
		time.Sleep(poll)
	}
}

func tryRemoveCgroup(path string) error {
	var dirs []string
	if err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, p)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, dir := range slices.Backward(dirs) {
		if err := syscall.Rmdir(dir); err != nil {
			return fmt.Errorf("rmdir %s: %w", dir, err)
		}
	}
	return nil
}

// sweepCgroups removes what runs that were killed have left. A box dies with
// its test, so these are empty.
func sweepCgroups() {
	mount, err := cgroupMount()
	if err != nil {
		return
	}
	left, _ := filepath.Glob(filepath.Join(mount, cgroupPrefix+"*"))
	for _, pattern := range v1Dirs(cgroupPrefix + "*") {
		v1, _ := filepath.Glob(pattern)
		left = append(left, v1...)
	}
	for _, path := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), cgroupPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = tryRemoveCgroup(path) // not empty after all: the next run's
		}
	}
}
