package listen

import (
	"errors"
	"fmt"
	"io/fs"
	"os/user"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

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
	l := &listener{conf: c, system: o.system, assigned: make([]bool, o.slots), steering: link}
	l.access = who
	n := o.slots + 1
	if c.Steering == shared {
		l.steering, l.reason, n = shared, sharedReason, 1
	}
	if longest := hiddenName(c.Path, strconv.Itoa(maxSlots)); len(longest) > maxPath {
		return nil, fmt.Errorf("the path has %d bytes, at most %d are possible: each slot has a name beside it that is "+
			"%d longer",
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

// bind makes the socket listen under its hidden name. Nobody can connect
// before mode and group are what they should be.
func (l *listener) bind(s *socket) (err error) {
	if s.fd, err = steer.Stream(unix.AF_UNIX); err != nil {
		return err
	}
	if err := l.bindTo(s); err != nil {
		_ = unix.Close(s.fd)
		s.fd = -1
		return err
	}
	return nil
}

// bindTo is bind for a socket that is there. bind(2) takes no descriptor of a directory, so
// the socket has its mode before it has a name (the umask can only take some away), what bind
// has made is looked for by the directory's descriptor, and the socket does not listen before
// mode and group are right.
func (l *listener) bindTo(s *socket) error {
	return within(s.hidden, func(dir int, name string) error {
		if err := unix.Fchmod(s.fd, l.access.mode); err != nil {
			return fmt.Errorf("setting the mode of a socket: %w", err)
		}
		if err := unix.Bind(s.fd, &unix.SockaddrUnix{Name: s.hidden}); err != nil {
			return fmt.Errorf("binding %s: %w", s.hidden, err)
		}
		f, err := openFile(dir, name)
		if err != nil {
			return fmt.Errorf("looking at a socket just bound: %w", err)
		}
		defer f.close()
		s.file, s.inode, s.broken = f.id, steer.Inode(s.fd), false
		err = l.access.permit(f)
		if err == nil {
			if err = unix.Listen(s.fd, l.conf.Backlog); err != nil {
				err = fmt.Errorf("listening on %s: %w", s.hidden, err)
			}
		}
		if err != nil {
			_ = unix.Unlinkat(dir, name, 0)
		}
		return err
	})
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
		_ = within(c.Path, func(dir int, _ string) error { // where it is not there, or refused, nothing is made
			var st unix.Stat_t
			if unix.Fstat(dir, &st) == nil && st.Mode&unix.S_ISGID != 0 {
				a.gid = int(st.Gid)
			}
			return nil
		})
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

// permit sets mode and group of a socket.
func (a access) permit(f file) error {
	if f.kind != unix.S_IFSOCK {
		return fmt.Errorf("the socket has become %s: it is left alone", nameOf(f.kind))
	}
	if a.gid >= 0 && a.gid != f.gid {
		if err := unix.Fchownat(f.fd, "", -1, a.gid, unix.AT_EMPTY_PATH); err != nil {
			return fmt.Errorf("giving the socket to group %d (the master must be root or a member): %w", a.gid, err)
		}
	}
	if a.mode != f.mode {
		if err := unix.Chmod(f.path(), a.mode); err != nil {
			return fmt.Errorf("setting the socket's mode to %#o: %w", a.mode, err)
		}
	}
	return nil
}

// permitAt is permit for the socket that has a name, if it is still that one.
func (a access) permitAt(path string, is fileID) error {
	return within(path, func(dir int, name string) error {
		f, err := openFile(dir, name)
		if err != nil {
			return err
		}
		defer f.close()
		if f.id != is {
			return fmt.Errorf("%s is not masterd's socket any more: it is left alone", path)
		}
		return a.permit(f)
	})
}

// strayed tells whether mode or group of a file are other than they should be:
// somebody has changed them by hand.
func (a access) strayed(f file) bool { return f.mode != a.mode || f.gid != a.gid }

// permit sets mode and group of all sockets; the public path is one of them.
func (l *listener) permit(a access) error {
	for _, s := range l.sockets {
		if err := a.permitAt(s.hidden, s.file); err != nil && !s.broken {
			return err
		}
	}
	return nil
}

// show makes socket i the one that the public path leads to. A rename alone
// would take the hidden name away, and there would be no way back.
func (l *listener) show(i int) error {
	if l.unknown {
		if err := l.identify(); err != nil {
			return err
		}
	}
	s := l.sockets[i]
	return within(l.conf.Path, func(dir int, name string) error {
		if public, err := openFile(dir, name); err == nil {
			public.close()
			if public.id == s.file {
				l.front = i
				return nil
			}
			if public.kind != unix.S_IFSOCK {
				return fmt.Errorf("%s has become %s; it is left alone: move it away", l.conf.Path, nameOf(public.kind))
			}
		}
		if s.broken {
			return fmt.Errorf("the socket of slot %d was shut down by a worker", i)
		}
		temporary := filepath.Base(hiddenName(name, "new"))
		if err := removeAt(dir, temporary); err != nil {
			return err
		}
		if err := unix.Linkat(dir, filepath.Base(s.hidden), dir, temporary, 0); err != nil {
			return fmt.Errorf("linking %s: %w", s.hidden, err)
		}
		if err := unix.Renameat(dir, temporary, dir, name); err != nil {
			return errors.Join(fmt.Errorf("putting the socket in place: %w", err), removeAt(dir, temporary))
		}
		l.front = i
		if f, err := openFile(dir, name); err == nil {
			if f.id == s.file && l.access.strayed(f) {
				_ = l.access.permit(f) // else the next look at the path says why not
			}
			f.close()
		}
		return removeAt(dir, temporary) // still there if both names were one file already
	})
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

// identify finds out where the names of a listener lead that was taken over. In a
// directory that is not trusted it does not, and nothing is changed.
func (l *listener) identify() error {
	public, err := identifyFile(l.conf.Path)
	if untrusted(err) {
		return err
	}
	front := l.own() // the path was taken away: it is put back
	for i, k := range l.sockets {
		f, err := identifyFile(k.hidden)
		if untrusted(err) {
			return err
		}
		if err != nil || f.kind != unix.S_IFSOCK || k.broken {
			k.broken = true // nobody could be led to it again; its next worker gets a new one
			continue
		}
		if k.file = f.id; f.id == public.id {
			front = i
		}
	}
	l.front, l.unknown = front, false
	return nil
}

// shown tells whether the public path leads where it should, to what it leads, and
// why that cannot be told.
func (l *listener) shown() (bool, file, error) {
	public, err := identifyFile(l.conf.Path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, public, nil
	}
	return err == nil && public.id == l.sockets[l.front].file, public, err
}

// hide removes the names that are ours.
func (l *listener) hide() {
	public, err := identifyFile(l.conf.Path)
	for _, s := range l.sockets {
		if err == nil && public.id == s.file {
			_ = remove(l.conf.Path)
		}
		if at, err := identifyFile(s.hidden); err == nil && at.id == s.file {
			_ = remove(s.hidden)
		}
	}
}
