package listen

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// Places says where the slot of each of the named listeners is.
func (s *Set) Places(slot int, names []string) ([]Place, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.check(slot); err != nil {
		return nil, fmt.Errorf("looking at slot %d: %w", slot, err)
	}
	all := make([]Place, len(names))
	for i, name := range names {
		l := s.named(name, slot)
		if l == nil {
			return nil, fmt.Errorf("looking at slot %d: there is no listener %s", slot, name)
		}
		k := l.socketOf(slot)
		on, err := unix.GetsockoptInt(k.fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
		queue, _, _ := steer.Queue(k.fd) // none of a Unix socket
		all[i] = Place{Queue: queue, Name: name, At: l.addr, Path: k.hidden, Dual: l.dual, Inode: k.inode,
			Listens: err == nil && on != 0 && !k.fell}
	}
	return all, nil
}
