package worker

import "golang.org/x/sys/unix"

// acceptNow accepts one connection from a non-blocking socket, or says EAGAIN.
func acceptNow(fd int) (int, error) {
	c, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	return c, err
}
