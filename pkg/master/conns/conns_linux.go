package conns

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Of looks which connections of these addresses, and of Unix sockets that are bound
// to these paths, a worker's processes have.
// Of a Unix connection it is not known when something went: all are busy.
func Of(processes []int, at []netip.AddrPort, paths []string) (Open, error) {
	found := map[uint64]state{} // by inode
	for _, a := range at {
		families := []uint8{unix.AF_INET}
		if a.Addr().Is6() {
			families = []uint8{unix.AF_INET6} // those of IPv4 at a dual one are of this family, too
		}
		for _, f := range families {
			q := sockdiag.Query{Family: f, States: 1<<sockdiag.Established | 1<<sockdiag.CloseWait, Port: a.Port(), Info: true}
			if err := sockdiag.TCP(q, func(s sockdiag.Socket) {
				if s.Inode != 0 && (a.Addr().IsUnspecified() || a.Addr() == s.Local.Addr().Unmap()) {
					found[s.Inode] = stateOf(s)
				}
			}); err != nil {
				return Open{}, err
			}
		}
	}
	if len(paths) > 0 {
		all, err := process.UnixSockets()
		if err != nil {
			return Open{}, err
		}
		for _, s := range all {
			if s.Connected && slices.Contains(paths, s.Path) {
				found[s.Inode] = asked
			}
		}
	}
	if len(found) == 0 {
		return Open{}, nil
	}
	var o Open
	seen := map[uint64]bool{}
	for _, pid := range processes {
		if err := inodes(pid, func(inode uint64) {
			is, ours := found[inode]
			switch {
			case !ours || seen[inode]:
				return
			case is == idle:
				o.Idle++
			case is == asked:
				o.Asked++
				fallthrough
			default:
				o.Busy++
			}
			seen[inode] = true
		}); err != nil {
			return o, fmt.Errorf("looking at the descriptors of process %d: %w", pid, err)
		}
	}
	return o, nil
}

// Has tells which of these sockets a worker's processes have open.
func Has(processes []int, sockets []uint64) (all []uint64, err error) {
	for _, pid := range processes {
		err = errors.Join(err, inodes(pid, func(inode uint64) {
			if slices.Contains(sockets, inode) && !slices.Contains(all, inode) {
				all = append(all, inode)
			}
		}))
	}
	return all, err
}

// state is what a connection is at.
type state int

const (
	asked    state = iota // somebody waits for an answer, or for the rest of one
	answered              // just now, or not asked yet
	idle
)

func stateOf(s sockdiag.Socket) state {
	t := s.Info
	if t == nil || s.Unread > 0 || s.Unsent > 0 || t.Bytes_received > 0 && t.Bytes_sent == 0 {
		return asked
	}
	const ms = time.Millisecond
	sent, received := time.Duration(t.Last_data_sent)*ms, time.Duration(t.Last_data_recv)*ms // ago
	quiet := min(sent, received)
	switch unclear := t.Bytes_received > 0 && sent == received; {
	case t.Bytes_received > 0 && sent > received:
		return asked
	case t.Bytes_received == 0 && t.Bytes_sent == 0 && quiet < unusedTime:
		return answered
	case unclear && quiet >= unclearTime, !unclear && quiet >= quietTime:
		return idle
	case unclear && quiet < answerTime:
		return asked
	}
	return answered
}

// inodes calls each for every socket that a process has open. One that is gone, or that
// nobody has waited for yet, has none.
func inodes(pid int, each func(uint64)) error {
	open, err := process.Sockets(pid)
	for _, inode := range open {
		each(inode)
	}
	if err != nil && process.Ended(pid) {
		return nil
	}
	return err
}
