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

// inMemory tells whether a file is in a tmpfs.
func inMemory(fd int) bool {
	var fs unix.Statfs_t
	return unix.Fstatfs(fd, &fs) == nil && fs.Type == unix.TMPFS_MAGIC
}
