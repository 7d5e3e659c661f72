package traffic

import (
	"fmt"
	"net"
	"syscall"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// answerFD has the master itself answer a connection that no worker can take.
func (t *Router) answerFD(o unaccepted) {
	c, err := fdpass.ConnOf(o.fd)
	if err != nil {
		t.Log.Warn("a connection found in a queue cannot be answered", zap.String("listener", o.listener.Name),
			zap.Error(err))
		return
	}
	t.answerer().Take(c, speaksHTTP(t.Master.InForce(), called(o.listener, t.Master.InForce())))
}

// descriptor is a connection's, as a descriptor of the caller's own.
func descriptor(c net.Conn) (int, error) {
	s, ok := c.(syscall.Conn)
	if !ok {
		return -1, fmt.Errorf("a connection of type %T has no descriptor", c)
	}
	return fdpass.DuplicateOf(s)
}
