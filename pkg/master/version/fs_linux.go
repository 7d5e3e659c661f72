package version

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

const writebackStep = 4 << 20 // bytes after which the disk is set to work while the rest is still being read

func changeTime(st *syscall.Stat_t) int64 { return st.Ctim.Nano() }

// reflink makes dst share src's blocks until either is written: no byte is
// moved. Only some file systems can (btrfs, xfs, bcachefs), within themselves.
func reflink(dst, src *os.File) error {
	return fdpass.Control(dst, func(to int) error {
		return fdpass.Control(src, func(from int) error { return unix.IoctlFileClone(to, from) })
	})
}

// startWriteback makes the kernel write out a piece of f now, so that the sync
// at the end has little left to wait for. A hint: failing changes nothing.
func startWriteback(f *os.File, offset, n int64) {
	_ = fdpass.Control(f, func(fd int) error {
		return unix.SyncFileRange(fd, offset, n, unix.SYNC_FILE_RANGE_WRITE)
	})
}

// hasWriter tells whether another process has f open for writing: what is in
// it now may be half of a program. The kernel answers by refusing a read lease,
// which only the owner of the file (or root) may ask for; others get no answer
// and are told false. The lease is given back at once: held, it would delay
// whoever wants to write.
func hasWriter(f *os.File) bool {
	busy := false
	_ = fdpass.Control(f, func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_RDLCK)
		busy = errors.Is(err, unix.EAGAIN)
		if err == nil {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETLEASE, unix.F_UNLCK)
		}
		return nil
	})
	return busy
}

// hasCapabilities tells whether exec of this file gives privileges by its
// security.capability attribute.
func hasCapabilities(f *os.File) bool {
	found := false
	_ = fdpass.Control(f, func(fd int) error {
		n, err := unix.Fgetxattr(fd, "security.capability", nil)
		found = err == nil && n > 0
		return nil
	})
	return found
}

// noExec tells whether nothing below dir can be executed because of how its
// file system is mounted.
func noExec(dir string) bool {
	var st unix.Statfs_t
	return unix.Statfs(dir, &st) == nil && st.Flags&unix.ST_NOEXEC != 0
}
