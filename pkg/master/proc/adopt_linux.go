package proc

import (
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/process"
)

const (
	// statusWait is how long a process that is gone may take until its parent
	// has waited for it: only then does the kernel tell others its exit status.
	statusWait = 250 * time.Millisecond
	statusPoll = time.Millisecond

	// clearRounds bounds how often a group is looked through for members that
	// were forked while it was being killed.
	clearRounds = 16
)

// Adopt takes over a process that somebody else started: a worker of a master
// that has died. begun is what [Begun] said of it then. After an exec of the
// master its workers are its children as before, and everything is as if it had
// started them just now. Of one that is not its child the end is noticed as
// fast, and its exit status where the kernel tells it (Linux 6.15).
//
// The error is [process.ErrGone] when that process is gone, whoever has its pid. What it
// left in its process group is not looked for then: that number may be
// somebody else's as well.
//
// A group other than zero is the one that it is in and somebody else led: the main
// process of a worker that forked (MAINPID of sd_notify(3)).
func Adopt(pid int, begun string, group int) (*Process, error) {
	if pid <= 0 || begun == "" {
		return nil, fmt.Errorf("adopt process %d that began at %q: that names none", pid, begun)
	}
	pidfd, err := unix.PidfdOpen(pid, 0)
	switch {
	case err == nil:
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOENT):
		// the last two: a thread's number now
		return nil, fmt.Errorf("adopt process %d: %w", pid, process.ErrGone)
	case errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM), errors.Is(err, unix.EACCES):
		pidfd = -1 // there are none here: it is looked at now and then
	default:
		return nil, fmt.Errorf("adopt process %d: %w", pid, os.NewSyscallError("pidfd_open", err))
	}
	// In this order. What is seen to be the right process now has had its pid
	// since it began, so the descriptor, taken since then, is of no other.
	p, err := adopt(pid, pidfd, begun, group)
	if err != nil && pidfd >= 0 {
		unix.Close(pidfd)
	}
	return p, err
}

// adopt is Adopt once there is a descriptor, or none is to be had.
func adopt(pid, pidfd int, begun string, group int) (*Process, error) {
	s, err := process.StatusOf(pid)
	if err != nil {
		return nil, fmt.Errorf("adopt process %d: %w", pid, err)
	}
	if s.Begun != begun {
		return nil, fmt.Errorf("adopt process %d: %w: the one that has this number now began at %s, not at %s", pid,
			process.ErrGone, s.Begun, begun)
	}
	if group == pid {
		group = 0
	}
	if group != 0 && s.Group != group {
		return nil, fmt.Errorf("adopt process %d: it is in group %d, not in %d", pid, s.Group, group)
	}
	p := &Process{pid: pid, group: group, filter: -1, done: make(chan struct{}), stop: make(chan struct{})}
	if _, ours := p.gone(); !ours {
		if s.Ended() { // its parent has not waited for it yet; nobody is there any more
			return nil, fmt.Errorf("adopt process %d: %w: it has ended", pid, process.ErrGone)
		}
		p.stranger = &stranger{begun: begun, session: s.Session}
	}
	p.watch(pidfd)
	return p, nil
}

// stranger is what must be known of a process that is not our child: nothing
// keeps its pid from being reused once it has ended.
type stranger struct {
	begun   string
	session int
}

// over tells whether it has ended, without waiting.
func (p *Process) over() bool {
	if p.stranger == nil {
		gone, _ := p.gone()
		return gone
	}
	if p.pidfd != nil {
		over := false
		if fdpass.Control(p.pidfd, func(fd int) error { over = readable(fd); return nil }) == nil {
			return over
		}
		return false // closed: nobody listens any more
	}
	s, err := process.StatusOf(p.pid)
	return errors.Is(err, process.ErrGone) || err == nil && (s.Begun != p.stranger.begun || s.Ended())
}

func readable(fd int) bool {
	events, _ := fdpass.Ready(fd, unix.POLLIN, 0)
	return events != 0
}

