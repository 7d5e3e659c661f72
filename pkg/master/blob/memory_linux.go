package blob

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Release closes a blob's descriptor, beside the caller: giving back a large piece of
// memory takes milliseconds.
func Release(fd int) { fdpass.Discard(fd) }

// read fills the slice with the content, whatever the offset that the
// descriptor's other holders have left.
func read(fd int, into []byte) error {
	for at := 0; at < len(into); {
		n, err := unix.Pread(fd, into[at:], int64(at))
		switch {
		case err == unix.EINTR:
		case err != nil:
			return os.NewSyscallError("pread", err)
		case n == 0:
			return fmt.Errorf("its memory ends after %d of %d bytes: %w", at, len(into), io.ErrUnexpectedEOF)
		}
		at += max(n, 0)
	}
	return nil
}
