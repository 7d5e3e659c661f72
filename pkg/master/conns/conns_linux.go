package conns

import (
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Of looks which connections of these addresses, and of Unix sockets that are bound
// to these paths, a worker's processes have, all of the group that leader leads.
// Of a Unix connection it is not known when something went: all are busy.
func Of(leader int, at []netip.AddrPort, paths []string) (Open, error) {
	busy := map[uint64]bool{} // by inode
	for _, a := range at {
		families := []uint8{unix.AF_INET}
		if a.Addr().Is6() {
			families = []uint8{unix.AF_INET6} // those of IPv4 at a dual one are of this family, too
		}
		for _, f := range families {
			q := sockdiag.Query{Family: f, States: 1<<sockdiag.Established | 1<<sockdiag.CloseWait, Port: a.Port(), Info: true}
			if err := sockdiag.TCP(q, func(s sockdiag.Socket) {
				if s.Inode != 0 && (a.Addr().IsUnspecified() || a.Addr() == s.Local.Addr().Unmap()) {
					busy[s.Inode] = !idle(s)
				}
			}); err != nil {
				return Open{}, err
			}
		}
	}
	if len(paths) > 0 {
		if err := unixOf(paths, func(inode uint64) { busy[inode] = true }); err != nil {
			return Open{}, err
		}
	}
	if len(busy) == 0 {
		return Open{}, nil
	}
	var o Open
	seen := map[uint64]bool{}
	for _, pid := range proc.Group(leader) {
		if err := inodes(pid, func(inode uint64) {
			is, ours := busy[inode]
			switch {
			case !ours || seen[inode]:
				return
			case is:
				o.Busy++
			default:
				o.Idle++
			}
			seen[inode] = true
		}); err != nil {
			return o, fmt.Errorf("looking at the descriptors of process %d: %w", pid, err)
		}
	}
	return o, nil
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

// idle tells whether nobody waits for anything on a connection.
func idle(s sockdiag.Socket) bool {
	t := s.Info
	if t == nil || s.Unread > 0 || s.Unsent > 0 {
		return false
	}
	sent, received := time.Duration(t.Last_data_sent)*time.Millisecond, time.Duration(t.Last_data_recv)*time.Millisecond // ago
	quiet := min(sent, received)
	switch {
	case t.Bytes_received > 0 && t.Bytes_sent == 0:
		return false
	case t.Bytes_received == 0 || sent < received:
		return quiet >= quietTime
	case sent == received:
		return quiet >= unclearTime
	}
	return false // it was asked something, and has not answered
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
	if err != nil && unix.Kill(pid, 0) == unix.ESRCH {
		return nil
	}
	return err
}
