package proc

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// tick is the unit of a process's start time in /proc, in nanoseconds: the
// kernel's USER_HZ is 100 on every system that Go runs on.
const tick = 10_000_000

// Begun is when a process was started, in the kernel's own unit since the boot;
// with the pid it names a process for as long as the machine runs. The error is
// [ErrGone] when there is none. One that has ended and was not waited for is
// still there.
func Begun(pid int) (string, error) {
	s, err := statusOf(pid)
	if err != nil {
		return "", err
	}
	return s.begun, nil
}

// status is what /proc/PID/stat says of a process.
type status struct {
	state          byte
	parent         int
	group, session int
	begun          string
	wait           int // as wait(2) will tell it, once it has ended; zero also where that is not ours to know
}

// ended: it runs no more, and waits for its parent to ask what came of it.
func (s status) ended() bool { return s.state == 'Z' || s.state == 'X' }

func statusOf(pid int) (status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		// Gone before the open, or between it and the read (ESRCH).
		return status{}, fmt.Errorf("process %d: %w", pid, ErrGone)
	}
	s, ok := parseStatus(string(text))
	if !ok {
		return status{}, fmt.Errorf("process %d: its /proc/%d/stat is not of the form that is known", pid, pid)
	}
	return s, nil
}

// parseStatus reads one line. The second field is the command's name in
// parentheses and may hold anything, parentheses too.
func parseStatus(text string) (status, bool) {
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return status{}, false
	}
	fields := strings.Fields(text[i+1:])
	const first, state, parent, group, session, begun, wait = 3, 3, 4, 5, 6, 22, 52
	if len(fields) <= begun-first {
		return status{}, false
	}
	s := status{state: fields[state-first][0], begun: fields[begun-first]}
	for _, f := range []struct {
		to *int
		at int
	}{{&s.parent, parent}, {&s.group, group}, {&s.session, session}} {
		n, err := strconv.Atoi(fields[f.at-first])
		if err != nil {
			return status{}, false
		}
		*f.to = n
	}
	if len(fields) > wait-first {
		s.wait, _ = strconv.Atoi(fields[wait-first])
	}
	return s, true
}

// ticks is the time since the boot in the unit of a start time.
func ticks() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return uint64(now.Nano()) / tick
}

// startedBy tells whether it began no later than that moment.
func (s status) startedBy(moment uint64) bool {
	n, err := strconv.ParseUint(s.begun, 10, 64)
	return err == nil && n <= moment
}
