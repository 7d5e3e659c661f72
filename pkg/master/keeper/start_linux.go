package keeper

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

const (
	joinLimit = 5 * time.Second // for a keeper to give the next of what it holds
	lockLimit = 15 * time.Second
	lockRetry = 5 * time.Millisecond
	reapLimit = 2 * time.Second // for a killed keeper to be gone
	backlog   = 64
)

// open joins the keeper that is there, or starts one. It has the lock of the
// directory meanwhile: two that start keepers would each take the other's socket.
func (o *Options) open() (*link, []Held, error) {
	unlock, err := lock(filepath.Dir(o.Path))
	if err != nil {
		return nil, nil, fmt.Errorf("lock %s to join the keeper: %w", filepath.Dir(o.Path), err)
	}
	defer unlock()
	k, err := dial(o.Path)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ECONNREFUSED) {
		return o.start()
	}
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the keeper at %s: %w", o.Path, err)
	}
	held, err := k.join()
	if err == nil {
		return k, held, nil
	}
	defer k.Close()
	err = fmt.Errorf("keeper %d does not give what it holds: %w", k.pid, err)
	if errors.Is(err, unix.EMFILE) {
		return nil, nil, fmt.Errorf("%w; raise the limit of open files", err)
	}
	// What it holds cannot be had; its socket is in the way.
	o.Log.Error("the keeper is killed and another one started: " + err.Error())
	k.end()
	k.release()
	return o.start()
}

// start runs a keeper and joins it. Its socket is there before it is, so that
// nobody waits for it to be made.
func (o *Options) start() (*link, []Held, error) {
	if info, err := os.Lstat(o.Path); err == nil && info.Mode().Type() != os.ModeSocket {
		return nil, nil, fmt.Errorf("%s is in the way and not a socket: move it away", o.Path)
	}
	_ = os.Remove(o.Path)
	socket, err := listen(o.Path)
	if err != nil {
		return nil, nil, fmt.Errorf("make the keeper's socket %s: %w", o.Path, err)
	}
	defer unix.Close(socket)
	pid, err := o.spawn(socket)
	if err != nil {
		_ = os.Remove(o.Path)
		return nil, nil, err
	}
	k, err := dial(o.Path)
	var held []Held
	if err == nil {
		k.follow(pid) // the kernel names who has made the socket
		held, err = k.join()
	}
	if err != nil {
		_ = unix.Kill(pid, unix.SIGKILL)
		_, _ = unix.Wait4(pid, nil, 0, nil)
		_ = os.Remove(o.Path)
		return nil, nil, fmt.Errorf("the keeper that was started as process %d does not answer: %w", pid, err)
	}
	return k, held, nil
}

// spawn gives a keeper nothing of the master's but the socket: no terminal or
// pipe of whoever started the master stays open for its sake.
func (o *Options) spawn(socket int) (pid int, err error) {
	argv := append(append([]string{}, o.Command...), keeperArgument, o.Path)
	program := "/proc/self/exe"
	if len(o.Command) > 0 {
		program = o.Command[0]
	} else {
		argv = append([]string{"masterd"}, argv...)
	}
	null, err := unix.Open(os.DevNull, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return 0, fmt.Errorf("open %s: %w", os.DevNull, err)
	}
	defer unix.Close(null)
	pid, err = syscall.ForkExec(program, argv, &syscall.ProcAttr{
		Dir: "/", Env: environ,
		Files: []uintptr{uintptr(null), uintptr(null), uintptr(null), uintptr(socket)},
		Sys:   &syscall.SysProcAttr{Setsid: true},
	})
	if err != nil {
		return 0, fmt.Errorf("run the keeper %s: %w", program, err)
	}
	return pid, nil
}

// listen makes the socket that a keeper will be given.
func listen(path string) (int, error) {
	fd, err := fdpass.Bind(path, unix.SOCK_SEQPACKET, 0o600)
	if err != nil {
		return -1, err
	}
	if err := unix.Listen(fd, backlog); err != nil {
		unix.Close(fd)
		return -1, os.NewSyscallError("listen", err)
	}
	return fd, nil
}

func dial(path string) (*link, error) {
	d := net.Dialer{Timeout: joinLimit}
	c, err := d.Dial("unixpacket", path)
	if err != nil {
		return nil, err
	}
	l, err := newLink(c.(*net.UnixConn))
	if err == nil && l.uid != os.Geteuid() {
		err = fmt.Errorf("it belongs to uid %d, this is uid %d", l.uid, os.Geteuid())
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return l, nil
}

// join says who is master and takes what is held.
func (l *link) join() (held []Held, err error) {
	defer func() {
		if err != nil {
			for _, h := range held {
				fdpass.Discard(h.FD)
			}
			held = nil
		}
	}()
	if err := l.send(joinLimit, frame{kind: kindJoin, meta: []byte{version}}); err != nil {
		return nil, err
	}
	defer l.SetReadDeadline(time.Time{})
	l.signal(unix.SIGCONT) // should somebody have stopped it
	for {
		if err := l.SetReadDeadline(time.Now().Add(joinLimit)); err != nil {
			return held, err
		}
		p, err := l.receive()
		if err != nil {
			return held, err
		}
		switch {
		case p.kind == kindHeld && len(p.fds) == 1 && !p.cut:
			held = append(held, Held{p.name, p.meta, p.fds[0]})
			continue
		case p.kind == kindHeld:
			err = fmt.Errorf("receive %q: %w", p.name, unix.EMFILE)
		case p.kind == kindReplaced:
			err = ErrReplaced
		}
		p.close()
		if err != nil || p.kind == kindAll {
			return held, err
		}
	}
}

// end kills a keeper and waits for its death.
func (l *link) end() {
	l.kill()
	l.gone(reapLimit)
}

// reap takes it off the kernel's table if it is this process's child: also one
// that a program started which this process was before its exec.
func (l *link) reap() { _, _ = unix.Wait4(l.pid, nil, unix.WNOHANG, nil) }

// lock is on the directory itself, so that no file is left behind.
func lock(dir string) (unlock func(), err error) {
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(lockLimit); ; time.Sleep(lockRetry) {
		err = unix.Flock(fd, unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { unix.Close(fd) }, nil
		}
		if err != unix.EWOULDBLOCK && err != unix.EINTR || time.Now().After(deadline) {
			unix.Close(fd)
			return nil, err
		}
	}
}
