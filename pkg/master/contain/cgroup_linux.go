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

	"github.com/masterd/masterd/pkg/master/process"
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
	if kind, err := os.ReadFile(filepath.Join(dir, "cgroup.type")); err != nil ||
		strings.TrimSpace(string(kind)) != "domain" {
		_ = os.Remove(dir)
		return "", fmt.Errorf("%s is of type %q: processes cannot be placed in it", dir, strings.TrimSpace(string(kind)))
	}
	return dir, nil
}

// ownGroup is the directory of the cgroup v2 that this process is in.
func ownGroup() (string, error) { return dirOf("self", "") }

// dirOf is the directory of the cgroup that a process is in: of version 1, if a controller
// is there, else of version 2.
func dirOf(pid, controller string) (string, error) {
	text, err := os.ReadFile("/proc/" + pid + "/cgroup")
	if err != nil {
		return "", err
	}
	path := ""
	for names, p := range process.Cgroups(string(text)) {
		if controller != "" && slices.Contains(strings.Split(names, ","), controller) {
			return mounted(p, controller)
		}
		if names == "" {
			path = p
		}
	}
	if path == "" {
		return "", fmt.Errorf("process %s is in no cgroup of version 2", pid)
	}
	return mounted(path, "")
}

// mounted finds the directory of a cgroup, of the version 1 that has a controller, or of
// version 2.
func mounted(path, controller string) (string, error) {
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return "", err
	}
	defer mounts.Close()
	return mountedAt(mounts, path, controller)
}

// mountedAt is mounted, in the text of /proc/self/mountinfo.
func mountedAt(mounts io.Reader, path, controller string) (string, error) {
	for lines := bufio.NewScanner(mounts); lines.Scan(); {
		// 36 35 0:30 /root /mount/point options optional... - type source options
		before, after, ok := strings.Cut(lines.Text(), " - ")
		fields, of := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(of) < 3 {
			continue
		}
		if controller == "" && of[0] != "cgroup2" || controller != "" &&
			(of[0] != "cgroup" || !slices.Contains(strings.Split(of[2], ","), controller)) {
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

// scopeOf is a worker's cgroup if it has one of systemd's.
func scopeOf(service string, worker uint64) string {
	return service + "-" + prefix + strconv.FormatUint(worker, 10) + scopeSuffix
}

func isScope(dir string) bool { return filepath.Ext(dir) == scopeSuffix }

// workersBelow are the cgroups of workers in a service's, and their scopes.
func workersBelow(service string) iter.Seq2[uint64, string] {
	return func(yield func(uint64, string) bool) {
		for _, in := range []struct{ dir, prefix, suffix string }{
			{service, prefix, ""},
			{filepath.Dir(service), filepath.Base(service) + "-" + prefix, scopeSuffix},
		} {
			entries, _ := os.ReadDir(in.dir)
			for _, e := range entries {
				number, ok := strings.CutPrefix(e.Name(), in.prefix)
				number, is := strings.CutSuffix(number, in.suffix)
				id, err := strconv.ParseUint(number, 10, 64)
				if ok && is && err == nil && !yield(id, filepath.Join(in.dir, e.Name())) {
					return
				}
			}
		}
	}
}

// partsOf are the cgroups that make up a service's: the one below masterd's, and scopes.
func partsOf(service string) (dirs []string) {
	if isGroup(service) {
		dirs = append(dirs, service)
	}
	for _, dir := range workersBelow(service) {
		if isScope(dir) {
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// inUse tells whether processes are in a service's cgroups, and removes those that are empty.
func inUse(service string) (used bool) {
	for _, dir := range partsOf(service) {
		used = removeGroup(dir) != nil || used
	}
	return used
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
		_ = process.SignalIf(pid, unix.SIGKILL, func() bool { return slices.Contains(members(dir), pid) })
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
	if isScope(dir) {
		return nil // systemd removes it; it would wait for ever for one that others have removed
	}
	for _, d := range slices.Backward(below(dir)) {
		if err := unix.Rmdir(d); err != nil && err != unix.ENOENT {
			return fmt.Errorf("remove the cgroup %s: %w", d, err)
		}
	}
	return nil
}

// number reads a file with one; "max" is none.
func number(path string) (uint64, bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	n, err := strconv.ParseUint(strings.TrimSpace(string(text)), 10, 64)
	return n, err == nil
}

// below is a cgroup and those in it, each before those in itself.
func below(dir string) (dirs []string) {
	// A directory of the kernel's counts those in it by its links, and has some fifty files: who
	// asks what all workers use would read them all.
	var is unix.Stat_t
	if err := unix.Stat(dir, &is); err == nil && is.Mode&unix.S_IFMT == unix.S_IFDIR && is.Nlink == 2 {
		return []string{dir}
	}
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
