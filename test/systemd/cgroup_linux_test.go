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
	for _, path := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(path), cgroupPrefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = tryRemoveCgroup(path) // not empty after all: the next run's
		}
	}
}
