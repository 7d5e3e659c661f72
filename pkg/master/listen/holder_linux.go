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
)

// maxCommand bounds what is shown of a command line, in bytes.
const maxCommand = 60

// holders finds the sockets that listen on the port of an address that
// overlaps ours; if none does, those that are bound there, where the kernel
// tells (since 6.8).
func holders(at netip.AddrPort, dual bool) ([]tcpSocket, error) {
	var found []tcpSocket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := dumpTCP(family, 1<<tcpListen|1<<tcpBoundInactive, at.Port(), func(s tcpSocket) {
			if overlap(at.Addr(), dual, s.local.Addr()) {
				found = append(found, s)
			}
		})
		if err != nil {
			return nil, err
		}
	}
	bound := func(s tcpSocket) bool { return s.state != tcpListen }
	if slices.ContainsFunc(found, func(s tcpSocket) bool { return !bound(s) }) {
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
func holderOf(s tcpSocket) string {
	if name := processWith(s.inode); name != "" {
		return name
	}
	if u, err := user.LookupId(strconv.Itoa(int(s.uid))); err == nil {
		return "a process of user " + u.Username
	}
	return fmt.Sprintf("a process of uid %d", s.uid)
}

// processWith finds who has a socket open. Empty: nobody that we may look at.
func processWith(inode uint64) string {
	if inode == 0 {
		return ""
	}
	procs, err := procfs.AllProcs()
	if err != nil {
		return ""
	}
	want := fmt.Sprintf("socket:[%d]", inode)
	for _, p := range procs {
		targets, err := p.FileDescriptorTargets()
		if err != nil {
			continue // gone, or not ours to look at
		}
		if slices.Contains(targets, want) {
			return processName(p.PID)
		}
	}
	return ""
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
