package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// taken is an address that somebody else has.
type taken struct {
	holder string
	pid    int // zero: not known
	cause  error
}

func (e *taken) Error() string { return e.cause.Error() }
func (e *taken) Unwrap() error { return e.cause }

// errJoined: two started at one moment, and both found the port free.
var errJoined = errors.New("somebody else began to listen there at the same moment")

// proveFree binds without SO_REUSEPORT. With it, a second master would join in
// silence and get a part of the connections. within tells that the address is
// within one of ours, or one of ours within it, or that others who are gone have left
// something there that does not mind: then the first socket listens before it has a
// program.
func (o opener) proveFree(at netip.AddrPort, dual bool) (within bool, err error) {
	if at.Port() == 0 {
		return false, nil // the kernel does not choose one that is taken
	}
	fd, err := steer.Bind(at, dual, false)
	if err == nil {
		return false, unix.Close(fd)
	}
	if !errors.Is(err, unix.EADDRINUSE) {
		return false, err
	}
	found, diagErr := holders(at, dual)
	if diagErr != nil {
		return false, &taken{cause: err}
	}
	for _, s := range found {
		if o.mine[s.Inode] == "" {
			return false, takenBy(s, err)
		}
		if s.Local == at {
			return false, &taken{holder: "listener " + o.mine[s.Inode], cause: err}
		}
	}
	if len(found) == 0 {
		// Nobody listens, so the pool may join what is bound there, where the kernel
		// lets it: sockets of one that had SO_REUSEPORT too.
		if fd, joined := steer.Bind(at, dual, true); joined == nil {
			return true, unix.Close(fd) // in the order of one that is within another
		}
		return false, whatKeeps(at, dual, err)
	}
	return true, nil // only ours, on a wider or a narrower address: the kernel keeps them apart
}

// lingering is an address that nobody listens on and that connections keep, of a
// program that is gone.
type lingering struct {
	count int
	wait  time.Duration // until the kernel has forgotten them; zero: not known
	cause error
}

func (e *lingering) Error() string {
	text := fmt.Sprintf("%v, though nobody listens there: %d connections of a program that did not set SO_REUSEADDR "+
		"and has ended are still closing", e.cause, e.count)
	if e.count == 1 {
		text = fmt.Sprintf("%v, though nobody listens there: a connection of a program that did not set SO_REUSEADDR and "+
			"has ended is still closing", e.cause)
	}
	if e.wait > 0 {
		text += fmt.Sprintf(" (TIME_WAIT, for %s more)", e.wait)
	}
	return text
}

func (e *lingering) Unwrap() error { return e.cause }

// whatKeeps says what keeps an address where nobody listens: connections, of a process
// or of none, or a socket that is only bound.
func whatKeeps(at netip.AddrPort, dual bool, cause error) error {
	l := &lingering{cause: cause}
	var live *sockdiag.Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := sockdiag.TCP(sockdiag.Query{Family: family, States: ^uint32(1 << sockdiag.Listen), Port: at.Port()},
			func(s sockdiag.Socket) {
				switch {
				case !overlap(at.Addr(), dual, s.Local.Addr()):
				case s.Inode != 0:
					live = &s
				default:
					l.count++
					if s.State == sockdiag.TimeWait {
						l.wait = max(l.wait, s.Expires.Round(time.Second)+time.Second)
					}
				}
			})
		if err != nil {
			return &taken{cause: cause}
		}
	}
	switch {
	case live != nil:
		return takenBy(*live, cause)
	case l.count > 0:
		return l
	}
	return &taken{cause: cause}
}

// alone proves, after the fact, that nobody else joined the pool between
// proveFree and the last listen.
func (o opener) alone(l *listener) error {
	if who := o.other(l); who != "" {
		return &taken{holder: who, cause: errJoined}
	}
	return nil
}

// other names somebody else who listens on the very address; empty: nobody, or
// it cannot be known here.
func (o opener) other(l *listener) string {
	found, err := holders(l.addr, l.dual)
	if err != nil {
		return ""
	}
	ours := map[uint64]bool{}
	for _, s := range l.sockets {
		ours[s.inode] = true
	}
	for _, s := range found {
		if s.Local == l.addr && s.State == sockdiag.Listen && !ours[s.Inode] {
			name, _ := holderOf(s)
			return name
		}
	}
	return ""
}

// advise says what to do about an error of opening.
func advise(err error, c config.Listener) string {
	onPath := c.Network == "unix"
	var l *lingering
	switch {
	case errors.As(err, &l):
		return "start it again then, or choose another address"
	case errors.Is(err, unix.EADDRINUSE), errors.Is(err, errJoined):
		return "stop what holds it, or choose another address"
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return "no interface of this machine has the address; write one that has, or wait for the network to be up"
	case errors.Is(err, unix.EACCES) && onPath:
		return "the master's user must be able to write to " + filepath.Dir(c.Path)
	case errors.Is(err, unix.ENOENT) && onPath:
		return "make the directory " + filepath.Dir(c.Path) + " (systemd: RuntimeDirectory=)"
	case errors.Is(err, unix.EACCES) && c.Port > 0 && c.Port < 1024:
		return fmt.Sprintf("port %d needs CAP_NET_BIND_SERVICE (systemd: AmbientCapabilities=CAP_NET_BIND_SERVICE) or "+
			"root", c.Port)
	case errors.Is(err, unix.EAFNOSUPPORT):
		return "this machine has no IPv6; write tcp4://"
	case errors.Is(err, unix.EMFILE):
		return "a pool needs one descriptor for each slot; raise LimitNOFILE (ulimit -n)"
	}
	return ""
}
