package serve

import (
	"net"
	"sync"
)

// connQueue is a net.Listener for connections that were not accepted here, but
// passed by the master or taken from a queue that is about to close.
type connQueue struct {
	conns chan net.Conn // unbuffered: what was put in is being served
	done  chan struct{}
	once  sync.Once
}

func newConnQueue() *connQueue {
	return &connQueue{conns: make(chan net.Conn), done: make(chan struct{})}
}

// Put gives a connection to the server, or closes it when there is none left.
func (h *connQueue) Put(c net.Conn) {
	select {
	case h.conns <- c:
	case <-h.done:
		c.Close()
	}
}

func (h *connQueue) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *connQueue) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *connQueue) Addr() net.Addr { return loopbackAddr() }
