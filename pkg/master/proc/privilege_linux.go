package proc

import (
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

// confine takes from this thread, which becomes the program, what the program is not to
// have of the master's privileges. It comes before the user is changed: to make the
// bounding set smaller takes a privilege itself. Where that is missing the set stays; it
// is then somebody else's who started the master.
func confine(bounding uint64) error {
	if err := dropInherited(); err != nil {
		return err
	}
	h, caps := capHeader(), [2]unix.CapUserData{}
	if err := unix.Capget(&h, &caps[0]); err != nil {
		return err
	}
	if caps[0].Effective&(1<<unix.CAP_SETPCAP) == 0 {
		return nil
	}
	for c := range uintptr(64) {
		in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0)
		if err != nil {
			return nil // the kernel knows no more
		}
		if in == 1 && bounding&(1<<c) == 0 {
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, c, 0, 0, 0); err != nil {
				return err
			}
		}
	}
	return nil
}

// Bounding is the set of capabilities that this process, and what it starts, can have.
func Bounding() (set uint64) {
	for c := range uintptr(64) {
		if in, err := unix.PrctlRetInt(unix.PR_CAPBSET_READ, c, 0, 0, 0); err == nil && in == 1 {
			set |= 1 << c
		}
	}
	return set
}

func capHeader() unix.CapUserHeader {
	return unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
}

// dropInherited empties the sets of this thread by which a program that it runs gets
// capabilities of its own: ambient and inheritable.
func dropInherited() error {
	h, caps := capHeader(), [2]unix.CapUserData{}
	if err := unix.Capget(&h, &caps[0]); err != nil {
		return err
	}
	if caps[0].Inheritable|caps[1].Inheritable == 0 {
		return nil // the call itself may be forbidden, as by SystemCallFilter=~@privileged
	}
	caps[0].Inheritable, caps[1].Inheritable = 0, 0
	return unix.Capset(&h, &caps[0]) // what is not inheritable is not ambient either
}

// withoutInherited runs do on a thread that has no capabilities to hand on.
func withoutInherited(do func() error) error {
	runtime.LockOSThread()
	h, was := capHeader(), [2]unix.CapUserData{}
	if err := unix.Capget(&h, &was[0]); err != nil {
		return err
	}
	if was[0].Inheritable|was[1].Inheritable == 0 {
		defer runtime.UnlockOSThread()
		return do()
	}
	var ambient []uintptr
	for c := range uintptr(64) {
		if set, err := unix.PrctlRetInt(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_IS_SET, c, 0, 0); err == nil && set == 1 {
			ambient = append(ambient, c)
		}
	}
	if err := dropInherited(); err != nil {
		return err
	}
	err := do()
	if unix.Capset(&h, &was[0]) != nil {
		return err // the thread stays locked, and ends with its goroutine
	}
	for _, c := range ambient {
		if unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_RAISE, c, 0, 0) != nil {
			return err
		}
	}
	runtime.UnlockOSThread()
	return err
}

// StartCommand starts an operator's program, as the master's user. It gets none of the
// capabilities that the master was given to hand on (AmbientCapabilities= of its unit),
// and not the master's protection when memory runs out.
func StartCommand(cmd *exec.Cmd) error {
	if err := withoutInherited(cmd.Start); err != nil {
		return err
	}
	if score, err := process.Score(process.Self); err == nil && score < 0 {
		_ = process.SetScore(cmd.Process.Pid, 0)
	}
	return nil
}
