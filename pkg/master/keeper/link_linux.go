package keeper

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

// sendPause passes before a send is tried again for which the kernel had no room:
// too many descriptors are under way, or there is no memory.
const sendPause = 5 * time.Millisecond

// link is a connection between a master and a keeper.
type link struct {
	*net.UnixConn
	pid, uid int      // of the other side
	process  *os.File // its pidfd; nil: the kernel gives none
	sending  sync.Mutex
	buf      [maxFrame + 1]byte
}

func newLink(c *net.UnixConn) (*link, error) {
	l := &link{UnixConn: c}
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	if cerr := raw.Control(func(fd uintptr) { cred, err = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); cerr != nil {
		err = cerr
	}
	if err != nil {
		return nil, os.NewSyscallError("getsockopt SO_PEERCRED", err)
	}
	l.uid = int(cred.Uid)
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

// kill tells the kernel to end it.
func (l *link) kill() {
	l.byFD(func(fd int) { _ = unix.PidfdSendSignal(fd, unix.SIGKILL, nil, 0) })
}

// gone waits for its end; it is true too where that cannot be known.
func (l *link) gone(limit time.Duration) bool {
	deadline := time.Now().Add(limit)
	is := true
	l.byFD(func(fd int) {
		for {
			left := max(0, time.Until(deadline))
			n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, int(left.Milliseconds()))
			if is = n > 0; err == nil || left == 0 {
				return
			}
		}
	})
	return is
}

func (l *link) byFD(f func(fd int)) {
	if l.process == nil {
		return
	}
	if raw, err := l.process.SyscallConn(); err == nil {
		_ = raw.Control(func(fd uintptr) { f(int(fd)) })
	}
}

// packet is what came with one read.
type packet struct {
	frame
	fds []int
	cut bool // descriptors were lost: this process may open no more
}

func (p *packet) close() {
	ipc.Discard(p.fds...)
	p.fds = nil
}

// receive waits for a packet. After an error the other side is not to be
// believed any more.
func (l *link) receive() (packet, error) {
	var oob [128]byte
	for reset := false; ; {
		n, oobn, flags, _, err := l.ReadMsgUnix(l.buf[:], oob[:unix.CmsgSpace(4*maxFDs)])
		if errors.Is(err, unix.ECONNRESET) && !reset {
			// The other side went without reading all that we sent. The kernel says
			// so once, before it hands out what the other side had sent.
			reset = true
			continue
		}
		p := packet{fds: rights(oob[:oobn]), cut: flags&unix.MSG_CTRUNC != 0}
		switch {
		case err != nil:
		case n == 0: // nobody sends an empty packet
			err = io.EOF
		case flags&unix.MSG_TRUNC != 0 || n > maxFrame:
			err = fmt.Errorf("a frame of more than %d bytes", maxFrame)
		default:
			p.frame, err = decode(l.buf[:n])
		}
		if err != nil {
			p.close()
		}
		return p, err
	}
}

func rights(oob []byte) (fds []int) {
	messages, err := unix.ParseSocketControlMessage(oob)
	if err != nil {
		return nil
	}
	for i := range messages {
		if got, err := unix.ParseUnixRights(&messages[i]); err == nil {
			fds = append(fds, got...)
		}
	}
	return fds
}

// send gives a packet to the kernel, whole or not at all, and waits for room
// until the limit.
func (l *link) send(limit time.Duration, f frame, fds ...int) error {
	l.sending.Lock()
	defer l.sending.Unlock()
	var oob []byte
	if len(fds) > 0 {
		oob = unix.UnixRights(fds...)
	}
	deadline := time.Now().Add(limit)
	if err := l.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for {
		_, _, err := l.WriteMsgUnix(f.encode(), oob, nil)
		crowded := errors.Is(err, unix.ETOOMANYREFS) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
		if !crowded || time.Now().After(deadline) {
			return err
		}
		time.Sleep(sendPause)
	}
}
