package proc

import (
	"fmt"
	"io"
	"iter"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	maxFound   = 4096    // processes; more than any service has workers
	maxEnviron = 1 << 20 // bytes read of one environment
	readAtOnce = 256     // names of one directory
)

// FindWorkers looks for processes that were started with an environment that match
// accepts: workers that a master has started and not told anybody of, because it died
// just then, and whatever workers have started. It reads the environment of every
// process that it may read, so it is for a start, not for every second. What ends
// meanwhile is left out.
// Only those count by which dir means the directory that it is here; see [Sees].
func FindWorkers(dir string, match func(env []string) bool) []Found {
	var all []Found
	self := os.Getpid()
	for pid := range pids() {
		s, err := statusOf(pid)
		if err != nil || pid == self || s.ended() {
			continue
		}
		env := Environ(pid)
		if len(env) == 0 || !match(env) || !Sees(pid, dir) {
			continue
		}
		if again, err := statusOf(pid); err != nil || again.begun != s.begun {
			continue // what was read may be another's
		}
		if all = append(all, Found{PID: pid, Begun: s.begun, Env: env, Leads: s.group == pid}); len(all) == maxFound {
			break
		}
	}
	return all
}

// Facts are what /proc says of a living process.
type Facts struct {
	Parent, Session int
	Begun           string // as [Begun] says it
}

// All are the living processes of this machine that can be seen.
func All() map[int]Facts {
	all := map[int]Facts{}
	for pid := range pids() {
		if s, err := statusOf(pid); err == nil && !s.ended() {
			all[pid] = Facts{Parent: s.parent, Session: s.session, Begun: s.begun}
		}
	}
	return all
}

// KillNamed kills one process. The error is [ErrGone] where it was not there, and
// EPERM where it is not for this user to end.
func KillNamed(pid int, begun string) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	if now, gone := Begun(pid); gone != nil || now != begun {
		return ErrGone
	}
	if err != nil { // there are no pidfds here
		err = unix.Kill(pid, unix.SIGKILL)
	} else {
		err = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0)
	}
	if err == unix.ESRCH {
		return ErrGone
	}
	return err
}

// Environ is the environment that a process was started with; nil: it cannot be
// read.
func Environ(pid int) []string {
	f, err := os.Open(fmt.Sprintf("/proc/%d/environ", pid))
	if err != nil {
		return nil
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxEnviron))
	if err != nil || len(text) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(text), "\x00"), "\x00")
}

// Sees tells whether a path is for a process the directory that it is here. In a
// container it may be another one: of another masterd, whose workers carry the same
// environment. Where the process has no such directory, as after chroot, its mount
// namespace decides.
func Sees(pid int, dir string) bool {
	its, err := insideOf(pid, dir)
	var own unix.Stat_t
	if err == nil && unix.Stat(dir, &own) == nil {
		return its.Dev == own.Dev && its.Ino == own.Ino
	}
	theirs, err1 := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	ours, err2 := os.Readlink("/proc/self/ns/mnt")
	return err1 == nil && err2 == nil && theirs == ours
}

// insideOf looks at a path as a process would. The kernel keeps the walk below the
// process's root: its symbolic links must not lead into ours.
func insideOf(pid int, path string) (st unix.Stat_t, err error) {
	root, err := unix.Open(fmt.Sprintf("/proc/%d/root", pid), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return st, err
	}
	defer unix.Close(root)
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
	if err != nil {
		return st, err
	}
	defer unix.Close(fd)
	return st, unix.Fstat(fd, &st)
}

// Belongs says which group a process is in that a worker names as its main one:
// the worker's own, which leader leads, or one that it has made itself; then match
// must know its environment, and its user must be the worker's.
func Belongs(pid, leader int, match func(env []string) bool) (group int, err error) {
	s, err := statusOf(pid)
	switch {
	case err != nil:
		return 0, err
	case s.ended():
		return 0, fmt.Errorf("process %d has ended", pid)
	case s.group == leader:
		return leader, nil
	case s.group != pid:
		return 0, fmt.Errorf("process %d is in group %d, which is not the worker's", pid, s.group)
	}
	owner := func(pid int) (uint32, error) {
		var st unix.Stat_t
		err := unix.Stat(fmt.Sprintf("/proc/%d", pid), &st)
		return st.Uid, err
	}
	its, err1 := owner(pid)
	ours, err2 := owner(leader)
	if err1 != nil || err2 != nil || its != ours || !match(Environ(pid)) {
		return 0, fmt.Errorf("process %d was not started by the worker, as far as can be told", pid)
	}
	return pid, nil
}

// pids are the processes that there are, or were a moment ago.
func pids() iter.Seq[int] {
	return func(yield func(int) bool) {
		dir, err := os.Open("/proc")
		if err != nil {
			return
		}
		defer dir.Close()
		for {
			names, err := dir.Readdirnames(readAtOnce)
			for _, name := range names {
				if pid, nan := strconv.Atoi(name); nan == nil && !yield(pid) {
					return
				}
			}
			if err != nil || len(names) == 0 {
				return
			}
		}
	}
}
