package watch

import (
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// openForWriting tells whether somebody has a file open for writing: a read
// lease is not given then. That it is not known counts as no. The lease is
// given back at once; who opens the file in between waits that long.
func openForWriting(path string) bool {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return false
	}
	defer f.Close()
	busy := false
	_ = fdpass.Control(f, func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
		if err == nil {
			_, err = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		}
		busy = err == unix.EAGAIN
		return err
	})
	return busy
}

// changed is the time of the last change to a file's inode.
func changed(st os.FileInfo) time.Time {
	sys := st.Sys().(*syscall.Stat_t)
	return time.Unix(int64(sys.Ctim.Sec), int64(sys.Ctim.Nsec))
}
