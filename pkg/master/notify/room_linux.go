package notify

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

// Room has the sockets of all workers. Its methods may be called from any
// goroutine.
type Room struct {
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
	inode  uint64        // of the file at path
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
func Open(o Options) (*Room, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
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
	return &Room{o: o, of: map[uint64]*socket{}}, nil
}

// Add makes a worker's socket and returns its path. Nothing is read from it
// before [Room.Begin].
func (r *Room) Add(w Worker) (path string, err error) {
	path = r.path(w.ID)
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("the socket for what worker %d says by sd_notify: %w", w.ID, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return fail(os.NewSyscallError("socket", err))
	}
	// The file's mode is the socket's, so that there is no moment at which others
	// could send.
	err = os.NewSyscallError("fchmod", unix.Fchmod(fd, 0o600))
	if err == nil {
		err = os.NewSyscallError("bind", unix.Bind(fd, &unix.SockaddrUnix{Name: path}))
	}
	if err == nil && w.UID != os.Geteuid() {
		if err = os.Lchown(path, w.UID, -1); err != nil {
			_ = os.Remove(path)
		}
	}
	if err != nil {
		_ = unix.Close(fd)
		return fail(err)
	}
	if err := r.take(w, path, fd); err != nil {
		return fail(err)
	}
	return path, nil
}

// Adopt goes on with the socket that an earlier master has made; fd is the
// room's.
func (r *Room) Adopt(w Worker, fd int) error {
	if err := r.take(w, r.path(w.ID), fd); err != nil {
		return fmt.Errorf("taking over the socket for what worker %d says by sd_notify: %w", w.ID, err)
	}
	return nil
}

func (r *Room) path(id uint64) string { return filepath.Join(r.o.Dir, strconv.FormatUint(id, 10)) }

// take makes a socket the room's. fd is closed.
func (r *Room) take(w Worker, path string, fd int) error {
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
	if r.o.Keep != nil {
		r.o.Keep(name(w.ID), fd)
	}
	who := &access{}
	who.set(w.granted(w.Access))
	s := &socket{worker: w, path: path, conn: conn, inode: inodeAt(path), access: who, over: make(chan struct{})}
	r.mu.Lock()
	defer r.mu.Unlock()
	s.passPidfd(r.pidfds)
	r.of[w.ID] = s
	return nil
}

func name(id uint64) string { return HeldPrefix + strconv.FormatUint(id, 10) }

// KeepAgain tells Keep of every socket.
func (r *Room) KeepAgain() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for id, s := range r.of {
		raw, err := s.conn.SyscallConn()
		if err == nil && r.o.Keep != nil {
			_ = raw.Control(func(fd uintptr) { r.o.Keep(name(id), int(fd)) })
		}
	}
}

// Begin hears a worker, now that its process is known.
func (r *Room) Begin(id uint64, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.of[id]; s != nil && s.leader == 0 {
		s.leader = pid
		s.main.Store(int64(pid))
		r.readers.Go(func() { s.listen(r.o.Log) })
	}
}

// Main: another process speaks for the worker from now on.
func (r *Room) Main(id uint64, pid int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if s := r.of[id]; s != nil {
		s.main.Store(int64(pid))
	}
}

// Forget ends a worker's socket. It does not wait for what is just being heard.
func (r *Room) Forget(id uint64) {
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
	ipc.CloseConn(s.conn)
	_ = os.Remove(s.path)
	if r.o.Drop != nil {
		r.o.Drop(name(id))
	}
}

// Heard waits until what was sent before has been heard, or so long.
func (r *Room) Heard(id uint64, limit time.Duration) {
	r.mu.Lock()
	s := r.of[id]
	r.mu.Unlock()
	for end := time.Now().Add(limit); s != nil && (s.waiting() || s.behind.Load()) && time.Now().Before(end); {
		time.Sleep(time.Millisecond)
	}
}

// waiting tells whether something is in the queue.
func (s *socket) waiting() (some bool) {
	raw, err := s.conn.SyscallConn()
	if err != nil {
		return false
	}
	_ = raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		some = err == nil && n > 0
	})
	return some
}

