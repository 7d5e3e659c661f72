package ipc

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// sealed is what memory must have before somebody else relies on it: it can
// neither change nor shrink, so that a mapping of it never faults, and nobody
// can take that back.
const sealed = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// NewMemory makes memory that is a file without a name, to be filled and then
// sealed. The name is for people who look into /proc.
func NewMemory(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate("masterd:"+name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return nil, fmt.Errorf("making memory to be shared: %w", os.NewSyscallError("memfd_create", err))
	}
	return os.NewFile(uintptr(fd), name), nil
}

// Seal makes what is in the memory its content for good.
func Seal(f *os.File) error {
	return fdpass.Control(f, func(fd int) error {
		_, err := unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, sealed)
		return os.NewSyscallError("fcntl F_ADD_SEALS", err)
	})
}

// CheckSealed says what keeps a descriptor from being sealed memory of this
// size that can be read. It never blocks, whatever the descriptor is.
func CheckSealed(fd int, size int64) error {
	// The seals come first: only memory has any, and asking what else it might
	// be (a file on a file system whose server hangs) could block.
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	switch {
	case err != nil:
		return errors.New("it is not memory that can be sealed (memfd_create with MFD_ALLOW_SEALING)")
	case seals&sealed != sealed:
		return errors.New("it is not sealed; it needs F_SEAL_SEAL, F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_WRITE")
	}
	flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
	if err != nil {
		return os.NewSyscallError("fcntl F_GETFL", err)
	}
	if flags&unix.O_ACCMODE == unix.O_WRONLY || flags&unix.O_PATH != 0 {
		return errors.New("its descriptor cannot be read from")
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	switch {
	case st.Mode&unix.S_IFMT != unix.S_IFREG:
		return errors.New("it is not memory")
	case st.Size != size:
		return fmt.Errorf("it has %d bytes, the message says %d", st.Size, size)
	}
	return nil
}
