package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/trust"
)

// maxPath is what the kernel takes as a Unix socket's path, in bytes.
const maxPath = 107

// fileID tells whether two names are one file.
type fileID struct{ dev, inode uint64 }

// within has something done in a path's directory, by a descriptor of that. A directory
// where somebody else could put another thing in the place of a socket is refused each
// time: it may have been given away since, and what is done there as root is done to
// whatever has the name.
func within(path string, do func(dir int, name string) error) error {
	dir, err := trust.Own().OpenDir(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer dir.Close()
	return do(int(dir.Fd()), filepath.Base(path))
}

// file is what has a name, held by a descriptor that follows no link: what is done by
// it is done to that file, whatever has the name by then.
type file struct {
	fd   int
	id   fileID
	kind uint32 // of its mode, as unix.S_IFSOCK
	mode uint32 // the permissions
	gid  int
}

func openFile(dir int, name string) (f file, err error) {
	if f.fd, err = unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0); err != nil {
		return f, &os.PathError{Op: "open", Path: name, Err: err}
	}
	var st unix.Stat_t
	if err := unix.Fstat(f.fd, &st); err != nil {
		f.close()
		return f, &os.PathError{Op: "fstat", Path: name, Err: err}
	}
	f.id, f.kind, f.mode, f.gid = fileID{uint64(st.Dev), st.Ino}, st.Mode&unix.S_IFMT, st.Mode&0o7777, int(st.Gid)
	return f, nil
}

func (f file) close() { _ = unix.Close(f.fd) }

// path leads to the file for calls that take no descriptor.
func (f file) path() string { return "/proc/self/fd/" + strconv.Itoa(f.fd) }

// identifyFile tells what a name is.
func identifyFile(path string) (f file, err error) {
	err = within(path, func(dir int, name string) error {
		if f, err = openFile(dir, name); err == nil {
			f.close()
		}
		return err
	})
	f.fd = -1
	return f, err
}

// untrusted tells whether that is of a directory where somebody else could exchange
// sockets. Who is there already serves on: the directory was taken by an earlier masterd,
// or given away since.
func untrusted(err error) bool {
	_, ok := errors.AsType[trust.Refused](err)
	return ok
}

// claim proves that a path may be taken: nothing is there, or the socket of
// somebody dead. Whatever else is there is not ours to touch.
func claim(path string) error {
	return within(path, func(dir int, name string) error {
		f, err := openFile(dir, name)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return nil
		case err != nil:
			return fmt.Errorf("looking at the path: %w", err)
		}
		defer f.close()
		if f.kind != unix.S_IFSOCK {
			return fmt.Errorf("%s is %s and not a socket; it is left alone: move it away or choose another path", path,
				nameOf(f.kind))
		}
		return f.unused(path)
	})
}

// unused proves that nobody listens on a socket.
func (f file) unused(path string) error {
	fd, err := steer.Stream(unix.AF_UNIX)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: f.path()})
	switch {
	case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.ENOENT): // nobody listens, or it went just now
		return nil
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("cannot tell whether somebody listens on %s: connecting: %w", path, err)
	case err != nil && !errors.Is(err, unix.EAGAIN): // EAGAIN: somebody listens, and the queue is full
		return &taken{cause: fmt.Errorf("connecting to %s, to see whether it is in use: %w", path, err)}
	}
	return &taken{holder: peerOf(fd, path), cause: fmt.Errorf("%s: %w", path, unix.EADDRINUSE)}
}

// peerOf names who listens: the process that called listen, or if that is gone
// another one that holds the socket.
func peerOf(fd int, path string) string {
	if cred, err := unix.GetsockoptUcred(fd, unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil && cred.Pid > 0 {
		if unix.Kill(int(cred.Pid), 0) != unix.ESRCH {
			return processName(int(cred.Pid))
		}
	}
	all, _ := process.UnixSockets()
	for _, k := range all {
		if k.Path != path {
			continue
		}
		if pid := process.WithSocket(k.Inode); pid != 0 {
			return processName(pid)
		}
	}
	return ""
}

func nameOf(kind uint32) string {
	switch kind {
	case unix.S_IFREG:
		return "a regular file"
	case unix.S_IFDIR:
		return "a directory"
	case unix.S_IFLNK:
		return "a symbolic link"
	}
	return "something else"
}

// remove removes a name; that it is gone already is as good.
func remove(path string) error { return within(path, removeAt) }

func removeAt(dir int, name string) error {
	if err := unix.Unlinkat(dir, name, 0); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing %s: %w", name, err)
	}
	return nil
}
