package logs

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// aloneLimit is how much of a stream may wait for the next master, in bytes; then
// the last backlogKeep of it are left.
const aloneLimit = 8 << 20

// Bound gives space back of the outputs in a collector's directory that nobody has
// read for long, oldest bytes first. It is for whoever is there while no master
// is: a worker that writes much must not fill the memory that the files are in.
// It takes nothing else but what is outside of all output, and needs no room; what cannot be done is left.
func Bound(dir string) {
	for _, suffix := range []string{"out", "err"} {
		paths, _ := filepath.Glob(filepath.Join(dir, "w*."+suffix))
		for _, path := range paths {
			bound(path)
		}
	}
}

func bound(path string) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	var st unix.Stat_t
	if unix.Fstat(fd, &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFREG {
		return
	}
	first, err := f.Seek(0, unix.SEEK_DATA)
	if err != nil {
		first = st.Size // nothing but holes
	}
	if end := (st.Size - backlogKeep) / pageSize * pageSize; st.Size-first > aloneLimit {
		_ = punch(fd, 0, end)
		first = end
	}
	giveBackOutside(fd, &st, first)
}

// strayLimit is how much an output may have beyond what is to be read of it, in bytes:
// parts of pages at both ends, which are huge on some file systems. More is not written
// output: it was reserved behind the end, where it counts in no size, or written again
// before what was read. A file system on a disk reserves by itself what a growing file
// may need next, so it is given more there.
const (
	strayLimit       = 4 << 20
	strayLimitOnDisk = backlogLimit
)

// giveBackOutside frees what an output has outside of [from, its size). It returns how
// much that was, where only its worker can have done it. Lines that are written between
// st and now are lost with it.
func giveBackOutside(fd int, st *unix.Stat_t, from int64) int64 {
	const block = 512 // of st_blocks, whatever the file system's own are
	over := st.Blocks*block - (st.Size - from)
	if over <= strayLimit {
		return 0
	}
	memory := inMemory(fd)
	if !memory && over <= strayLimitOnDisk {
		return 0
	}
	_ = punch(fd, 0, from/pageSize*pageSize)
	_ = unix.Ftruncate(fd, st.Size)
	if !memory {
		return 0
	}
	return over
}
