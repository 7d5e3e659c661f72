package serve

import (
	"os"
	"strconv"

	"golang.org/x/sys/unix"
)

// acceptNow accepts one connection from a non-blocking socket, or says EAGAIN.
func acceptNow(fd int) (int, error) {
	c, _, err := unix.Accept4(fd, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
	return c, err
}

// reenter has each thread that waits in the kernel begin its call anew, which looks at the
// mode of the socket again. The signal is the one by which the runtime interrupts
// goroutines: it is handled everywhere, and means nothing to whom it was not meant for.
func reenter() {
	threads, _ := os.ReadDir("/proc/self/task")
	for _, t := range threads {
		if id, err := strconv.Atoi(t.Name()); err == nil {
			unix.Tgkill(os.Getpid(), id, unix.SIGURG)
		}
	}
}
