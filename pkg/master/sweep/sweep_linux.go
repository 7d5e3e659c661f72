package sweep

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

const (
	// look is how often the group is looked at. New processes of it are found
	// then, and told too.
	look = 20 * time.Millisecond
	// killLimit is how long the kernel may take to end what was killed.
	killLimit = 10 * time.Second
)

// Own is the group of this process.
func Own() (Group, error) {
	text, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return Group{}, err
	}
	return OwnGroup(string(text))
}

// Left are the processes of a group without this one.
func Left(g Group) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && g.holds(pid) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// holds tells whether a living process is in the group. One that was reaped
// meanwhile, or only waits for that, is not.
func (g Group) holds(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && g.has(string(text)) && !process.Ended(pid)
}

// End asks the processes of a group to end, by TERM, and kills those that are
// there after grace. only, unless nil, limits it to processes that were there
// when somebody looked. It returns how many it asked and how many it killed.
func End(g Group, grace time.Duration, only []int) (asked, killed int, err error) {
	told := map[int]unix.Signal{}
	began := time.Now()
	for {
		left, err := Left(g)
		if err != nil {
			return asked, killed, err
		}
		if only != nil {
			left = slices.DeleteFunc(left, func(pid int) bool { return !slices.Contains(only, pid) })
		}
		if len(left) == 0 {
			return asked, killed, nil
		}
		sig := unix.SIGTERM
		waited := time.Since(began)
		if waited >= grace {
			sig = unix.SIGKILL
		}
		if waited >= grace+killLimit {
			return asked, killed, fmt.Errorf("%s: still there %s after KILL: processes %v", g, killLimit, left)
		}
		for _, pid := range left {
			before, again := told[pid]
			if again && before == sig {
				continue
			}
			if err := g.signal(pid, sig); err != nil {
				return asked, killed, err
			}
			told[pid] = sig
			if sig == unix.SIGKILL {
				killed++
			} else {
				asked++
			}
		}
		time.Sleep(look)
	}
}

// signal signals a process if it still is in the group: its number may have
// become somebody else's, and the descriptor cannot.
func (g Group) signal(pid int, sig unix.Signal) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("%s: take hold of process %d: %w", g, pid, err)
	}
	defer unix.Close(fd)
	if !g.holds(pid) {
		return nil
	}
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("%s: send %s to process %d: %w", g, unix.SignalName(sig), pid, err)
	}
	if sig == unix.SIGTERM {
		// One that was stopped hears nothing otherwise.
		_ = unix.PidfdSendSignal(fd, unix.SIGCONT, nil, 0)
	}
	return nil
}
