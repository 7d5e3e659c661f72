//go:build linux

package session

import (
	"net"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// What is passed on comes to its end when the worker closes it, however many closes of
// what others have sent hang meanwhile: a client waits for it, and so does a check.
func TestAPassedConnectionEndsHoweverManyClosesHang(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() {
		close(hang)
		for now, _ := fdpass.Closing(); now > 0; now, _ = fdpass.Closing() {
			time.Sleep(time.Millisecond)
		}
	})
	_, most := fdpass.Closing()
	for range most {
		c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		raw, err := c.SyscallConn()
		if err != nil {
			t.Fatal(err)
		}
		used := make(chan struct{})
		go raw.Read(func(uintptr) bool { close(used); <-hang; return true })
		<-used
		fdpass.CloseConn(c) // it waits for that read
	}
	h := newHouse(t)
	e := h.expect()
	p := h.join(e, ipc.StateNew)
	r, w := pipe(t)
	if err := e.Conn("http", "check", w); err != nil {
		t.Fatal(err)
	}
	_, fds := p.hear(ipc.TypeConn)
	closeFDs(fds)
	wantClosed(t, r)
}
