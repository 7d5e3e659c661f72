package fdstore

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/keeper"
)

// Store has what is stored. Its methods may be called from any goroutine.
type Store struct {
	o     Options
	watch *os.File // an epoll; nil once closed
	done  chan struct{}

	mu     sync.Mutex
	last   int
	items  []*item // oldest first
	closed bool
}

type item struct {
	id   int
	meta meta
	fd   int
}

// New makes an empty store.
func New(o Options) (*Store, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.Keeper == nil {
		o.Keeper = keeper.Nobody{}
	}
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err == nil {
		err = unix.SetNonblock(fd, true) // or the runtime would not wait for it
	}
	if err != nil {
		return nil, fmt.Errorf("the store of descriptors: making an epoll: %w", err)
	}
	s := &Store{o: o, watch: os.NewFile(uintptr(fd), "epoll"), done: make(chan struct{})}
	go s.run()
	return s, nil
}

// Add keeps descriptors by a name, which several may have; empty: "stored". It
// takes them in any case. Those whose file is kept already change nothing; those
// beyond max, and files whose close another process or machine can hold up, are let go,
// and the error says how many. With poll one is let go when its other end is gone.
// It may wait for as long as somebody else likes, and so does not belong on the loop.
func (s *Store) Add(name string, fds []int, poll bool, max int) error {
	if name == "" {
		name = unnamed
	}
	var fit, away []int
	if !fdpass.Await(s.done, func() {
		for _, fd := range fds {
			if waitsForOthers(fd) {
				away = append(away, fd)
			} else {
				fit = append(fit, fd)
			}
		}
	}) {
		return errClosed // whoever is asked about them may have them open as long as this process runs
	}
	unfit, refused := len(away), 0
	s.mu.Lock()
	for _, fd := range fit {
		switch {
		case s.closed:
			away = append(away, fd)
		case s.has(fd):
			away = append(away, fd)
		case len(s.items) >= min(max, Max):
			away = append(away, fd)
			refused++
		default:
			s.last++
			s.put(&item{s.last, meta{name, poll}, fd})
		}
	}
	there := len(s.items)
	s.mu.Unlock()
	fdpass.DiscardWait(s.done, away...)
	switch {
	case unfit > 0:
		return fmt.Errorf("%d of %d descriptors %q are not kept: they are files of a network or FUSE file system, and "+
			"closing one can take for ever; put the file elsewhere, or store a socket or memory (memfd_create)",
			unfit, len(fds), name)
	case refused > 0:
		return fmt.Errorf("%d of %d descriptors %q are not kept: worker.fd_store allows %d, and there are %d", refused,
			len(fds), name, max, there)
	}
	return nil
}

var errClosed = errors.New("masterd ends")

// remote are file systems on which another process or machine answers a close.
var remote = []int64{unix.FUSE_SUPER_MAGIC, unix.NFS_SUPER_MAGIC, unix.CIFS_SUPER_MAGIC, unix.SMB2_SUPER_MAGIC,
	unix.SMB_SUPER_MAGIC,
	unix.V9FS_MAGIC, unix.CEPH_SUPER_MAGIC, unix.AFS_SUPER_MAGIC, unix.CODA_SUPER_MAGIC, unix.OCFS2_SUPER_MAGIC}

// waitsForOthers tells whether a file is on one of these. Asking may wait, too; and only
// on such a file system is it answered by an error.
func waitsForOthers(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) != nil || slices.Contains(remote, int64(st.Type))
}

// has tells whether the same open file is kept.
func (s *Store) has(fd int) bool {
	for _, i := range s.items {
		if sameFile(i.fd, fd) {
			return true
		}
	}
	return false
}

// kcmpFile is KCMP_FILE of kcmp(2).
const kcmpFile = 0

