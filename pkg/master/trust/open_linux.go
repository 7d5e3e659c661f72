package trust

import "golang.org/x/sys/unix"

// passFlags open a directory that one may perhaps only pass through.
const passFlags = unix.O_PATH | unix.O_DIRECTORY | unix.O_CLOEXEC
