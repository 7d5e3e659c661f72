package listen

import (
	"fmt"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// socket is one listening socket of ours. Its descriptor is a plain number and
// never an os.File: that would clear O_NONBLOCK, which every process holding
// the socket shares.
type socket struct {
	fd     int
	inode  uint64
	hidden string // of a Unix socket: the name it is bound under
	file   fileID // of a Unix socket: what that name is
	broken bool   // a Unix socket that somebody shut down: it cannot listen again
	fell   bool   // somebody has shut it down, and it was made to listen again
	owner  uint64 // the generation that was given it; see fresh_linux.go

	token  int32 // of its registration with the watcher; zero: none
	events uint32
}

// duplicate makes a descriptor for a worker.
func duplicate(fd int) (int, error) {
	n, err := fdpass.Duplicate(fd)
	if err != nil {
		return -1, fmt.Errorf("duplicating a listening socket: %w", err)
	}
	return n, nil
}
