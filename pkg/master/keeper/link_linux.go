package keeper

import (
	"fmt"
	"net"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// link is a connection between a master and a keeper.
type link struct {
	*fdpass.Conn
	pid, uid int      // of the other side
	process  *os.File // its pidfd; nil: the kernel gives none
}

func newLink(c *net.UnixConn) (*link, error) {
	conn, err := fdpass.New(c, maxFrame, maxFDs)
	if err != nil {
		return nil, err
	}
	cred, err := fdpass.Peer(conn)
	if err != nil {
		return nil, err
	}
	l := &link{Conn: conn, uid: int(cred.Uid)}
	l.follow(int(cred.Pid))
	return l, nil
}

// follow says which process the other side is.
func (l *link) follow(pid int) {
	l.pid = pid
	l.release()
	if fd, err := unix.PidfdOpen(pid, 0); err == nil {
		l.process = os.NewFile(uintptr(fd), "pidfd")
	}
}

// release forgets the process.
func (l *link) release() {
	if l.process != nil {
		l.process.Close()
	}
}

// signal has the kernel send one to it.
func (l *link) signal(sig unix.Signal) {
	if l.process != nil {
		_ = fdpass.Control(l.process, func(fd int) error { return unix.PidfdSendSignal(fd, sig, nil, 0) })
	}
}

// kill tells the kernel to end it.
func (l *link) kill() { l.signal(unix.SIGKILL) }

// gone waits for its end; it is true too where that cannot be known.
func (l *link) gone(limit time.Duration) bool {
	is := true
	if l.process != nil {
		_ = fdpass.Control(l.process, func(fd int) error {
			events, err := fdpass.Ready(fd, unix.POLLIN, limit)
			is = events != 0
			return err
		})
	}
	return is
}

// packet is what came with one read.
type packet struct {
	frame
	fds []int
	cut bool // descriptors were lost: this process may open no more
}

func (p *packet) close() {
	fdpass.Discard(p.fds...)
	p.fds = nil
}

// receive waits for a packet. After an error the other side is not to be
// believed any more.
func (l *link) receive() (packet, error) {
	got, err := l.Receive()
	if err != nil {
		return packet{}, err
	}
	p := packet{fds: got.FDs, cut: got.Lost}
	if got.Long {
		err = fmt.Errorf("a frame of more than %d bytes", maxFrame)
	} else {
		p.frame, err = decode(got.Data)
	}
	if err != nil {
		p.close()
	}
	return p, err
}

// send gives a packet to the kernel, whole or not at all, and waits for room
// until the limit.
func (l *link) send(limit time.Duration, f frame, fds ...int) error {
	return l.Send(limit, f.encode(), fds...)
}
