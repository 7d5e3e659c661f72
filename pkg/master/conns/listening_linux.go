package conns

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Listening are the addresses on which processes listen by TCP.
func Listening(processes []int) (at []netip.AddrPort, err error) {
	ours := map[uint64]bool{}
	for _, pid := range processes {
		if err := inodes(pid, func(inode uint64) { ours[inode] = true }); err != nil {
			return nil, err
		}
	}
	if len(ours) == 0 {
		return nil, nil
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		if err := sockdiag.TCP(sockdiag.Query{Family: family, States: 1 << sockdiag.Listen}, func(s sockdiag.Socket) {
			if ours[s.Inode] && !slices.Contains(at, s.Local) {
				at = append(at, s.Local)
			}
		}); err != nil {
			return nil, err
		}
	}
	slices.SortFunc(at, netip.AddrPort.Compare)
	return at, nil
}
