package listen

import (
	"errors"

	"github.com/masterd/masterd/pkg/master/config"
)

// CanSplit tells whether new connections can be split by weight in each of these listeners
// that is open. If not it is an [*Error], of the first one that cannot, with the reason.
func (s *Set) CanSplit(ls []config.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range ls {
		l := find(s.listeners, c)
		if l == nil {
			continue
		}
		if why := l.whole(); why != "" {
			return &Error{Listener: l.conf.Name, Address: address(l.conf),
				Err: errors.New("new connections cannot be split by weight: " + why)}
		}
	}
	return nil
}

// whole is why one generation gets all new connections of the listener; empty: several can
// have a part.
func (l *listener) whole() string {
	switch l.steering {
	case link:
		return "the path of a Unix socket leads to one slot at a time"
	case shared:
		return "all workers accept from one socket (" + l.reason + ")"
	}
	return ""
}
