package load

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// bindLate makes a bound source address take its port at connect, when the
// kernel knows the other end: ports in use towards other ends are free then.
func bindLate(_, _ string, c syscall.RawConn) error {
	var inner error
	err := c.Control(func(fd uintptr) {
		inner = unix.SetsockoptInt(int(fd), unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	})
	if err != nil {
		return err
	}
	return inner
}
