package master

import (
	"net"
	"os"

	"go.uber.org/zap"
)

// answerFD has the master itself answer a connection that no worker can take.
func (m *Master) answerFD(o orphan) {
	f := os.NewFile(uintptr(o.fd), "orphan")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		m.log.Warn("a connection found in a queue cannot be answered", zap.String("listener", o.listener), zap.Error(err))
		return
	}
	m.answers.Take(c, speaksHTTP(m.cfg, o.listener))
}
