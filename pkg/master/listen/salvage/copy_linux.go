package salvage

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/process"
)

// copyOut copies the sockets out of a process, one after the other, each once,
// and closes those that are not taken. A process that is gone has none.
func copyOut(pid int, take func(inode uint64, fd int) bool) (err error) {
	handle := -1
	defer func() {
		gone := errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
		// One that nobody has waited for yet looks like another user's.
		if errors.Is(err, os.ErrPermission) && handle >= 0 {
			gone = steer.Readable(handle)
		}
		if handle >= 0 {
			_ = unix.Close(handle)
		}
		switch {
		case gone:
			err = nil
		case err != nil:
			err = fmt.Errorf("copying sockets out of process %d (it takes its user's rights, and CAP_SYS_PTRACE where Yama "+
				"forbids it): %w", pid, err)
		}
	}()
	if handle, err = unix.PidfdOpen(pid, 0); err != nil {
		return err
	}
	open, err := process.Sockets(pid)
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for number, inode := range open {
		if seen[inode] {
			continue
		}
		fd, err := unix.PidfdGetfd(handle, number, 0)
		switch {
		case errors.Is(err, unix.EBADF): // closed just now
			continue
		case err != nil:
			return err
		}
		// Another may have its number since.
		if steer.Inode(fd) != inode || !take(inode, fd) {
			fdpass.Discard(fd)
			continue
		}
		seen[inode] = true
	}
	return nil
}
