package trust

import (
	"errors"
	"io/fs"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenDir opens a directory for what is done by its descriptor (openat and its kin). No
// other than root and the owners can put another one in its place, nor another thing
// in the place of what the owners have in it.
func (o Owners) OpenDir(dir string) (*os.File, error) {
	w := &walk{owners: o, look: os.Lstat}
	at, info, err := w.to(dir)
	if err == nil {
		err = w.inside(at, info)
	}
	if err != nil {
		return nil, err
	}
	return openReal(at, passFlags, 0)
}

// Open opens a regular file for reading that no other than root and the owners could
// have put there. What could wait for somebody, as a FIFO does, is refused at once.
func (o Owners) Open(path string) (*os.File, error) {
	return (&walk{owners: o, look: os.Lstat, file: true, open: true}).opened(path, unix.O_RDONLY, 0)
}

// Append opens a regular file for appending, and makes it if create is set. The
// directory may be somebody else's, as directories of logs often are: who may write
// there can take the file away, and lead nobody to another one by a link of any kind.
func (o Owners) Append(path string, create bool, mode fs.FileMode) (*os.File, error) {
	flags := unix.O_WRONLY | unix.O_APPEND
	if create {
		flags |= unix.O_CREAT
	}
	f, err := (&walk{owners: o, look: os.Lstat, file: true, open: true, loose: true}).opened(path, flags, mode)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || names(info) > 1 {
		_ = f.Close()
		return nil, refused("%s is a second name (a hard link) of a file that may be another's: it is not written to; move it away", path)
	}
	return f, nil
}

// opened looks before it opens: to open some devices is to do something.
func (w *walk) opened(path string, flags int, mode fs.FileMode) (*os.File, error) {
	at, info, err := w.to(path)
	if err != nil {
		return nil, err
	}
	irregular := &fs.PathError{Op: "open", Path: path, Err: errors.New("not a regular file")}
	switch {
	case info == nil: // it is not there
	case info.IsDir():
		return nil, &fs.PathError{Op: "open", Path: path, Err: unix.EISDIR}
	case !info.Mode().IsRegular():
		return nil, irregular
	}
	f, err := openReal(at, flags|unix.O_NONBLOCK, mode)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		_ = f.Close()
		return nil, irregular
	}
	return f, nil
}

// openReal opens what is there without following any link: what has become one since
// the path was walked to is an error.
func openReal(path string, flags int, mode fs.FileMode) (*os.File, error) {
	fail := func(err error) (*os.File, error) { return nil, &fs.PathError{Op: "open", Path: path, Err: err} }
	dir, err := unix.Open("/", passFlags, 0)
	if err != nil {
		return fail(err)
	}
	parts := strings.Split(strings.Trim(path, "/"), "/")
	last := len(parts) - 1
	for i, name := range parts {
		if name == "" { // of the root
			name = "."
		}
		fd, how := -1, passFlags
		if i == last {
			how = flags
		}
		fd, err = unix.Openat(dir, name, how|unix.O_NOFOLLOW|unix.O_CLOEXEC, uint32(mode.Perm()))
		_ = unix.Close(dir)
		if err != nil {
			return fail(err)
		}
		dir = fd
	}
	return os.NewFile(uintptr(dir), path), nil
}
