package bindsub

import (
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// thread is the caller, which waits.
type thread uint32

// socket is a duplicate of one of its descriptors.
func (t thread) socket(fd int) (int, error) {
	leader, err := t.process()
	if err != nil {
		return -1, err
	}
	pidfd, err := unix.PidfdOpen(leader, 0)
	if err != nil {
		return -1, os.NewSyscallError("pidfd_open", err)
	}
	defer unix.Close(pidfd)
	old, err := unix.PidfdGetfd(pidfd, fd, 0)
	return old, os.NewSyscallError("pidfd_getfd", err)
}

// process is the process of the thread.
func (t thread) process() (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", t))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "Tgid:"); ok {
			return strconv.Atoi(strings.TrimSpace(v))
		}
	}
	return 0, unix.ESRCH
}

// sockaddr reads an address from its memory.
func (t thread) sockaddr(where uintptr, length int) (at netip.AddrPort, ok bool) {
	if length <= 0 || length > maxSockaddr {
		return at, false
	}
	buf := make([]byte, length)
	local := []unix.Iovec{{Base: &buf[0]}}
	local[0].SetLen(length)
	n, err := unix.ProcessVMReadv(int(t), local, []unix.RemoteIovec{{Base: where, Len: length}}, 0)
	if err != nil {
		return at, false
	}
	return parseSockaddr(buf[:n])
}

// putInt answers a getsockopt with a number: where to, and the place of the length,
// which says how much is wanted.
func (t thread) putInt(where, length uintptr, value int32) error {
	var size int32
	local := []unix.Iovec{{Base: (*byte)(unsafe.Pointer(&size)), Len: 4}}
	if _, err := unix.ProcessVMReadv(int(t), local, []unix.RemoteIovec{{Base: length, Len: 4}}, 0); err != nil {
		return os.NewSyscallError("process_vm_readv", err)
	}
	if size < 4 {
		return fmt.Errorf("it has room for %d bytes", size)
	}
	size = 4
	local = append(local, unix.Iovec{Base: (*byte)(unsafe.Pointer(&value)), Len: 4})
	_, err := unix.ProcessVMWritev(int(t), local, []unix.RemoteIovec{{Base: length, Len: 4}, {Base: where, Len: 4}}, 0)
	return os.NewSyscallError("process_vm_writev", err)
}

// flags are those of one of its open files, with O_CLOEXEC of the descriptor.
func (t thread) flags(fd int) (int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/fdinfo/%d", t, fd))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "flags:"); ok {
			n, err := strconv.ParseInt(strings.TrimSpace(v), 8, 64)
			return int(n), err
		}
	}
	return 0, fmt.Errorf("descriptor %d has no flags", fd)
}

// inode names one of its sockets.
func (t thread) inode(fd int) (uint64, error) {
	target, err := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", t, fd))
	if err != nil {
		return 0, err
	}
	number, ok := strings.CutPrefix(target, "socket:[")
	if !ok {
		return 0, fmt.Errorf("descriptor %d is %s", fd, target)
	}
	return strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64)
}
