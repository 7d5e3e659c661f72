package contain

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	procsFile = "cgroup.procs"
	killFile  = "cgroup.kill" // Linux 5.14
	prefix    = "worker-"
)

// serviceGroup makes a cgroup below the one that this process is in, or says why
// workers cannot be put there.
func serviceGroup(name string) (dir string, err error) {
	own, err := ownGroup()
	if err != nil {
		return "", err
	}
	dir = filepath.Join(own, name)
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return "", err
	}
	// To move a process the kernel wants leave for both ends and for what is above
	// both of them.
	for _, d := range []string{own, dir} {
		f, err := os.OpenFile(filepath.Join(d, procsFile), os.O_WRONLY, 0)
		if err != nil {
			_ = os.Remove(dir)
			return "", err
		}
		_ = f.Close()
	}
	// In a threaded cgroup only threads can be placed.
	if kind, err := os.ReadFile(filepath.Join(dir, "cgroup.type")); err != nil || strings.TrimSpace(string(kind)) != "domain" {
		_ = os.Remove(dir)
		return "", fmt.Errorf("%s is of type %q: processes cannot be placed in it", dir, strings.TrimSpace(string(kind)))
	}
	return dir, nil
}

// ownGroup is the directory of the cgroup v2 that this process is in.
func ownGroup() (string, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	path := ""
	for line := range strings.Lines(string(text)) {
		if p, ok := strings.CutPrefix(line, "0::"); ok {
			path = strings.TrimSuffix(p, "\n")
		}
	}
	if path == "" {
		return "", errors.New("this process is in no cgroup of version 2")
	}
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer mounts.Close()
	return mountedAt(mounts, path)
}

// mountedAt finds the directory of a cgroup in the text of /proc/self/mountinfo.
func mountedAt(mounts io.Reader, path string) (string, error) {
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		// 36 35 0:30 /root /mount/point options optional... - type source options
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if !ok || len(fields) < 5 || !strings.HasPrefix(after, "cgroup2 ") {
			continue
		}
		root, at := unescape(fields[3]), unescape(fields[4])
		below, err := filepath.Rel(root, path)
		if err != nil || below == ".." || strings.HasPrefix(below, "../") {
			continue // another part of the tree
		}
		return filepath.Join(at, below), nil
	}
	return "", fmt.Errorf("the cgroup %s is mounted nowhere", path)
}

// unescape undoes what the kernel does to blanks in paths.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}

// isGroup tells whether there is a cgroup v2 at a path.
func isGroup(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Type == unix.CGROUP2_SUPER_MAGIC
}

func groupOf(service string, worker uint64) string {
	return filepath.Join(service, prefix+strconv.FormatUint(worker, 10))
}

// workersBelow are the cgroups of workers in a service's.
func workersBelow(service string) iter.Seq2[uint64, string] {
	return func(yield func(uint64, string) bool) {
		entries, _ := os.ReadDir(service)
		for _, e := range entries {
			number, ok := strings.CutPrefix(e.Name(), prefix)
			id, err := strconv.ParseUint(number, 10, 64)
			if ok && err == nil && !yield(id, filepath.Join(service, e.Name())) {
				return
			}
		}
	}
}

// endGroup kills whoever is in a cgroup or below it, waits until it is empty, and
// removes it.
func endGroup(dir string) (ended []int, err error) {
	if removeGroup(dir) == nil {
		return nil, nil // the usual case: nobody is left
	}
	ended = members(dir)
	ended = ended[:min(len(ended), maxEnded)]
	for late := time.Now().Add(killLimit); ; time.Sleep(killLook) {
		kill(dir)
		if err = removeGroup(dir); err == nil {
			return ended, nil
		}
		if time.Now().After(late) {
			return ended, fmt.Errorf("processes %v are still there %s after KILL (%w)", members(dir), killLimit, err)
		}
	}
}

// kill kills whoever is in a cgroup or below it now.
func kill(dir string) {
	if err := os.WriteFile(filepath.Join(dir, killFile), []byte("1"), 0); err == nil {
		return
	}
	killEach(dir)
}

// killEach does it before Linux 5.14: who was forked meanwhile is found by the next look.
func killEach(dir string) {
	for _, pid := range members(dir) {
		fd, err := unix.PidfdOpen(pid, 0)
		if err != nil {
			continue // gone
		}
		if slices.Contains(members(dir), pid) { // the number is not another's by now
			_ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
		}
		_ = unix.Close(fd)
	}
}

// members are the processes in a cgroup and below it.
func members(dir string) (pids []int) {
	for _, d := range below(dir) {
		text, err := os.ReadFile(filepath.Join(d, procsFile))
		if err != nil {
			continue
		}
		for _, field := range strings.Fields(string(text)) {
			if pid, err := strconv.Atoi(field); err == nil && pid > 0 { // zero: it is in another pid namespace
				pids = append(pids, pid)
			}
		}
	}
	return pids
}

// removeGroup removes an empty cgroup and those in it. It is no error if there is none.
// Where somebody is in one of them all are left: who lives there may have made the
// empty ones.
func removeGroup(dir string) error {
	if len(members(dir)) > 0 {
		return fmt.Errorf("remove the cgroup %s: %w", dir, unix.EBUSY)
	}
	for _, d := range slices.Backward(below(dir)) {
		if err := unix.Rmdir(d); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove the cgroup %s: %w", d, err)
		}
	}
	return nil
}

// below is a cgroup and those in it, each before those in itself.
func below(dir string) (dirs []string) {
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil || !d.IsDir():
			return nil // a file of the kernel's; what is gone needs no removal
		case len(dirs) == maxBelow:
			return fs.SkipAll
		}
		dirs = append(dirs, path)
		return nil
	})
	return dirs
}
