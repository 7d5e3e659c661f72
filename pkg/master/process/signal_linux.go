package process

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SignalIf signals one process of which still is true. It is held while still looks, so
// that nobody else can be hit who is given its number just then. The error is [ErrGone]
// where it is not there, or not that one, and EPERM where it is not for this user to end.
func SignalIf(pid int, sig unix.Signal, still func() bool) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err == nil {
		defer unix.Close(fd)
	}
	if !still() {
		return ErrGone
	}
	if err != nil { // there are no pidfds here
		err = unix.Kill(pid, sig)
	} else {
		err = unix.PidfdSendSignal(fd, sig, nil, 0)
	}
	if err == unix.ESRCH {
		return ErrGone
	}
	return err
}

// KillNamed kills the process that began then, as SignalIf does.
func KillNamed(pid int, begun string) error {
	return SignalIf(pid, unix.SIGKILL, func() bool { now, err := Begun(pid); return err == nil && now == begun })
}

// Self is this process, whatever its number is where /proc was mounted.
const Self = 0

// Score is how readily the kernel kills a process when memory is short, from -1000 to
// 1000 (oom_score_adj).
func Score(pid int) (int, error) {
	text, err := os.ReadFile(scorePath(pid))
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(text)))
}

// SetScore changes it. It takes CAP_SYS_RESOURCE to lower it below what it has been.
func SetScore(pid, score int) error { return SetScoreIf(pid, score, func() bool { return true }) }

// SetScoreIf changes it if still is true once the process is held: an open file is of the
// process that had the number then.
func SetScoreIf(pid, score int, still func() bool) error {
	f, err := os.OpenFile(scorePath(pid), os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	if !still() {
		return os.ErrProcessDone
	}
	_, err = f.WriteString(strconv.Itoa(score))
	return err
}

func scorePath(pid int) string {
	if pid == Self {
		return "/proc/self/oom_score_adj"
	}
	return fmt.Sprintf("/proc/%d/oom_score_adj", pid)
}
