package process

import (
	"fmt"
	"iter"
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

const (
	maxFound   = 4096 // processes; more than any service has workers
	readAtOnce = 256  // names of one directory
)

// Find looks for processes that were started with an environment that match
// accepts: workers that a master has started and not told anybody of, because it died
// just then, and whatever workers have started. It reads the environment of every
// process that it may read, so it is for a start, not for every second. What ends
// meanwhile is left out.
// Only those count by which dir means the directory that it is here; see [Sees].
func Find(dir string, match func(env []string) bool) []Found {
	var all []Found
	var environs Environs
	self := os.Getpid()
	for pid := range All() {
		s, err := StatusOf(pid)
		if err != nil || pid == self || s.Ended() {
			continue
		}
		env := environs.Of(pid)
		if len(env) == 0 || !match(env) || !Sees(pid, dir) {
			continue
		}
		if again, err := StatusOf(pid); err != nil || again.Begun != s.Begun {
			continue // what was read may be another's
		}
		if all = append(all, Found{PID: pid, Begun: s.Begun, Env: env, Leads: s.Group == pid}); len(all) == maxFound {
			break
		}
	}
	return all
}

// Living are the living processes of this machine that can be seen, by their numbers.
func Living() map[int]Status {
	living := map[int]Status{}
	for pid := range All() {
		if s, err := StatusOf(pid); err == nil && !s.Ended() {
			living[pid] = s
		}
	}
	return living
}

// Owner is the user of a process, by number.
func Owner(pid int) (uid int, err error) {
	var st unix.Stat_t
	err = unix.Stat(fmt.Sprintf("/proc/%d", pid), &st)
	return int(st.Uid), err
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
	fd, err := unix.Openat2(root, path, &unix.OpenHow{Flags: unix.O_PATH | unix.O_CLOEXEC,
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS})
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
	s, err := StatusOf(pid)
	switch {
	case err != nil:
		return 0, err
	case s.Ended():
		return 0, fmt.Errorf("process %d has ended", pid)
	case s.Group == leader:
		return leader, nil
	case s.Group != pid:
		return 0, fmt.Errorf("process %d is in group %d, which is not the worker's", pid, s.Group)
	}
	its, err1 := Owner(pid)
	ours, err2 := Owner(leader)
	if err1 != nil || err2 != nil || its != ours || !match(Environ(pid)) {
		return 0, fmt.Errorf("process %d was not started by the worker, as far as can be told", pid)
	}
	return pid, nil
}

// All are the numbers of the processes that there are, or were a moment ago.
func All() iter.Seq[int] {
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