// signalStranger sends to the group that the process leads. p.mu is held.
//
// The number of a group may be used again once its last member is gone. A pidfd
// stands for the process and the group that it made, not for a number, so since
// Linux 6.9 nobody else can be hit. Before, the process is looked at first:
// while it is there its number is its own, and it would have to end and the
// kernel to go once through all numbers within the microsecond after.
func (p *Process) signalStranger(sig syscall.Signal) error {
	if p.pidfd == nil {
		if p.over() {
			return os.ErrProcessDone
		}
		return p.signalByNumber(sig)
	}
	return fdpass.Control(p.pidfd, func(fd int) error {
		err := unix.PidfdSendSignal(fd, sig, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
		switch {
		case err == nil:
			return nil
		case errors.Is(err, unix.ESRCH): // it moved itself to another group
			err = unix.PidfdSendSignal(fd, sig, nil, 0)
		case errors.Is(err, unix.EINVAL):
			if err = unix.PidfdSendSignal(fd, 0, nil, 0); err == nil || errors.Is(err, unix.EPERM) {
				return p.signalByNumber(sig)
			}
		}
		switch {
		case errors.Is(err, unix.ESRCH):
			return os.ErrProcessDone
		case err != nil:
			return fmt.Errorf("send %s to process group %d: %w", sig, p.pid, err)
		}
		return nil
	})
}

// clear kills what the process has left in its group. As long as a child was not
// waited for its group's number cannot be reused. A stranger's parent may have
// waited for it already. The group's number is still the group's own while it
// has a member, and by the pidfd it is the group that is meant, not the number.
//
// Before Linux 6.9, and in a group that it does not lead, members are looked for and
// killed one by one, each held by a descriptor of its own. Whoever is in a group of
// this number, in the session that the process was in, and was there when its end was
// noticed, is one: for a group of strangers the kernel would have had to go through
// all numbers since, and sessions are left but not joined, so they would be offspring
// of the same master in any case.
func (p *Process) clear(noticed uint64) {
	if p.stranger == nil {
		if _, ours := p.gone(); ours {
			unix.Kill(-p.leader(), unix.SIGKILL)
		}
		return
	}
	if p.pidfd != nil && p.group == 0 {
		err := fdpass.Control(p.pidfd, func(fd int) error {
			return unix.PidfdSendSignal(fd, unix.SIGKILL, nil, unix.PIDFD_SIGNAL_PROCESS_GROUP)
		})
		if !errors.Is(err, unix.EINVAL) {
			return
		}
	}
	p.clearByNumber(noticed)
}

func (p *Process) clearByNumber(noticed uint64) {
	for range clearRounds {
		found := false
		for pid := range process.All() {
			s, err := process.StatusOf(pid)
			if err != nil || !p.left(pid, s) || !s.StartedBy(noticed) {
				continue
			}
			found = true
			_ = process.SignalIf(pid, unix.SIGKILL, func() bool {
				s, err := process.StatusOf(pid)
				return err == nil && p.left(pid, s)
			})
		}
		if !found {
			return
		}
		noticed = process.Ticks() // those that they forked before they were killed
	}
}

// left tells whether somebody is a remaining member of a stranger's group.
func (p *Process) left(pid int, s process.Status) bool {
	if pid == p.pid && s.Begun != p.stranger.begun {
		return false // the number was given to another, and the group with it
	}
	return s.Group == p.leader() && s.Session == p.stranger.session && !s.Ended()
}

// testament is how a stranger ended, as far as it is told.
func (p *Process) testament() Exit {
	if ws, ours := p.inherited(); ours {
		return exitOf(ws)
	}
	// A parent that is slow to wait leaves it to be read here. Zero may also
	// mean that we may not know, unless we are root.
	if s, err := process.StatusOf(p.pid); err == nil && s.Begun == p.stranger.begun && s.Ended() &&
		(s.Wait != 0 || os.Geteuid() == 0) {
		return exitOf(syscall.WaitStatus(s.Wait))
	}
	if p.pidfd == nil {
		return Exit{Code: -1, Unknown: true}
	}
	for end := time.Now().Add(statusWait); ; {
		info := unix.PidfdInfo{Mask: unix.PIDFD_INFO_EXIT}
		err := fdpass.Control(p.pidfd, func(fd int) error { return unix.IoctlPidfdInfo(fd, &info) })
		switch {
		case err == nil && info.Mask&unix.PIDFD_INFO_EXIT != 0:
			return exitOf(syscall.WaitStatus(info.Exit_code))
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil || time.Now().After(end): // an older kernel; a parent that does not wait for its children
			return Exit{Code: -1, Unknown: true}
		}
		select {
		case <-time.After(statusPoll):
		case <-p.stop:
			return Exit{Code: -1, Unknown: true}
		}
	}
}

// inherited takes the status of a stranger that has become our child: a master
// that is process 1, or a subreaper, is given the children of the one before it.
func (p *Process) inherited() (ws syscall.WaitStatus, ours bool) {
	s, err := process.StatusOf(p.pid)
	if err != nil || s.Begun != p.stranger.begun || s.Parent != os.Getpid() {
		return 0, false
	}
	for {
		pid, err := syscall.Wait4(p.pid, &ws, syscall.WNOHANG, nil)
		if err == syscall.EINTR {
			continue
		}
		return ws, err == nil && pid == p.pid
	}
}
