package ipc

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// network is SOCK_SEQPACKET: messages keep their bounds, a connection has an end.
const network = "unixpacket"

// MaxPath is the longest path of a control socket in bytes, set by the
// kernel's sockaddr_un (108 with its final zero).
const MaxPath = 107

// Dial connects to the control socket of a master.
func Dial(path string) (*Link, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	c, err := net.DialUnix(network, nil, &net.UnixAddr{Name: path, Net: network})
	if err != nil {
		return nil, fmt.Errorf("connecting to the master's control socket: %w", err)
	}
	return newLink(c)
}

// Socket is a control socket that masters listen on.
//
// (It is not called Listener because [Listener] is part of a message.)
type Socket struct {
	listener *net.UnixListener
	path     string
	named    fdpass.Named
}

// Listen makes the control socket at path with this mode. uid and gid become
// its owner; -1 leaves them. The socket never has, not for a moment, a wider
// mode than asked for.
//
// A socket that a dead master left at path is removed: the caller holds the
// service's lock. Anything else that is found there is an error.
func Listen(path string, mode os.FileMode, uid, gid int) (*Socket, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	lc := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error { return limitMode(raw, mode) }}
	nl, err := lc.Listen(context.Background(), network, path)
	if err != nil {
		return nil, fmt.Errorf("making the control socket: %w", err)
	}
	s := &Socket{listener: nl.(*net.UnixListener), path: path}
	// The process's umask may have taken bits away; add them before the owner
	// changes, which an unprivileged master could not do afterwards.
	if err := s.Permit(mode, uid, gid); err != nil {
		_ = s.Close()
		return nil, err
	}
	s.named = fdpass.Name(path)
	return s, nil
}

// Found tells whether the socket's name still leads to it.
func (s *Socket) Found() bool { return s.named.Found() }

// Replaced closes a socket whose name is another one's by now, or nobody's.
func (s *Socket) Replaced() error {
	s.listener.SetUnlinkOnClose(false)
	return fdpass.CloseInTime(s.listener.Close)
}

// checkPath finds out what the kernel would only call an invalid argument.
func checkPath(path string) error {
	if err := supported(); err != nil {
		return err
	}
	if path == "" {
		return errors.New("no path of a control socket was given")
	}
	if len(path) > MaxPath {
		return fmt.Errorf("the control socket's path %q has %d bytes, the kernel allows %d: choose a shorter runtime_dir", path, len(path), MaxPath)
	}
	return nil
}

func removeStale(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking for a stale control socket: %w", err)
	case info.Mode().Type() != fs.ModeSocket:
		return fmt.Errorf("%s is in the way of the control socket and not a socket: move it away", path)
	}
	if err := os.Remove(path); err != nil {
		return fmt.Errorf("removing the stale control socket: %w", err)
	}
	return nil
}

// Permit changes mode and owner of the socket's path; -1 leaves uid or gid as it is.
// Only root may give it away.
func (s *Socket) Permit(mode os.FileMode, uid, gid int) error {
	if err := os.Chmod(s.path, mode.Perm()); err != nil {
		return fmt.Errorf("setting the control socket's mode: %w", err)
	}
	if err := os.Lchown(s.path, uid, gid); err != nil {
		return fmt.Errorf("giving the control socket to uid %d, gid %d: %w", uid, gid, err)
	}
	return nil
}

// Accept waits for the next connection and says who made it. After Close its
// error is net.ErrClosed. A connection whose peer cannot be told is closed and
// is an error; the listener goes on.
func (s *Socket) Accept() (*Link, Cred, error) {
	c, err := s.listener.AcceptUnix()
	if err != nil {
		return nil, Cred{}, fmt.Errorf("accepting on the control socket: %w", err)
	}
	cred, err := PeerCred(c)
	if err != nil {
		fdpass.CloseConn(c)
		return nil, Cred{}, err
	}
	link, err := newLink(c)
	if err != nil {
		fdpass.CloseConn(c)
		return nil, Cred{}, err
	}
	return link, cred, nil
}

// Close removes the socket; connections that were accepted live on.
func (s *Socket) Close() error { return fdpass.CloseInTime(s.listener.Close) }
