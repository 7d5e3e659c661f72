package conns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

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
		if err := unixOf(paths, func(inode uint64) { found[inode] = asked }); err != nil {
			return Open{}, err
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

// unixOf calls each for every connected socket that was accepted at one of the paths.
func unixOf(paths []string, each func(inode uint64)) error {
	fs, err := procfs.NewDefaultFS()
	if err != nil {
		return err
	}
	table, err := fs.NetUNIX()
	if err != nil {
		return fmt.Errorf("reading the kernel's table of Unix sockets: %w", err)
	}
	for _, row := range table.Rows {
		if row.State == connected && slices.Contains(paths, row.Path) {
			each(row.Inode)
		}
	}
	return nil
}

// connected is SS_CONNECTED, as /proc/net/unix has it.
const connected = 3

// state is what a connection is at.
type state int

const (
	asked    state = iota // somebody waits for an answer, or for the rest of one
	answered              // just now
	idle
)

func stateOf(s sockdiag.Socket) state {
	t := s.Info
	if t == nil || s.Unread > 0 || s.Unsent > 0 || t.Bytes_received > 0 && t.Bytes_sent == 0 {
		return asked
	}
	sent, received := time.Duration(t.Last_data_sent)*time.Millisecond, time.Duration(t.Last_data_recv)*time.Millisecond // ago
	quiet := min(sent, received)
	switch unclear := t.Bytes_received > 0 && sent == received; {
	case t.Bytes_received > 0 && sent > received:
		return asked
	case unclear && quiet >= unclearTime, !unclear && quiet >= quietTime:
		return idle
	case unclear && quiet < answerTime:
		return asked
	}
	return answered
}

// inodes calls each for every socket that a process has open. One that is gone has none.
func inodes(pid int, each func(uint64)) error {
	dir, err := os.Open("/proc/" + strconv.Itoa(pid) + "/fd")
	if err == nil {
		defer dir.Close()
		var names []string
		names, err = dir.Readdirnames(-1)
		for _, n := range names {
			target, err := os.Readlink(dir.Name() + "/" + n)
			if err != nil {
				continue // closed just now
			}
			if number, ok := strings.CutPrefix(target, "socket:["); ok {
				if inode, err := strconv.ParseUint(strings.TrimSuffix(number, "]"), 10, 64); err == nil {
					each(inode)
				}
			}
		}
	}
	if err != nil && ended(pid) {
		return nil
	}
	return err
}

// ended tells that a process is gone, or nobody has waited for it yet.
func ended(pid int) bool {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return errors.Is(err, os.ErrNotExist)
	}
	stat, err := p.Stat()
	return errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) || err == nil && (stat.State == "Z" || stat.State == "X")
}