// Close ends the reading, and waits until Hear is not called any more; a reader that
// hangs in what its worker has sent is left behind. The files and what the keeper holds
// stay, for the next master, if there are workers left.
func (r *Room) Close() {
	r.mending.Lock()
	r.closed = true
	r.mending.Unlock()
	r.mu.Lock()
	all := r.of
	r.of = map[uint64]*socket{}
	r.mu.Unlock()
	_ = ipc.CloseInTime(func() error {
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
func (r *Room) Sweep() error {
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

// listen hears one worker until its socket is closed. It reads faster than it
// passes on: a sender must not wait for the master's loop.
func (s *socket) listen(log *zap.Logger) {
	log = log.With(zap.Uint64("worker", s.worker.ID), zap.Int("pid", s.leader))
	var told time.Time
	tell := func(what string, fields ...zap.Field) {
		if time.Since(told) >= toldEvery {
			told = time.Now()
			log.Warn(what, fields...)
		}
	}
	hears, reads := newBucket(perSecond, burst), newBucket(readPerSecond, readPerSecond)
	var merged *Message // what came faster than it is passed on
	pass := func(m Message, fds []int) {
		hears.take()
		s.worker.Hear(m, fds)
	}
	flush := func() {
		if merged != nil {
			pass(*merged, nil)
			merged = nil
			s.behind.Store(false)
		}
	}
	defer flush()
	for {
		var until time.Time // zero: what may take as long as it likes
		if merged != nil {
			if hears.wait() <= 0 {
				flush()
			} else {
				until = time.Now().Add(hears.wait())
			}
		}
		_ = s.conn.SetReadDeadline(until)
		select {
		case <-s.over: // the deadline may have been the one that ends the read
			return
		default:
		}
		m, fds, err := s.next()
		var refused *refusal
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			continue
		case errors.As(err, &refused):
			tell("what a worker says by sd_notify is refused", zap.String("why", refused.why))
		case err != nil:
			return
		default:
			if len(m.Problems) > 0 {
				tell("what a worker says by sd_notify is not all understood", zap.Strings("problems", m.Problems))
			}
			switch {
			case merged == nil && hears.wait() <= 0:
				pass(m, fds)
			case m.mergeable():
				if merged == nil {
					tell("a worker says more by sd_notify than is passed on; what it says is merged", zap.Int("messages a second", perSecond))
					merged = &Message{}
					s.behind.Store(true)
				}
				*merged = merged.merge(m)
			default: // it has its place in the order; bounded by perSecond
				if merged != nil {
					time.Sleep(hears.wait())
					flush()
				}
				time.Sleep(hears.wait())
				pass(m, fds)
			}
		}
		reads.take()
		if pause := reads.wait(); pause > 0 {
			tell("a worker says more by sd_notify than is read; it waits", zap.Int("messages a second", readPerSecond))
			time.Sleep(pause) // bounded, and so is what waits in the socket
		}
	}
}

// bucket paces something: so many at once, then so many a second.
type bucket struct {
	each time.Duration // one more may go after it
	most time.Duration // of unused time that is kept
	full time.Time     // when all that was taken has been earned
}

func newBucket(perSecond, burst int) *bucket {
	each := time.Second / time.Duration(perSecond)
	return &bucket{each: each, most: each * time.Duration(burst-1)}
}

// wait is how long the next one has to wait; not positive: it need not.
func (b *bucket) wait() time.Duration { return max(time.Until(b.full), 0) - b.most }

func (b *bucket) take() {
	if now := time.Now(); b.full.Before(now) {
		b.full = now
	}
	b.full = b.full.Add(b.each)
}

// refusal is about one message.
type refusal struct{ why string }

func (r *refusal) Error() string { return r.why }

// next takes one message from the socket.
func (s *socket) next() (Message, []int, error) {
	buf := make([]byte, maxMessage+1)
	oob := make([]byte, unix.CmsgSpace(unix.SizeofUcred)+unix.CmsgSpace(4)+unix.CmsgSpace(4*MaxFDs))
	n, oobn, flags, _, err := s.conn.ReadMsgUnix(buf, oob)
	if err != nil {
		return Message{}, nil, err
	}
	from, fds := parse(oob[:oobn])
	cred, another := from.cred, from.another()
	refuse := func(why string) (Message, []int, error) {
		ipc.DiscardWait(s.over, fds...)
		return Message{}, nil, &refusal{why}
	}
	switch {
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0 || n > maxMessage:
		return refuse(fmt.Sprintf("it is longer than %d bytes, or was cut", maxMessage))
	case cred == nil:
		return refuse("nobody knows who said it")
	case another:
		return refuse(fmt.Sprintf("process %d, which said it, has ended, and another process has its number by now", cred.Pid))
	case !s.may(*cred):
		return refuse(fmt.Sprintf("process %d (uid %d) may not speak for the worker; worker.notify_access, and its own NOTIFYACCESS, say who may", cred.Pid, cred.Uid))
	}
	m, err := Parse(buf[:n], len(fds))
	if err != nil {
		return refuse(err.Error())
	}
	if m.Access != "" {
		if granted := s.worker.granted(m.Access); granted != m.Access {
			m.Problems = append(m.Problems, fmt.Sprintf("NOTIFYACCESS: %s is more than worker.notify_access allows; it stays %s", m.Access, s.access.get()))
			m.Access = ""
		} else {
			s.access.set(granted)
		}
	}
	if !m.Store && !m.Barrier && len(fds) > 0 {
		ipc.DiscardWait(s.over, fds...)
		fds = nil
		m.Problems = append(m.Problems, "descriptors came with it that nothing was said of")
	}
	return m, fds, nil
}

// granted is as much of an access as the configuration allows; all that it allows
// where nothing was asked for.
func (w Worker) granted(a Access) Access {
	switch {
	case a == AccessNone, a == AccessMain:
		return a
	case w.Group:
		return AccessAll
	}
	return AccessMain
}

// ID is whose socket the keeper holds by a name.
func ID(held string) (uint64, bool) {
	n, ok := strings.CutPrefix(held, HeldPrefix)
	id, err := strconv.ParseUint(n, 10, 64)
	return id, ok && err == nil
}
