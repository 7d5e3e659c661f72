package listen

import (
	"fmt"
	"net/netip"
	"os/user"
	"slices"
	"strconv"
	"strings"

	"github.com/prometheus/procfs"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// maxCommand bounds what is shown of a command line, in bytes.
const maxCommand = 60

// holders finds the sockets that listen on the port of an address that
// overlaps ours; if none does, those that are bound there, where the kernel
// tells (since 6.8).
func holders(at netip.AddrPort, dual bool) ([]sockdiag.Socket, error) {
	var found []sockdiag.Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := sockdiag.TCP(sockdiag.Query{Family: family, States: 1<<sockdiag.Listen | 1<<sockdiag.BoundInactive,
			Port: at.Port()}, func(s sockdiag.Socket) {
			if overlap(at.Addr(), dual, s.Local.Addr()) {
				found = append(found, s)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	bound := func(s sockdiag.Socket) bool { return s.State != sockdiag.Listen }
	if slices.ContainsFunc(found, func(s sockdiag.Socket) bool { return !bound(s) }) {
		found = slices.DeleteFunc(found, bound)
	}
	return found, nil
}

// overlap tells whether two local addresses can get the same connection. Of a
// foreign IPv6 wildcard it is not known here whether it takes IPv4: it is
// taken to.
func overlap(ours netip.Addr, dual bool, theirs netip.Addr) bool {
	theirs = theirs.Unmap()
	switch {
	case theirs.IsUnspecified() && theirs.Is6():
		return true
	case ours.IsUnspecified() && dual:
		return true
	case ours.Is4() != theirs.Is4():
		return false
	}
	return ours == theirs || ours.IsUnspecified() || theirs.IsUnspecified()
}

// holderOf names the process that holds a socket, or at least its user.
func holderOf(s sockdiag.Socket) (name string, pid int) {
	if pid := process.WithSocket(s.Inode); pid != 0 {
		return processName(pid), pid
	}
	if u, err := user.LookupId(strconv.Itoa(int(s.UID))); err == nil {
		return "a process of user " + u.Username, 0
	}
	return fmt.Sprintf("a process of uid %d", s.UID), 0
}

// takenBy says that a socket of somebody else's has the address.
func takenBy(s sockdiag.Socket, cause error) *taken {
	name, pid := holderOf(s)
	return &taken{holder: name, pid: pid, cause: cause}
}

// Holders are the processes that listen on, or are bound to, what an address
// overlaps; one for each socket, and only those that this process may look at.
func Holders(at netip.AddrPort, dual bool) ([]Process, error) {
	found, err := holders(at, dual)
	var all []Process
	for _, s := range found {
		if pid := process.WithSocket(s.Inode); pid != 0 {
			all = append(all, Process{pid, processName(pid)})
		}
	}
	return all, err
}

// processName is "pid 123 (nginx -g daemon off;)".
func processName(pid int) string {
	p, err := procfs.NewProc(pid)
	if err != nil {
		return fmt.Sprintf("pid %d, which is gone", pid)
	}
	args, _ := p.CmdLine()
	command := strings.Join(args, " ")
	if command == "" {
		command, _ = p.Comm()
	}
	if len(command) > maxCommand {
		command = command[:maxCommand] + "…"
	}
	if command == "" {
		return fmt.Sprintf("pid %d", pid)
	}
	return fmt.Sprintf("pid %d (%s)", pid, command)
}
