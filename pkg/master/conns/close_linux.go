package conns

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// close ends the worker's side of a connection, unless something has come or gone meanwhile.
// The client sees the end between two requests, as from any server that closes a kept
// connection, and the program an end of file once the client has closed, too. It works on the
// socket itself, whoever else has it open.
func (x *Worker) close(ctx context.Context, d due) (closed bool, err error) {
	fd, err := copyOf(d.holder)
	switch {
	case errors.Is(err, unix.EPERM), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EACCES):
		return false, ErrNotAllowed
	case errors.Is(err, unix.EBADF), errors.Is(err, unix.ESRCH), errors.Is(err, unix.EINVAL):
		x.heldAt = time.Time{} // closed just now, or its process has ended
		return false, nil
	case err != nil:
		return false, err
	}
	closed, is := d.shut(fd)
	x.discard(ctx, fd)
	if !is {
		x.strange++
		x.heldAt = time.Time{}
	}
	if closed {
		x.watch.mu.Lock()
		d.of.closing = true
		x.watch.mu.Unlock()
	}
	return closed, nil
}

// discard closes a copy. Others have made it: by now it may be the last descriptor of a socket
// that lingers, or be no socket at all. One that hangs ends the looks into this worker.
func (x *Worker) discard(ctx context.Context, fd int) {
	limit, cancel := context.WithTimeout(ctx, copyTime)
	defer cancel()
	fdpass.DiscardWait(limit.Done(), fd)
	if limit.Err() != nil && ctx.Err() == nil {
		x.strange = maxStrange + 1
	}
}

// copyOf takes a copy of a descriptor.
func copyOf(h holder) (fd int, err error) {
	pidfd, err := unix.PidfdOpen(h.pid, 0)
	if err != nil {
		return -1, err
	}
	defer unix.Close(pidfd)
	return unix.PidfdGetfd(pidfd, h.fd, 0)
}

// shut shuts the connection down if it is still as it was; is tells whether the descriptor is
// of that connection. Between the last look and the end nothing else is done: what comes then
// is lost.
func (d due) shut(fd int) (closed, is bool) {
	if cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE); err != nil || cookie != d.cookie {
		return false, false
	}
	if n, err := unix.IoctlGetInt(fd, unix.SIOCINQ); err != nil || n > 0 {
		return false, true
	}
	was := d.info
	now, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil || now.State != sockdiag.Established || now.Unacked > 0 || now.Notsent_bytes > 0 ||
		now.Bytes_received != was.Bytes_received || now.Bytes_sent != was.Bytes_sent {
		return false, true
	}
	return unix.Shutdown(fd, unix.SHUT_WR) == nil, true
}
