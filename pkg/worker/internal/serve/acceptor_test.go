//go:build linux

package serve

import (
	"net"
	"testing"

	"github.com/masterd/masterd/pkg/worker/internal/workertest"
)

// Also where nothing is drained before, and where accepting had stopped already.
func TestBlockingSocketIsClosed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for _, paused := range []bool{false, true} {
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		shared, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		a, err := newAcceptor(shared.(Socket), func(c net.Conn) net.Conn { return c }, workertest.DiscardLog())
		if err != nil {
			t.Fatal(err)
		}
		if paused {
			a.pause()
		}
		workertest.SetBlocking(t, ln)
		ended := make(chan error)
		go func() {
			_, err := a.Accept()
			ended <- err
		}()
		if paused {
			if taken, err := a.take(); len(taken) != 0 || err != nil {
				t.Error(len(taken), err)
			}
		} else {
			workertest.AcceptsInKernel(t)
		}
		if err := a.Close(); err != nil {
			t.Error(err)
		}
		if err := workertest.Comes(t, ended); err != net.ErrClosed {
			t.Error(err)
		}
	}
}
