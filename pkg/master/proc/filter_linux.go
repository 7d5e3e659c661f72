package proc

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// calls are the numbers of bind, listen and getsockopt on one architecture.
type calls struct{ arch, bind, listen, getsockopt uint32 }

// Architectures of the kernel's audit.h that programs on this machine can be of.
// What a 32-bit one says by socketcall(2) is not told: its arguments are in memory.
func filtered() []calls {
	switch runtime.GOARCH {
	case "amd64":
		return []calls{{unix.AUDIT_ARCH_X86_64, 49, 50, 55}, {unix.AUDIT_ARCH_I386, 361, 363, 365}}
	case "arm64":
		return []calls{{unix.AUDIT_ARCH_AARCH64, 200, 201, 209}, {unix.AUDIT_ARCH_ARM, 282, 284, 295}}
	}
	return nil
}

// Call is one of the calls that are told.
type Call uint8

// Calls that are told.
const (
	CallBind Call = iota
	CallListen
	CallListens // getsockopt of SO_ACCEPTCONN: does it listen?
)

// CallOf tells which call one is.
func CallOf(arch, nr uint32) Call {
	for _, c := range filtered() {
		switch nr = nr &^ x32; {
		case c.arch != arch:
		case nr == c.listen:
			return CallListen
		case nr == c.getsockopt, arch == unix.AUDIT_ARCH_X86_64 && nr == x32getsockopt:
			return CallListens
		}
	}
	return CallBind
}

const (
	// x32 is in the numbers of calls of that ABI of amd64, which are its own otherwise.
	x32 = 0x40000000
	// x32getsockopt is the one of those told here that has another number there.
	x32getsockopt = 542
)

// Offsets in bytes into the kernel's struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
	// The low halves of the second and third argument, on machines that filtered
	// knows: the level and the name of a socket option.
	dataLevel = 16 + 8
	dataName  = 16 + 16
)

// program tells of bind and listen, and of getsockopt where it asks whether a socket
// listens, and lets everything else pass.
func filterProgram(all []calls) []bpf.Instruction {
	p := []bpf.Instruction{bpf.LoadAbsolute{Off: dataArch, Size: 4}}
	for _, c := range all {
		p = append(p,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.arch, SkipFalse: 12},
			bpf.LoadAbsolute{Off: dataNumber, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: ^uint32(x32)},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.bind, SkipTrue: 8},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.listen, SkipTrue: 7},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: c.getsockopt, SkipTrue: 1},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: x32getsockopt, SkipFalse: 4},
			bpf.LoadAbsolute{Off: dataLevel, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SOL_SOCKET, SkipFalse: 2},
			bpf.LoadAbsolute{Off: dataName, Size: 4},
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SO_ACCEPTCONN, SkipTrue: 1},
			bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW},
			bpf.RetConstant{Val: unix.SECCOMP_RET_USER_NOTIF},
		)
	}
	return append(p, bpf.RetConstant{Val: unix.SECCOMP_RET_ALLOW})
}

// install puts the filter on this thread, which becomes the program, and gives
// the master the descriptor.
func (s shim) install() (refusal, bool) {
	all := filtered()
	if all == nil {
		return refuse(unix.ENOSYS, "its calls cannot be answered: that is not possible on %s, only on amd64 and arm64",
			runtime.GOARCH), true
	}
	raw, err := bpf.Assemble(filterProgram(all))
	if err != nil {
		return refuse(err, "its filter cannot be assembled: %v", err), true
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	fd, err := filter(&unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]})
	if err != nil {
		return whyNoFilter(err), true
	}
	defer unix.Close(fd)
	if err := unix.Sendmsg(s.talk, []byte{tookFilter, '\n'}, unix.UnixRights(fd), nil, 0); err != nil {
		return refuse(err, "its filter could not be handed to the master: %v", err), true
	}
	return refusal{}, false
}

// filter installs it. Without the privilege for that, programs lose setuid and
// file capabilities (no_new_privs), as the kernel demands.
func filter(p *unix.SockFprog) (int, error) {
	const mode = unix.SECCOMP_SET_MODE_FILTER
	flags := uintptr(unix.SECCOMP_FILTER_FLAG_NEW_LISTENER | unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW |
		unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV)
	for {
		fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, mode, flags, uintptr(unsafe.Pointer(p)))
		switch {
		case errno == 0:
			return int(fd), nil
		case errno == unix.EACCES:
			if set, err := unix.PrctlRetInt(unix.PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0); err != nil || set == 1 {
				return -1, errno
			}
			if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
				return -1, fmt.Errorf("prctl PR_SET_NO_NEW_PRIVS: %w", err)
			}
		case errno == unix.EINVAL && flags&unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV != 0:
			// since Linux 5.19; without it a signal may interrupt the call
			flags &^= unix.SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
		default:
			return -1, errno
		}
	}
}

func whyNoFilter(err error) refusal {
	const instead = "; use worker.kind: socket-activation, if the program can take a socket"
	switch errnoOf(err) {
	case unix.EBUSY:
		return refuse(err, "its calls cannot be answered: another program does that for this whole process tree already "+
			"(a container runtime?), and the kernel allows one"+instead)
	case unix.ENOSYS, unix.EINVAL:
		return refuse(err, "its calls cannot be answered: this kernel has no seccomp notifications (Linux 5.14 is "+
			"needed, with CONFIG_SECCOMP_FILTER)"+instead)
	case unix.EPERM, unix.EACCES:
		return refuse(err, "its calls cannot be answered: masterd may not install a seccomp filter here (a sandbox of "+
			"its own?)"+instead)
	}
	return refuse(err, "its calls cannot be answered: seccomp: %v"+instead, err)
}
