package master

import (
	"fmt"
	"net"
	"os"
	"syscall"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// answerFD has the master itself answer a connection that no worker can take.
func (m *Master) answerFD(o orphan) {
	f := os.NewFile(uintptr(o.fd), "orphan")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		m.log.Warn("a connection found in a queue cannot be answered", zap.String("listener", o.listener.Name), zap.Error(err))
		return
	}
	m.answerer().Take(c, speaksHTTP(m.cfg, called(o.listener, m.cfg)))
}

// descriptor is a connection's, as a descriptor of the caller's own.
func descriptor(c net.Conn) (int, error) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a connection of type %T has no descriptor", c)
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if cerr := raw.Control(func(old uintptr) { fd, err = unix.FcntlInt(old, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}
