package bindsub

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/process"
)

// thread is the caller, which waits.
type thread uint32

// look calls f with a duplicate of one of its sockets, if that is one of IPv4 or IPv6, and
// has closed it when it returns: the program may close its own and bind the address again
// when it is answered. For the same reason no process is started here meanwhile. It would
// have a copy until it executes its program, and the kernel lets its parent go on shortly
// before it closes the copies. So nothing is done here that the program can make hang: f
// asks for options, which takes no lock of the socket's, and reads none of its memory.
func (t thread) look(fd int, f func(old int)) error {
	pidfd, err := t.having(fd)
	if err != nil {
		return err
	}
	defer unix.Close(pidfd)
	syscall.ForkLock.RLock()
	old, err := unix.PidfdGetfd(pidfd, fd, 0)
	network := err == nil && isNetwork(old)
	if network {
		f(old)
		fdpass.CloseCopies(old)
	}
	syscall.ForkLock.RUnlock()
	switch {
	case err != nil:
		return os.NewSyscallError("pidfd_getfd", err)
	case !network:
		fdpass.DiscardWait(nil, old) // if it hangs, it is the program's own call that does
		return unix.EBADF
	}
	return nil
}

// isNetwork reports whether a socket is one of IPv4 or IPv6: no descriptor is queued in it
// whose close could hang.
func isNetwork(fd int) bool {
	family := option(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	return family == unix.AF_INET || family == unix.AF_INET6
}

// socket is a duplicate of one of its sockets. Another file may be in its place by then: the
// duplicate is closed as what may hang.
func (t thread) socket(fd int) (int, error) {
	pidfd, err := t.having(fd)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	old, err := unix.PidfdGetfd(pidfd, fd, 0)
	return old, os.NewSyscallError("pidfd_getfd", err)
}

// having is a pidfd of its process, if that has such a socket. Whatever is done with a file of
// a file system of its own can hang, so only what is a socket is taken.
func (t thread) having(fd int) (pidfd int, err error) {
	if _, err := t.inode(fd); err != nil && !errors.Is(err, fs.ErrPermission) { // pidfd_getfd tells of that
		return -1, unix.EBADF
	}
	leader, err := t.process()
	if err != nil {
		return -1, err
	}
	pidfd, err = unix.PidfdOpen(leader, 0)
	return pidfd, os.NewSyscallError("pidfd_open", err)
}

// noOption is the value of an option that a socket does not have.
const noOption = math.MinInt

func option(fd, level, name int) int {
	v, err := unix.GetsockoptInt(fd, level, name)
	if err != nil {
		return noOption
	}
	return v
}

// process is the process of the thread.
func (t thread) process() (int, error) {
	text, err := t.field("status", "Tgid:")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// field reads one line of a file about the thread in /proc.
func (t thread) field(file, key string) (string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/%s", t, file))
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, key); ok {
			return strings.TrimSpace(v), nil
		}
	}
	return "", fmt.Errorf("/proc/%d/%s has no %s", t, file, key)
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
	text, err := t.field(fmt.Sprintf("fdinfo/%d", fd), "flags:")
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(text, 8, 64)
	return int(n), err
}

// inode names one of its sockets.
func (t thread) inode(fd int) (uint64, error) { return process.Socket(int(t), fd) }
