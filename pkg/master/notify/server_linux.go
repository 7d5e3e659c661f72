package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/keeper"
)

// Server has the sockets of all workers. Its methods may be called from any
// goroutine.
type Server struct {
	o       Options
	readers sync.WaitGroup
	mu      sync.Mutex
	of      map[uint64]*socket
	mending sync.Mutex // held while sockets are made again; before mu
	closed  bool       // guarded by mending
	pidfds  bool       // PassPidfds was called; guarded by mu
}

// socket is one worker's.
type socket struct {
	worker Worker
	path   string
	conn   *net.UnixConn
	named  fdpass.Named
	leader int           // of its group; zero: it is not read yet
	main   atomic.Int64  // the process that speaks for it
	access *access       // the same for a socket that is made again
	behind atomic.Bool   // something was read and is yet to be heard
	over   chan struct{} // closed before it is
}

// access is who may speak for a worker. Two readers have it while a socket that was
// made again takes the place of the one before.
type access struct{ is atomic.Pointer[Access] }

func (a *access) get() Access  { return *a.is.Load() }
func (a *access) set(b Access) { a.is.Store(&b) }

// Open makes the directory.
func Open(o Options) (*Server, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Keeper == nil {
		o.Keeper = keeper.Nobody{}
	}
	err := os.Mkdir(o.Dir, 0o711)
	if errors.Is(err, fs.ErrExist) {
		err = nil
	}
	if err == nil { // the umask may have taken something
		err = os.Chmod(o.Dir, 0o711)
	}
	if err != nil {
		return nil, fmt.Errorf("the sockets for sd_notify: %w", err)
	}
	return &Server{o: o, of: map[uint64]*socket{}}, nil
}

// Add makes a worker's socket and returns its path. Nothing is read from it
// before [Server.Begin].
func (r *Server) Add(w Worker) (path string, err error) {
	path = r.path(w.ID)
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("the socket for what worker %d says by sd_notify: %w", w.ID, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	fd, err := fdpass.Bind(path, unix.SOCK_DGRAM, 0o600)
	if err != nil {
		return fail(err)
	}
	if w.UID != os.Geteuid() {
		if err := os.Lchown(path, w.UID, -1); err != nil {
			_ = os.Remove(path)
			fdpass.Close(fd)
			return fail(err)
		}
	}
	if err := r.take(w, path, fd); err != nil {
		return fail(err)
	}
	return path, nil
}

// Adopt goes on with the socket that an earlier master has made; fd is the
// server's.
func (r *Server) Adopt(w Worker, fd int) error {
	if err := r.take(w, r.path(w.ID), fd); err != nil {
		return fmt.Errorf("taking over the socket for what worker %d says by sd_notify: %w", w.ID, err)
	}
	return nil
}

func (r *Server) path(id uint64) string { return filepath.Join(r.o.Dir, strconv.FormatUint(id, 10)) }

// take makes a socket the server's. fd is closed.
func (r *Server) take(w Worker, path string, fd int) error {
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PASSCRED, 1); err != nil {
		_ = unix.Close(fd)
		return os.NewSyscallError("setsockopt SO_PASSCRED", err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	c, err := net.FilePacketConn(f)
	if err != nil {
		return err
	}
	conn, ok := c.(*net.UnixConn)
	if !ok {
		_ = c.Close()
		return fmt.Errorf("it is a %T", c)
	}
	if err := fdpass.Control(conn, func(fd int) error {
		r.o.Keeper.Put(HeldName(w.ID), nil, fd)
		return nil
	}); err != nil {
		_ = conn.Close()
		return err
	}
	who := &access{}
	who.set(w.granted(w.Access))
	s := &socket{worker: w, path: path, conn: conn, named: fdpass.Name(path), access: who, over: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.passPidfd(r.pidfds)
	r.of[w.ID] = s
	return nil
}

// HeldName is what the keeper calls a worker's socket.
func HeldName(id uint64) string { return HeldPrefix + strconv.FormatUint(id, 10) }

// Begin hears a worker, now that its process is known.
func (r *Server) Begin(id uint64, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.of[id]; s != nil && s.leader == 0 {
		s.leader = pid
		s.main.Store(int64(pid))
		r.readers.Go(func() { s.listen(r.o.Log) })
	}
}

// Main: another process speaks for the worker from now on.
func (r *Server) Main(id uint64, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.of[id]; s != nil {
		s.main.Store(int64(pid))
	}
}

// Forget ends a worker's socket. It does not wait for what is just being heard.
func (r *Server) Forget(id uint64) {
	r.mending.Lock()
	defer r.mending.Unlock()
	r.mu.Lock()
	s := r.of[id]
	delete(r.of, id)
	r.mu.Unlock()
	if s == nil {
		return
	}
	close(s.over)
	r.o.Keeper.Drop(HeldName(id))
	fdpass.CloseConn(s.conn)
	_ = os.Remove(s.path)
}

// Heard waits until what was sent before has been heard, or so long.
func (r *Server) Heard(id uint64, limit time.Duration) {
	r.mu.Lock()
	s := r.of[id]
	r.mu.Unlock()
	for end := time.Now().Add(limit); s != nil && (s.waiting() || s.behind.Load()) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// waiting tells whether something is in the queue.
func (s *socket) waiting() (some bool) {
	_ = fdpass.Control(s.conn, func(fd int) error {
		events, err := fdpass.Ready(fd, unix.POLLIN, 0)
		some = events != 0
		return err
	})
	return some
}

// Close ends the reading, and waits until Hear is not called any more; a reader that
// hangs in what its worker has sent is left behind. The files and what the keeper holds
// stay, for the next master, if there are workers left.
func (r *Server) Close() {
	r.mending.Lock()
	r.closed = true
	r.mending.Unlock()
	r.mu.Lock()
	all := r.of
	r.of = map[uint64]*socket{}
	r.mu.Unlock()
	_ = fdpass.CloseInTime(func() error {
		for _, s := range all {
			close(s.over)
			s.passPidfd(false) // an older masterd would not close them
			_ = s.conn.SetReadDeadline(time.Unix(1, 0))
		}
		r.readers.Wait()
		for _, s := range all {
			_ = s.conn.Close() // the next master reads what is queued
		}
		return nil
	})
}

// Sweep removes the sockets of workers that are not there any more.
func (r *Server) Sweep() error {
	all, err := os.ReadDir(r.o.Dir)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, e := range all {
		id, nan := strconv.ParseUint(e.Name(), 10, 64)
		if nan == nil && r.of[id] != nil {
			continue
		}
		if gone := os.Remove(filepath.Join(r.o.Dir, e.Name())); gone != nil && !errors.Is(gone, fs.ErrNotExist) {
			err = errors.Join(err, gone)
		}
	}
	return err
}
