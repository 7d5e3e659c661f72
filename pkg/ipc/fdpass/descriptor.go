// Package fdpass is what is done with descriptors: they are sent and received over Unix
// sockets, duplicated, closed, and made connections of. A descriptor is a plain number
// here, close-on-exec, and always somebody's: each function says whose.
package fdpass

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// firstCopy keeps duplicates off the standard descriptors.
const firstCopy = 3

// Duplicate is a copy of a descriptor, and the caller's.
func Duplicate(fd int) (int, error) {
	return unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, firstCopy)
}

// DuplicateOf is a copy of the descriptor of a file or connection, and the caller's.
func DuplicateOf(c syscall.Conn) (fd int, err error) {
	fd = -1
	err = Control(c, func(of int) (err error) { fd, err = Duplicate(of); return err })
	return fd, err
}

// Control calls f with the descriptor of a file or connection, which stays open and as it
// is meanwhile. (os.File.Fd would make it blocking for everybody who shares it.)
func Control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = f(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}

// Ready waits until one of these events of poll(2) has come to a descriptor, an error or a
// hang-up, and says which have. Zero: none has, within the limit.
func Ready(fd int, events int16, limit time.Duration) (int16, error) {
	for end := time.Now().Add(limit); ; {
		p := []unix.PollFd{{Fd: int32(fd), Events: events}}
		_, err := unix.Poll(p, int(max(0, time.Until(end)).Milliseconds()))
		if err != unix.EINTR {
			return p[0].Revents, err
		}
	}
}

// Close closes descriptors that this process has made; those of others are for [Discard].
func Close(fds ...int) {
	for _, fd := range fds {
		_ = unix.Close(fd)
	}
}

// Named is the name of a socket. The zero value is nobody's.
type Named struct {
	path string
	file os.FileInfo // as it was made; nil: it was gone at once
}

// Name remembers what a path leads to.
func Name(path string) Named {
	file, _ := os.Lstat(path)
	return Named{path, file}
}

// Found tells whether the name still leads to the same file.
func (n Named) Found() bool {
	now, err := os.Lstat(n.path)
	return err == nil && n.file != nil && os.SameFile(now, n.file)
}