// sameFile tells whether two descriptors are of one open file. Where the kernel
// does not say (it may be built without kcmp) they count as two.
func sameFile(a, b int) bool {
	me := uintptr(os.Getpid())
	same, _, errno := unix.Syscall6(unix.SYS_KCMP, me, me, kcmpFile, uintptr(a), uintptr(b), 0)
	return errno == 0 && same == 0
}

func (s *Store) put(i *item) {
	s.items = append(s.items, i)
	if i.meta.Poll {
		// Hang-ups and errors are told without being asked for. A file cannot be
		// watched, and has no other end.
		_ = s.control(unix.EPOLL_CTL_ADD, i)
	}
	if text, err := json.Marshal(i.meta); err == nil {
		s.o.Keeper.Put(i.name(), text, i.fd)
	}
}

func (s *Store) control(op int, i *item) error {
	return fdpass.Control(s.watch, func(fd int) error {
		return unix.EpollCtl(fd, op, i.fd, &unix.EpollEvent{Events: unix.EPOLLET & 0xffffffff, Fd: int32(i.id)})
	})
}

func (i *item) name() string { return HeldPrefix + strconv.Itoa(i.id) }

// Remove lets go what is kept by a name.
func (s *Store) Remove(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(func(i *item) bool { return i.meta.Name == name })
}

// drop lets go what is chosen.
func (s *Store) drop(chosen func(*item) bool) {
	var rest []*item
	for _, i := range s.items {
		if !chosen(i) {
			rest = append(rest, i)
			continue
		}
		_ = s.control(unix.EPOLL_CTL_DEL, i) // other holders of the file would keep it watched
		s.o.Keeper.Drop(i.name())
		fdpass.Discard(i.fd)
	}
	s.items = rest
}

// Files are duplicates of all, oldest first.
func (s *Store) Files() (files []File, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, i := range s.items {
		fd, err := fdpass.Duplicate(i.fd)
		if err != nil {
			for _, f := range files {
				_ = unix.Close(f.FD)
			}
			return nil, fmt.Errorf("duplicating the stored descriptor %q: %w", i.meta.Name, err)
		}
		files = append(files, File{i.meta.Name, fd})
	}
	return files, nil
}

// Count is how many there are.
func (s *Store) Count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.items)
}

// Adopt takes over what an earlier master has stored. What cannot be understood is
// let go.
func (s *Store) Adopt(all []keeper.Held) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, h := range all {
		var m meta
		number, _ := strings.CutPrefix(h.Name, HeldPrefix)
		id, err := strconv.Atoi(number)
		if err == nil {
			err = json.Unmarshal(h.Meta, &m)
		}
		if err != nil || len(s.items) >= Max {
			s.o.Log.Warn("a stored descriptor is let go, it is not understood", zap.String("name", h.Name), zap.Error(err))
			fdpass.Discard(h.FD)
			s.o.Keeper.Drop(h.Name)
			continue
		}
		s.last = max(s.last, id)
		s.put(&item{id, m, h.FD})
	}
}

// Close lets everything go here. What the keeper holds stays.
func (s *Store) Close() {
	_ = s.watch.SetReadDeadline(time.Now())
	<-s.done
	s.mu.Lock()
	defer s.mu.Unlock()
	_ = s.watch.Close()
	for _, i := range s.items {
		fdpass.Discard(i.fd)
	}
	s.items, s.closed = nil, true
}

// run lets go what has lost its other end.
func (s *Store) run() {
	defer close(s.done)
	raw, err := s.watch.SyscallConn()
	if err != nil {
		return
	}
	events := make([]unix.EpollEvent, 32)
	for {
		n := 0
		if err := raw.Read(func(fd uintptr) bool {
			var err error
			n, err = unix.EpollWait(int(fd), events, 0)
			return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
		}); err != nil || n < 0 {
			return
		}
		s.mu.Lock()
		for _, e := range events[:n] {
			if e.Events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
				s.drop(func(i *item) bool { return i.id == int(e.Fd) })
			}
		}
		s.mu.Unlock()
	}
}
