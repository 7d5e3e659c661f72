package salvage

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

const (
	// SettleLimit is how long sockets may be in the pool that no worker has, and a
	// worker may refuse: processes that are being killed close theirs one after
	// another, and look like another user's meanwhile.
	SettleLimit = 2 * time.Second
	settlePause = 5 * time.Millisecond
)

// salvage is one request under way, and what was found so far.
type salvage struct {
	Request
	Found
}

// Take takes a listener's sockets out of the processes that have them, and finds out their
// order. Nothing is found where nobody has anything. On an error all are closed, those
// that were held, too, and who serves goes on serving.
func Take(r Request) (Found, error) {
	s := &salvage{r, Found{Sockets: r.Held}}
	if len(r.Holders) == 0 && len(r.Held) == 0 {
		return s.Found, nil
	}
	held, take := len(r.Held), s.takeTCP
	if r.Listener.Network == "unix" {
		take = s.takeUnix
	}
	if err := take(); err != nil {
		for _, fd := range s.Sockets {
			_ = unix.Close(fd)
		}
		return Found{}, fmt.Errorf("taking the sockets over from the workers, as nobody else holds them all: %w", err)
	}
	if len(s.Sockets) > 0 {
		r.Log.Warn("not all sockets were held beside the last master; they were taken over from its workers",
			zap.String("listener", r.Listener.Name), zap.Int("held", held),
			zap.Int("sockets", len(s.Sockets)), zap.Int("connections found astray", len(s.Strays)), zap.Ints("order", s.Order))
	}
	return s.Found, nil
}

// takeUnix looks at each socket that a holder has: the kernel's table of them,
// /proc/net/unix, may leave some out while others come and go.
func (s *salvage) takeUnix() error {
	s.Steering = steer.Link
	for _, h := range s.Holders {
		slot := strconv.Itoa(h.Slot)
		wanted := map[string]string{s.Hidden(slot): slot, s.Hidden(steer.Own): steer.Own}
		take := func(_ uint64, fd int) bool {
			name, ok := wanted[listensOn(fd)]
			if _, have := s.Sockets[name]; !ok || have {
				return false
			}
			s.Sockets[name] = fd
			return true
		}
		err := copyOut(h.PID, take)
		for end := time.Now().Add(SettleLimit); errors.Is(err, os.ErrPermission) && time.Now().Before(end); {
			time.Sleep(settlePause)
			err = copyOut(h.PID, take)
		}
		if err != nil {
			return err
		}
		if _, ok := s.Sockets[steer.Own]; ok { // no worker of a slot has that one
			s.Steering, s.Reason = steer.Shared, steer.SharedReason
			return nil
		}
	}
	return nil
}

// listensOn is the path of a Unix socket that listens; empty: it is another.
func listensOn(fd int) string {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 || steer.IsShut(fd) {
		return ""
	}
	sa, err := unix.Getsockname(fd)
	if at, ok := sa.(*unix.SockaddrUnix); err == nil && ok {
		return at.Name
	}
	return ""
}

func (s *salvage) takeTCP() error {
	at, dual, err := steer.Resolve(s.Listener)
	if err != nil {
		return err
	}
	for _, fd := range s.Sockets { // a port that the kernel chose is known from these alone
		if at, err = steer.Address(fd); err != nil {
			return err
		}
	}
	if at.Port() == 0 {
		return nil
	}
	alien, err := s.gather(at)
	if err != nil || len(s.Sockets) == 0 {
		return err
	}
	if _, ok := s.Sockets[steer.Own]; ok {
		s.Steering, s.Reason = steer.Shared, steer.SharedReason
		return nil
	}
	if alien.Inode != 0 {
		return &AlienError{alien}
	}
	s.Steering = steer.Kernel
	// What cannot be used is refused before anything is changed.
	if err := steer.Fits(s.Sockets, steer.Family(at), s.Slots); err != nil {
		return err
	}
	fresh, err := steer.FreshBaseline(steer.Family(at))
	if err != nil {
		return err
	}
	own, err := steer.Bind(at, dual, true)
	if err != nil {
		return err
	}
	s.Sockets[steer.Own] = own
	if err := unix.Listen(own, s.Listener.Backlog); err != nil {
		return fmt.Errorf("listening: %w", err)
	}
	f := finder{salvage: s, at: at, dual: dual, fresh: fresh, probes: map[netip.AddrPort]bool{}}
	s.Order, err = f.order()
	// From here on new connections go where they went before the deaths, so that a
	// start which fails later leaves the traffic as it was; and so one that fails here,
	// as far as is known. They are steered before this process's own socket closes: a
	// program that leads to it would be the kernel's hash then, over all slots.
	if back := f.giveBack(s.Order); err == nil {
		err = back
	}
	if err == nil {
		f.settle()
		s.Strays = f.strays
		return nil
	}
	for _, fd := range f.strays {
		_ = unix.Close(fd)
	}
	return err
}

// gather copies the sockets that listen on the address out of the holders, by
// their slots. alien is one that no holder has.
func (s *salvage) gather(at netip.AddrPort) (alien sockdiag.Socket, err error) {
	known := map[uint64]bool{}
	for _, fd := range s.Sockets {
		known[steer.Inode(fd)] = true
	}
	for end := time.Now().Add(SettleLimit); ; time.Sleep(settlePause) {
		listening := map[uint64]bool{}
		all := map[uint64]sockdiag.Socket{}
		err := sockdiag.TCP(sockdiag.Query{Family: uint8(steer.Family(at)), States: 1 << sockdiag.Listen, Port: at.Port()},
			func(k sockdiag.Socket) {
				if k.Local == at {
					listening[k.Inode], all[k.Inode] = true, k
				}
			})
		if err != nil {
			return alien, err
		}
		for inode := range known {
			delete(listening, inode)
		}
		var refused error
		for _, h := range s.Holders {
			if len(listening) == 0 {
				break
			}
			twice := false
			err := copyOut(h.PID, func(inode uint64, fd int) bool {
				name := strconv.Itoa(h.Slot)
				if pooled, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err == nil && pooled == 0 {
					name = steer.Own // shared: all have the same
				}
				_, have := s.Sockets[name]
				if twice = twice || listening[inode] && have; !listening[inode] || have {
					return false
				}
				s.Sockets[name], known[inode] = fd, true
				delete(listening, inode)
				return true
			})
			switch {
			case twice:
				return alien, fmt.Errorf("the process %d has two sockets of one slot on %s", h.PID, at)
			case errors.Is(err, os.ErrPermission):
				refused = err
			case err != nil:
				return alien, err
			}
		}
		if len(listening) == 0 {
			return sockdiag.Socket{}, nil
		}
		if time.Now().After(end) {
			if refused != nil {
				return alien, refused
			}
			for inode := range listening {
				return all[inode], nil
			}
		}
	}
}
