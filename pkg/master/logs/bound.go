package logs

import (
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// aloneLimit is how much of a stream may wait for the next master, in bytes; then
// the last backlogKeep of it are left.
const aloneLimit = 8 << 20

// Bound gives space back of the outputs in a room's directory that nobody has
// read for long, oldest bytes first. It is for whoever is there while no master
// is: a worker that writes much must not fill the memory that the files are in.
// It takes nothing else, and needs no room; what cannot be done is left.
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
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() {
		return
	}
	first, err := f.Seek(0, unix.SEEK_DATA)
	if end := (info.Size() - backlogKeep) / pageSize * pageSize; err == nil && info.Size()-first > aloneLimit {
		_ = punch(fd, 0, end)
	}
}
