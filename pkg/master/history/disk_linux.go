package history

import "golang.org/x/sys/unix"

// sizeOfDisk is the size of the file system that a directory is in, in bytes; zero: it
// is not known.
func sizeOfDisk(dir string) int64 {
	var st unix.Statfs_t
	if unix.Statfs(dir, &st) != nil {
		return 0
	}
	return int64(st.Blocks) * st.Bsize
}
