package fdpass

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// retryFirst and retryMost bound the wait between two attempts when the kernel is
	// out of buffers or has too many descriptors in flight.
	retryFirst = time.Millisecond
	retryMost  = 50 * time.Millisecond
	// firstBuffer is the receive buffer, in bytes, until a longer packet comes. Nearly
	// all packets are a few hundred bytes, and a master has a buffer for each worker.
	firstBuffer = 2 << 10
	// smallPacket is how long the largest packet of a connection may be that has the
	// room for it from the start, and so does not ask for the length of each.
	smallPacket = 8 << 10
)

// Conn is one connection of packets (SOCK_SEQPACKET): each arrives whole, with its
// descriptors. Send may be called by several goroutines at once, Receive by one; Close by
// any.
type Conn struct {
	conn   *net.UnixConn
	raw    syscall.RawConn
	closed chan struct{} // ends the waits of a Send
	once   sync.Once

	// send makes the write deadline belong to one Send: were it shared, each new Send
	// would prolong the wait of the one that is stuck.
	send sync.Mutex

	// Receive's, made by the first: most connections of a flood never get so far.
	bytes, fds int
	buf, oob   []byte
}

// New makes a Conn of a connection, for packets of so many bytes and descriptors.
func New(c *net.UnixConn, bytes, fds int) (*Conn, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	return &Conn{conn: c, raw: raw, closed: make(chan struct{}), bytes: bytes, fds: fds}, nil
}

// Packet is what one Send of the other side has sent.
type Packet struct {
	Data []byte // until the next Receive; of one that was too long some of it
	FDs  []int  // close-on-exec, the caller's to close
	Long bool   // there was more than the limit of bytes
	Lost bool   // the kernel dropped descriptors: beyond the limit, or this process may open no more
}

// Send sends one packet, whole or not at all. The descriptors stay the caller's, who may
// close them as soon as Send has returned. It waits for a peer that does not read, and for
// a kernel that is out of room, until the limit has passed.
func (c *Conn) Send(limit time.Duration, p []byte, fds ...int) error {
	var rights []byte
	if len(fds) > 0 {
		rights = unix.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	deadline := time.Now().Add(limit)
	if err := c.conn.SetWriteDeadline(deadline); err != nil {
		return err
	}
	for wait := retryFirst; ; wait = min(2*wait, retryMost) {
		_, _, err := c.conn.WriteMsgUnix(p, rights, nil)
		switch {
		case err == nil:
			return nil
		case c.isClosed():
			return net.ErrClosed
		case !isTransient(err) || time.Now().Add(wait).After(deadline):
			return err
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-c.closed:
			timer.Stop()
			return net.ErrClosed
		}
	}
}

// isTransient says that the same send may succeed a moment later.
func isTransient(err error) bool {
	return errors.Is(err, unix.ETOOMANYREFS) || errors.Is(err, unix.ENOBUFS) || errors.Is(err, unix.ENOMEM)
}

// Receive waits for the next packet. On error every descriptor that came has been
// discarded. The end of the connection is an error that is io.EOF, and an empty packet is
// the end; after Close here it is net.ErrClosed.
func (c *Conn) Receive() (Packet, error) {
	for reset := false; ; reset = true {
		n, oobn, flags := 0, 0, 0
		size, err := c.nextSize()
		if err == nil {
			c.grow(size)
			n, oobn, flags, _, err = c.conn.ReadMsgUnix(c.buf, c.oob)
		}
		fds := rightsIn(c.oob[:max(oobn, 0)])
		if err == nil {
			long := flags&unix.MSG_TRUNC != 0 || n > c.bytes
			return Packet{Data: c.buf[:n], FDs: fds, Long: long, Lost: flags&unix.MSG_CTRUNC != 0}, nil
		}
		DiscardWait(nil, fds...) // a peer that makes it hang is not read from meanwhile
		switch {
		case c.isClosed():
			return Packet{}, net.ErrClosed
		case !errors.Is(err, unix.ECONNRESET) || reset:
			return Packet{}, err
		}
		// The other side left without reading all that we sent. The kernel says so once,
		// before it hands out what the other side had sent: the reason of a reject, perhaps.
	}
}

// nextSize waits for a packet and says how long it is without taking it. That is not
// asked where any has room.
func (c *Conn) nextSize() (n int, err error) {
	if c.bytes < smallPacket {
		return c.bytes + 1, nil
	}
	rerr := c.raw.Read(func(fd uintptr) bool {
		for {
			n, _, err = unix.Recvfrom(int(fd), nil, unix.MSG_PEEK|unix.MSG_TRUNC)
			if err != unix.EINTR {
				return err != unix.EAGAIN
			}
		}
	})
	if rerr != nil {
		return 0, rerr
	}
	return n, os.NewSyscallError("recvfrom", err)
}

// grow makes room for a packet of size bytes. One byte more than the largest allowed is
// enough to see that one is too long.
func (c *Conn) grow(size int) {
	if c.oob == nil {
		c.oob = make([]byte, unix.CmsgSpace(4*c.fds))
	}
	if c.buf != nil && size <= len(c.buf) {
		return
	}
	room := firstBuffer
	for room < size {
		room *= 2
	}
	c.buf = make([]byte, min(room, c.bytes+1))
}

// SetReadDeadline makes Receive fail with an error that is os.ErrDeadlineExceeded at t;
// the zero time means never.
func (c *Conn) SetReadDeadline(t time.Time) error { return c.conn.SetReadDeadline(t) }

// SyscallConn is for options and questions, as those of [Control] and [Peer].
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// Close ends the connection: a Send or Receive under way fails, the other side sees the
// end. It may be called more than once, and does not wait.
func (c *Conn) Close() error {
	c.once.Do(func() {
		close(c.closed)
		CloseConn(c.conn)
	})
	return nil
}

func (c *Conn) isClosed() bool {
	select {
	case <-c.closed:
		return true
	default:
		return false
	}
}

// ReadStream reads from a Unix stream with the descriptors that come, which are the
// caller's, also with an error. The end is io.EOF.
func ReadStream(c *net.UnixConn, p []byte) (n int, fds []int, err error) {
	oob := make([]byte, unix.CmsgSpace(4*maxRights))
	n, oobn, _, _, err := c.ReadMsgUnix(p, oob)
	if errors.Is(err, io.EOF) {
		err = io.EOF // which net wraps here
	}
	return max(n, 0), rightsIn(oob[:max(oobn, 0)]), err // -1 with an error: bufio panics of it
}

// ConnOf makes a connection of a descriptor, which it takes over, also on error.
func ConnOf(fd int) (net.Conn, error) {
	// os.NewFile finds it non-blocking already, so that net.FileConn's call of Fd does not
	// make it blocking for everybody who shares it (golang/go#29277).
	if err := syscall.SetNonblock(fd, true); err != nil {
		Discard(fd)
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "connection")
	c, err := net.FileConn(f) // a duplicate
	if err != nil {
		closeLater(func() { _ = f.Close() }) // it may be anything
		return nil, err
	}
	_ = f.Close()
	return c, nil
}
