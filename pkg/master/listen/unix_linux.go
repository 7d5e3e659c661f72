package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
)

// maxPath is what the kernel takes as a Unix socket's path, in bytes.
const maxPath = 107

// fileID tells whether two names are one file.
type fileID struct{ dev, inode uint64 }

// identifyFile tells what a name is; kind is of its mode, as unix.S_IFSOCK.
func identifyFile(path string) (id fileID, kind uint32, err error) {
	var st unix.Stat_t
	if err := unix.Lstat(path, &st); err != nil {
		return fileID{}, 0, &os.PathError{Op: "lstat", Path: path, Err: err}
	}
	return fileID{uint64(st.Dev), st.Ino}, st.Mode & unix.S_IFMT, nil
}

// hiddenName is where a slot's socket is bound: beside the public path, as
// link and rename do not cross file systems.
func hiddenName(path, suffix string) string {
	return filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+"."+suffix)
}

// hiddenName is that of socket i; own is the index of the master's.
func (l *listener) hiddenName(i, own int) string {
	suffix := strconv.Itoa(i)
	if i == own {
		suffix = "own"
	}
	return hiddenName(l.conf.Path, suffix)
}

// openUnix opens a listener on a path. The master's own socket is the first to
// be seen there.
func (o opener) openUnix(c config.Listener) (*listener, error) {
	who, err := accessOf(c)
	if err != nil {
		return nil, err
	}
	l := &listener{conf: c, system: o.system, manned: make([]bool, o.slots), steering: link, access: who}
	n := o.slots + 1
	if c.Steering == shared {
		l.steering, l.reason, n = shared, sharedReason, 1
	}
	if longest := hiddenName(c.Path, strconv.Itoa(maxSlots)); len(longest) > maxPath {
		return nil, fmt.Errorf("the path has %d bytes, at most %d are possible: each slot has a name beside it that is %d longer",
			len(c.Path), maxPath-(len(longest)-len(c.Path)), len(longest)-len(c.Path))
	}
	if err := claim(c.Path); err != nil {
		return nil, err
	}
	for i := range n {
		s := &socket{fd: -1, hidden: l.hiddenName(i, n-1)}
		err := claim(s.hidden)
		if err == nil {
			if err = remove(s.hidden); err == nil {
				err = l.bind(s)
			}
		}
		if err != nil {
			l.close()
			return nil, err
		}
		l.sockets = append(l.sockets, s)
	}
	if err := l.show(l.own()); err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// claim proves that a path may be taken: nothing is there, or the socket of
// somebody dead. Whatever else is there is not ours to touch.
func claim(path string) error {
	_, kind, err := identifyFile(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the path: %w", err)
	case kind != unix.S_IFSOCK:
		return fmt.Errorf("%s is %s and not a socket; it is left alone: move it away or choose another path", path, nameOf(kind))
	}
	fd, err := streamSocket(unix.AF_UNIX)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
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
	table, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(table)) {
		f := strings.Fields(line)
		if len(f) == 8 && f[7] == path {
			inode, _ := strconv.ParseUint(f[6], 10, 64)
			if pid := processWith(inode); pid != 0 {
				return processName(pid)
			}
			return ""
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

// bind makes the socket listen under its hidden name. Nobody can connect
// before mode and group are what they should be.
func (l *listener) bind(s *socket) (err error) {
	if s.fd, err = streamSocket(unix.AF_UNIX); err != nil {
		return err
	}
	if err := l.bindTo(s); err != nil {
		_ = unix.Close(s.fd)
		s.fd = -1
		return err
	}
	return nil
}

// bindTo is bind for a socket that is there.
func (l *listener) bindTo(s *socket) (err error) {
	if err := unix.Bind(s.fd, &unix.SockaddrUnix{Name: s.hidden}); err != nil {
		return fmt.Errorf("binding %s: %w", s.hidden, err)
	}
	if s.file, _, err = identifyFile(s.hidden); err != nil {
		return fmt.Errorf("looking at a socket just bound: %w", err)
	}
	s.inode, s.broken = inodeOf(s.fd), false
	if err := l.access.permit(s.hidden); err != nil {
		_ = remove(s.hidden)
		return err
	}
	if err := unix.Listen(s.fd, l.conf.Backlog); err != nil {
		_ = remove(s.hidden)
		return fmt.Errorf("listening on %s: %w", s.hidden, err)
	}
	return nil
}

// access is who may connect.
type access struct {
	mode uint32
	gid  int // -1: of a listener that has no path
}

// accessOf looks the group up. None configured means the one that a socket has which
// is made there, and not whatever it was given before.
func accessOf(c config.Listener) (access, error) {
	a := access{mode: c.Mode, gid: -1}
	if c.Network != "unix" {
		return a, nil
	}
	if c.Group == "" {
		a.gid = unix.Getegid()
		var dir unix.Stat_t
		if unix.Stat(filepath.Dir(c.Path), &dir) == nil && dir.Mode&unix.S_ISGID != 0 {
			a.gid = int(dir.Gid)
		}
		return a, nil
	}
	g, err := user.LookupGroup(c.Group)
	if err != nil {
		return a, fmt.Errorf("group %s: %w", c.Group, err)
	}
	if a.gid, err = strconv.Atoi(g.Gid); err != nil {
		return a, fmt.Errorf("group %s has id %s", c.Group, g.Gid)
	}
	return a, nil
}

// permit sets mode and group.
func (a access) permit(path string) error {
	if a.gid >= 0 {
		if err := os.Lchown(path, -1, a.gid); err != nil {
			return fmt.Errorf("giving the socket to group %d (the master must be root or a member): %w", a.gid, err)
		}
	}
	if err := os.Chmod(path, fs.FileMode(a.mode)); err != nil {
		return fmt.Errorf("setting the socket's mode to %#o: %w", a.mode, err)
	}
	return nil
}

// strayed tells whether mode or group of a path are other than they should be:
// somebody has changed them by hand.
func (a access) strayed(path string) bool {
	var st unix.Stat_t
	return unix.Lstat(path, &st) == nil && (st.Mode&0o7777 != a.mode || int(st.Gid) != a.gid)
}

// permit sets mode and group of all sockets; the public path is one of them.
func (l *listener) permit(a access) error {
	for _, s := range l.sockets {
		if err := a.permit(s.hidden); err != nil && !s.broken {
			return err
		}
	}
	return nil
}

// show makes socket i the one that the public path leads to. A rename alone
// would take the hidden name away, and there would be no way back.
func (l *listener) show(i int) error {
	s := l.sockets[i]
	if public, kind, err := identifyFile(l.conf.Path); err == nil {
		if public == s.file {
			l.front = i
			return nil
		}
		if kind != unix.S_IFSOCK {
			return fmt.Errorf("%s has become %s; it is left alone: move it away", l.conf.Path, nameOf(kind))
		}
	}
	if s.broken {
		return fmt.Errorf("the socket of slot %d was shut down by a worker", i)
	}
	temporary := hiddenName(l.conf.Path, "new")
	if err := remove(temporary); err != nil {
		return err
	}
	if err := os.Link(s.hidden, temporary); err != nil {
		return fmt.Errorf("linking: %w", err)
	}
	if err := os.Rename(temporary, l.conf.Path); err != nil {
		return errors.Join(fmt.Errorf("putting the socket in place: %w", err), remove(temporary))
	}
	l.front = i
	if l.access.strayed(l.conf.Path) {
		_ = l.access.permit(l.conf.Path) // else the next look at the path says why not
	}
	return remove(temporary) // still there if both names were one file already
}

// heaviest picks the slot for all connections; of equals, the one that has them.
func (l *listener) heaviest(shares []Share) int {
	if len(shares) == 0 {
		return l.own()
	}
	best := shares[0]
	for _, s := range shares[1:] {
		if s.Weight > best.Weight || s.Weight == best.Weight && s.Slot == l.front {
			best = s
		}
	}
	return best.Slot
}

// shown tells whether the public path leads where it should.
func (l *listener) shown() bool {
	public, _, err := identifyFile(l.conf.Path)
	return err == nil && public == l.sockets[l.front].file
}

// hide removes the names that are ours.
func (l *listener) hide() {
	public, _, err := identifyFile(l.conf.Path)
	for _, s := range l.sockets {
		if err == nil && public == s.file {
			_ = remove(l.conf.Path)
		}
		if at, _, err := identifyFile(s.hidden); err == nil && at == s.file {
			_ = remove(s.hidden)
		}
	}
}

// remove removes a name; that it is gone already is as good.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing: %w", err)
	}
	return nil
}
