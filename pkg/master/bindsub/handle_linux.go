package bindsub

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/proc"
)

// handle decides about one call: it is done, it fails, or the kernel is to do it.
func (r *Supervisor) handle(n *notification) (done bool, errno unix.Errno) {
	caller := thread(n.pid)
	fd := int(int32(n.args[0]))
	switch proc.CallOf(n.arch, uint32(n.nr)) {
	case proc.CallListen:
		return r.listen(caller, fd), 0
	case proc.CallListens:
		return r.listens(caller, n, fd), 0
	}
	at, ok := caller.sockaddr(uintptr(n.args[1]), int(uint32(n.args[2])))
	if !ok {
		return false, 0
	}
	var c call
	if err := caller.look(fd, func(old int) { c, ok = called(old, at) }); err != nil {
		if !errors.Is(err, unix.EBADF) && !errors.Is(err, unix.ESRCH) {
			r.tell("what a worker binds cannot be looked at, and passes", zap.Error(err))
		}
		return false, 0
	}
	if !ok {
		return false, 0
	}
	name, refusal := c.match(r.o.Listeners)
	switch {
	case refusal != "":
		r.o.Fact(Refused{refusal})
		return false, unix.EADDRINUSE
	case name != "":
		if err := r.substitute(caller, n, fd, c.options, name); err != nil {
			r.o.Fact(Refused{fmt.Sprintf("it could not be given its slot of listener %s: %v", name, err)})
			return false, unix.EADDRINUSE
		}
		return true, 0
	case c.at.Port() != 0 && !c.reuse:
		began := time.Now()
		rival := r.o.Rival(c.at, c.dual)
		r.looked = time.Since(began)
		if rival != "" {
			r.o.Fact(Refused{c.refuseRival(rival)})
			return false, unix.EADDRINUSE
		}
	case c.at.Port() != 0 && !slices.Contains(r.shares, c.at) && len(r.shares) < maxElsewhere:
		// It is let pass, and nobody is looked for while it waits: a reload goes well with it.
		// Threads bind it again and again; it is told once.
		r.shares = append(r.shares, c.at)
		r.o.Fact(Sharing{At: c.at, Dual: c.dual})
	}
	return false, 0
}

// called is what a bind of a TCP socket asks for; false: it is none.
func called(old int, at netip.AddrPort) (c call, ok bool) {
	family := option(old, unix.SOL_SOCKET, unix.SO_DOMAIN)
	protocol := option(old, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if option(old, unix.SOL_SOCKET, unix.SO_TYPE) != unix.SOCK_STREAM ||
		protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP {
		return c, false
	}
	c = call{at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), six: family == unix.AF_INET6,
		reuse: option(old, unix.SOL_SOCKET, unix.SO_REUSEPORT) == 1}
	for _, o := range inherited {
		c.options = append(c.options, option(old, o.level, o.name))
	}
	c.dual = c.six && at.Addr() == netip.IPv6Unspecified() && option(old, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) == 0
	return c, true
}

// substitute puts the worker's slot in the place of the socket that it binds.
func (r *Supervisor) substitute(caller thread, n *notification, fd int, options []int, name string) error {
	slot, held, err := r.o.Give(name)
	if err != nil {
		return err
	}
	defer unix.Close(slot)
	flags, err := caller.flags(fd)
	if err != nil {
		return err
	}
	// The status flags are the open file's, which the slot's next worker gets anew.
	// Where other workers serve from it already, it is not made to block beneath them.
	if nonBlocking := flags&unix.O_NONBLOCK != 0; nonBlocking || !held {
		if err := unix.SetNonblock(slot, nonBlocking); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	inherit(options, slot)
	id := n.id
	if err := r.ioctl(unix.SECCOMP_IOCTL_NOTIF_ID_VALID, unsafe.Pointer(&id)); err != nil {
		return err // the caller is gone
	}
	a := addfd{id: n.id, flags: unix.SECCOMP_ADDFD_FLAG_SETFD, srcfd: uint32(slot), newfd: uint32(fd)}
	if flags&unix.O_CLOEXEC != 0 {
		a.newfdFlags = unix.O_CLOEXEC
	}
	if err := r.ioctl(unix.SECCOMP_IOCTL_NOTIF_ADDFD, unsafe.Pointer(&a)); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(slot, &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	r.slots[st.Ino] = name
	r.log.Debug("a worker has bound a listener", zap.String("listener", name), zap.Uint32("thread", n.pid))
	return nil
}

// inherited are the options that connections take from their listener and that
// programs set before they bind.
var inherited = []struct{ level, name int }{
	{unix.SOL_SOCKET, unix.SO_KEEPALIVE}, {unix.IPPROTO_TCP, unix.TCP_NODELAY}, {unix.IPPROTO_TCP, unix.TCP_KEEPIDLE},
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT},
	{unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}, {unix.IPPROTO_TCP, unix.TCP_FASTOPEN},
	{unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
}

// inherit gives the slot what the program has set on its socket.
func inherit(options []int, slot int) {
	for i, o := range inherited {
		if is := option(slot, o.level, o.name); options[i] != noOption && is != noOption && is != options[i] {
			_ = unix.SetsockoptInt(slot, o.level, o.name, options[i])
		}
	}
}

// listen: on a slot it is done, and says that the worker listens there. Its
// backlog is the listener's.
func (r *Supervisor) listen(caller thread, fd int) (done bool) {
	inode, err := caller.inode(fd)
	if err != nil {
		return false
	}
	name, ours := r.slots[inode]
	if !ours {
		r.listensElsewhere(caller, fd)
		return false
	}
	i := slices.IndexFunc(r.missing, func(l Listener) bool { return l.Name == name })
	if i < 0 {
		return true // again, or another thread of it
	}
	r.missing = slices.Delete(r.missing, i, i+1)
	r.o.Noted(name)
	if len(r.missing) == 0 {
		r.ready = true
		r.o.Fact(Listens{})
	} else {
		r.o.Fact(Waits{waits(r.missing, r.elsewhere)})
	}
	return true
}

// listens answers whether a socket listens. A slot does from the moment it is bound,
// and a program that asks first would take that for somebody's listen, leave its own
// out, and never be ready: it is told what would be so without us. Where it cannot
// be told, what the kernel says counts for its listen.
func (r *Supervisor) listens(caller thread, n *notification, fd int) (done bool) {
	inode, err := caller.inode(fd)
	if err != nil {
		return false
	}
	name, ours := r.slots[inode]
	if !ours || !slices.ContainsFunc(r.missing, func(l Listener) bool { return l.Name == name }) {
		return false
	}
	if err := caller.putInt(uintptr(n.args[3]), uintptr(n.args[4]), 0); err != nil {
		r.tell("a worker asks whether it listens and cannot be answered", zap.Error(err))
		r.listen(caller, fd)
		return false
	}
	return true
}

// listensElsewhere remembers it, for the case that nothing better comes.
func (r *Supervisor) listensElsewhere(caller thread, fd int) {
	if r.ready || len(r.elsewhere) >= maxElsewhere {
		return
	}
	old, err := caller.socket(fd)
	if err != nil {
		return
	}
	defer fdpass.DiscardWait(nil, old)
	sa, err := unix.Getsockname(old)
	if err != nil {
		return
	}
	var at netip.AddrPort
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		at = netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		at = netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	default:
		return
	}
	if at.Port() != 0 && !slices.Contains(r.elsewhere, at.String()) {
		r.elsewhere = append(r.elsewhere, at.String())
		r.o.Fact(Waits{waits(r.missing, r.elsewhere)})
	}
}
