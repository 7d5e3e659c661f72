//go:build !linux

package trust

import "golang.org/x/sys/unix"

const passFlags = unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC
