package logs

import "golang.org/x/sys/unix"

// punch makes a hole: the bytes keep their place and lose their space.
func punch(fd int, from, size int64) error {
	for {
		err := unix.Fallocate(fd, unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, from, size)
		if err != unix.EINTR {
			return err
		}
	}
}
