package process

import (
	"errors"
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
	s, err := StatusOf(pid)
	if err != nil {
		return "", err
	}
	return s.Begun, nil
}

// Status is what /proc/PID/stat says of a process.
type Status struct {
	State          byte
	Parent         int
	Group, Session int
	Begun          string // as [Begun] says it
	Wait           int    // as wait(2) will tell it, once it has ended; zero also where that is not ours to know
	NoEnviron      bool   // it has no environment, or none that we may read: a thread of the kernel's, another user's
}

// Ended: it runs no more, and waits for its parent to ask what came of it.
func (s Status) Ended() bool { return s.State == 'Z' || s.State == 'X' }

// StatusOf reads it. The error is [ErrGone] where there is no such process.
func StatusOf(pid int) (Status, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) { // before the open, or between it and the read
			err = ErrGone
		}
		return Status{}, fmt.Errorf("process %d: %w", pid, err)
	}
	s, ok := parseStatus(string(text))
	if !ok {
		return Status{}, fmt.Errorf("process %d: its /proc/%d/stat is not of the form that is known", pid, pid)
	}
	return s, nil
}

// Ended tells that a process is gone, or that nobody has waited for it yet.
func Ended(pid int) bool {
	s, err := StatusOf(pid)
	return errors.Is(err, ErrGone) || err == nil && s.Ended()
}

// parseStatus reads one line. The second field is the command's name in
// parentheses and may hold anything, parentheses too.
func parseStatus(text string) (Status, bool) {
	i := strings.LastIndexByte(text, ')')
	if i < 0 {
		return Status{}, false
	}
	fields := strings.Fields(text[i+1:])
	const first, state, parent, group, session, begun, size = 3, 3, 4, 5, 6, 22, 23
	const code, environ, environEnd, wait = 26, 50, 51, 52
	if len(fields) <= begun-first {
		return Status{}, false
	}
	s := Status{State: fields[state-first][0], Begun: fields[begun-first]}
	for _, f := range []struct {
		to *int
		at int
	}{{&s.Parent, parent}, {&s.Group, group}, {&s.Session, session}} {
		n, err := strconv.Atoi(fields[f.at-first])
		if err != nil {
			return Status{}, false
		}
		*f.to = n
	}
	s.NoEnviron = true
	if len(fields) > environEnd-first {
		at := func(field int) string { return fields[field-first] }
		// The kernel says 1 in the place of where its code begins to those who may see no
		// address. While a program is being executed all of them are 0.
		const secret = "1"
		s.NoEnviron = at(size) == "0" || at(code) == secret || at(environEnd) != "0" && at(environEnd) == at(environ)
	}
	if len(fields) > wait-first {
		s.Wait, _ = strconv.Atoi(fields[wait-first])
	}
	return s, true
}

// Ticks is the time since the boot in the unit of a start time.
func Ticks() uint64 {
	var now unix.Timespec
	if unix.ClockGettime(unix.CLOCK_BOOTTIME, &now) != nil {
		return 0
	}
	return uint64(now.Nano()) / tick
}

// StartedBy tells whether it began no later than that moment.
func (s Status) StartedBy(moment uint64) bool {
	n, err := strconv.ParseUint(s.Begun, 10, 64)
	return err == nil && n <= moment
}
