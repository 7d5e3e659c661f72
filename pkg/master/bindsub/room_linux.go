package bindsub

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/proc"
)

// maxElsewhere bounds what is remembered of addresses that are no listener's.
const maxElsewhere = 8

// Room answers the calls of one worker.
type Room struct {
	o     Options
	log   *zap.Logger
	file  *os.File
	raw   syscall.RawConn
	sizes sizes
	done  chan struct{} // closed when nothing is answered any more

	answering sync.Mutex // held from taking a call until it is answered
	stopped   bool       // guarded by it

	// Of the one goroutine.
	slots     map[uint64]string // inodes of what was given, and the listener
	missing   []Listener        // not listened on yet
	elsewhere []string
	ready     bool
	told      time.Time
	looked    time.Duration // at all processes, in the call
}

// notification is struct seccomp_notif of the kernel.
type notification struct {
	id    uint64
	pid   uint32 // a thread's
	flags uint32
	nr    int32
	arch  uint32
	ip    uint64
	args  [6]uint64
}

// answer is struct seccomp_notif_resp.
type answer struct {
	id    uint64
	val   int64
	err   int32
	flags uint32
}

// addfd is struct seccomp_notif_addfd.
type addfd struct {
	id         uint64
	flags      uint32
	srcfd      uint32
	newfd      uint32
	newfdFlags uint32
}

// sizes is struct seccomp_notif_sizes: what the kernel takes the first two to be.
type sizes struct{ notif, resp, data uint16 }

// Begin answers a worker's calls until Close.
func Begin(o Options) (*Room, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	r := &Room{o: o, log: o.Log, done: make(chan struct{}), slots: map[uint64]string{}}
	for _, l := range o.Listeners {
		if !slices.Contains(o.Bound, l.Name) {
			r.missing = append(r.missing, l)
		}
		if l.Inode != 0 {
			r.slots[l.Inode] = l.Name
		}
	}
	r.ready = len(r.missing) == 0
	_, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_NOTIF_SIZES, 0, uintptr(unsafe.Pointer(&r.sizes)))
	err := error(errno)
	if errno == 0 {
		err = unix.SetNonblock(o.FD, true) // so that the runtime waits for it
	}
	if err != nil {
		_ = unix.Close(o.FD)
		return nil, fmt.Errorf("a worker's calls of bind cannot be answered: %w", err)
	}
	r.file = os.NewFile(uintptr(o.FD), "seccomp")
	if r.raw, err = r.file.SyscallConn(); err != nil {
		_ = r.file.Close()
		return nil, fmt.Errorf("a worker's calls of bind cannot be answered: %w", err)
	}
	r.KeepAgain()
	go r.run()
	return r, nil
}

// KeepAgain tells Keep once more.
func (r *Room) KeepAgain() {
	if r.o.Keep != nil {
		_ = r.raw.Control(func(fd uintptr) { r.o.Keep(int(fd)) })
	}
}

// Close ends the answering. What was taken is answered; a call that comes later
// waits for whoever else holds the descriptor, or fails when nobody does.
func (r *Room) Close() {
	_ = r.file.SetReadDeadline(time.Now())
	stopped := make(chan struct{})
	go func() { // bounded: a kernel before 6.11 may let the taking wait for a call that was given up
		r.answering.Lock()
		r.stopped = true
		r.answering.Unlock()
		close(stopped)
	}()
	limit := time.NewTimer(stopWait)
	defer limit.Stop()
	select {
	case <-stopped:
		<-r.done
		_ = r.file.Close()
	case <-limit.C:
		r.log.Warn("a call of a worker's is taken and not answered yet")
	}
}

// run takes one call after the other.
func (r *Room) run() {
	defer close(r.done)
	if !r.ready {
		r.o.Fact(Waits{waits(r.missing, nil)})
	} else if len(r.o.Listeners) == 0 || len(r.o.Bound) > 0 {
		r.o.Fact(Listens{})
	}
	var p pace
	for r.wait() {
		r.looked = 0
		if !r.one() {
			return
		}
		if pause := p.after(time.Now(), r.looked); pause > 0 {
			r.tell("a worker calls bind or listen more often than is answered; it waits", zap.Int("calls a second", perSecond), zap.Int("of the time, one in", share))
			time.Sleep(pause)
		}
	}
}

// pace says how long to wait, so that calls get their share of the time and no more.
type pace struct{ paid time.Time } // when all calls so far will have been paid for

// after is the wait after a call in which all processes were looked at for so long. Other
// calls take next to nothing: what passes meanwhile on a busy machine is not theirs.
func (p *pace) after(now time.Time, took time.Duration) time.Duration {
	if p.paid.Before(now) {
		p.paid = now
	}
	p.paid = p.paid.Add(max(share*took, time.Second/perSecond))
	if most := now.Add(burst + pauseMost); p.paid.After(most) {
		p.paid = most
	}
	return p.paid.Sub(now) - burst
}

// wait waits until a call is there to be taken; false: there will be none.
func (r *Room) wait() bool {
	over := false
	err := r.raw.Read(func(fd uintptr) bool {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		n, err := unix.Poll(p, 0)
		switch {
		case errors.Is(err, unix.EINTR):
			return true // wait comes again
		case err != nil || n > 0 && p[0].Revents&unix.POLLIN == 0:
			over = true // nobody has the filter any more
			return true
		}
		return n > 0
	})
	return err == nil && !over
}

// one takes a call and answers it; false: it was stopped.
func (r *Room) one() bool {
	r.answering.Lock()
	defer r.answering.Unlock()
	if r.stopped {
		return false
	}
	buf := make([]uint64, (max(int(r.sizes.notif), int(unsafe.Sizeof(notification{})))+7)/8) // zeroed, as the kernel demands
	if err := r.ioctl(unix.SECCOMP_IOCTL_NOTIF_RECV, unsafe.Pointer(&buf[0])); err != nil {
		return !errors.Is(err, unix.EBADF) // the caller died meanwhile, or a signal came first
	}
	n := (*notification)(unsafe.Pointer(&buf[0]))
	out := make([]uint64, (max(int(r.sizes.resp), int(unsafe.Sizeof(answer{})))+7)/8)
	a := (*answer)(unsafe.Pointer(&out[0]))
	a.id = n.id
	switch done, errno := r.handle(n); {
	case errno != 0:
		a.err = -int32(errno)
	case !done:
		a.flags = unix.SECCOMP_USER_NOTIF_FLAG_CONTINUE
	}
	if err := r.ioctl(unix.SECCOMP_IOCTL_NOTIF_SEND, unsafe.Pointer(a)); err != nil && !errors.Is(err, unix.ENOENT) {
		r.tell("a call of a worker's cannot be answered", zap.Error(err))
	}
	return true
}

func (r *Room) ioctl(request uint, p unsafe.Pointer) (err error) {
	cerr := r.raw.Control(func(fd uintptr) {
		for {
			_, _, errno := unix.Syscall(unix.SYS_IOCTL, fd, uintptr(request), uintptr(p))
			if errno == unix.EINTR {
				continue
			}
			if errno != 0 {
				err = errno
			}
			return
		}
	})
	return errors.Join(cerr, err)
}

func (r *Room) tell(what string, fields ...zap.Field) {
	if time.Since(r.told) >= toldEvery {
		r.told = time.Now()
		r.log.Warn(what, fields...)
	}
}

// handle decides about one call: it is done, it fails, or the kernel is to do it.
func (r *Room) handle(n *notification) (done bool, errno unix.Errno) {
	caller := thread(n.pid)
	fd := int(int32(n.args[0]))
	switch proc.CallOf(n.arch, uint32(n.nr)) {
	case proc.CallListen:
		return r.listen(caller, fd), 0
	case proc.CallListens:
		return r.listens(caller, n, fd), 0
	}
	old, err := caller.socket(fd)
	if err != nil {
		if !errors.Is(err, unix.EBADF) && !errors.Is(err, unix.ESRCH) {
			r.tell("what a worker binds cannot be looked at, and passes", zap.Error(err))
		}
		return false, 0
	}
	// At once, as the program may close its own and bind the address again when it is
	// answered. If this close hangs, it is the program's own call that does.
	defer unix.Close(old)
	c, ok := r.called(caller, n, old)
	if !ok {
		return false, 0
	}
	name, refusal := c.match(r.o.Listeners)
	switch {
	case refusal != "":
		r.o.Fact(Refused{refusal})
		return false, unix.EADDRINUSE
	case name != "":
		if err := r.substitute(caller, n, fd, old, name); err != nil {
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
	}
	return false, 0
}

// called reads what a bind of a TCP socket asks for; false: it is none.
func (r *Room) called(caller thread, n *notification, old int) (c call, ok bool) {
	option := func(level, name int) int {
		v, err := unix.GetsockoptInt(old, level, name)
		if err != nil {
			return -1
		}
		return v
	}
	family := option(unix.SOL_SOCKET, unix.SO_DOMAIN)
	protocol := option(unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if option(unix.SOL_SOCKET, unix.SO_TYPE) != unix.SOCK_STREAM || family != unix.AF_INET && family != unix.AF_INET6 ||
		protocol != unix.IPPROTO_TCP && protocol != unix.IPPROTO_MPTCP {
		return c, false
	}
	at, ok := caller.sockaddr(uintptr(n.args[1]), int(uint32(n.args[2])))
	if !ok {
		return c, false
	}
	c = call{at: netip.AddrPortFrom(at.Addr().Unmap(), at.Port()), six: family == unix.AF_INET6, reuse: option(unix.SOL_SOCKET, unix.SO_REUSEPORT) == 1}
	c.dual = c.six && at.Addr() == netip.IPv6Unspecified() && option(unix.IPPROTO_IPV6, unix.IPV6_V6ONLY) == 0
	return c, true
}

// substitute puts the worker's slot in the place of the socket that it binds.
func (r *Room) substitute(caller thread, n *notification, fd, old int, name string) error {
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
	inherit(old, slot)
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
	{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL}, {unix.IPPROTO_TCP, unix.TCP_KEEPCNT}, {unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT},
	{unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT}, {unix.IPPROTO_TCP, unix.TCP_FASTOPEN}, {unix.IPPROTO_TCP, unix.TCP_NOTSENT_LOWAT},
}

// inherit gives the slot what the program has set on its socket.
func inherit(old, slot int) {
	for _, o := range inherited {
		was, err1 := unix.GetsockoptInt(old, o.level, o.name)
		is, err2 := unix.GetsockoptInt(slot, o.level, o.name)
		if err1 == nil && err2 == nil && was != is {
			_ = unix.SetsockoptInt(slot, o.level, o.name, was)
		}
	}
}

// listen: on a slot it is done, and says that the worker listens there. Its
// backlog is the listener's.
func (r *Room) listen(caller thread, fd int) (done bool) {
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
func (r *Room) listens(caller thread, n *notification, fd int) (done bool) {
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
func (r *Room) listensElsewhere(caller thread, fd int) {
	if r.ready || len(r.elsewhere) >= maxElsewhere {
		return
	}
	old, err := caller.socket(fd)
	if err != nil {
		return
	}
	defer unix.Close(old)
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
