package listen

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// When the master and who held its sockets beside it have died together, only
// the workers have them still, each the one of its slot. They serve on, but the
// pool has lost the others, and with them its order: the program in force names
// indices that are other sockets' now. So the sockets are copied out of the
// workers' processes (pidfd_getfd(2)), and what the order is now is found out by
// connections to each index. Meanwhile, and for some milliseconds only, clients
// wait in the queue of a new socket behind all others.

const (
	// salvageSettle is how long sockets may be in the pool that no worker has, and a
	// worker may refuse: processes that are being killed close theirs one after
	// another, and look like another user's meanwhile.
	salvageSettle = 2 * time.Second
	salvagePause  = 5 * time.Millisecond
	// handshakeWait bounds the wait for clients that were on their way when the
	// steering was taken over.
	handshakeWait = time.Second
	// maxStrays bounds what is taken out of one slot's queue; the rest waits there.
	maxStrays = 1024
)

// salvage adds to a pool what the holders have of a listener, and finds out its
// order. It stays empty when nobody has anything.
func (o opener) salvage(c config.Listener, p *pool) (strays []int, err error) {
	if len(o.holders) == 0 && len(p.sockets) == 0 {
		return nil, nil
	}
	held := len(p.sockets)
	if c.Network == "unix" {
		err = o.salvageUnix(c, p)
	} else {
		strays, err = o.salvageTCP(c, p)
	}
	if err != nil {
		p.close()
		return nil, fmt.Errorf("taking the sockets over from the workers, as nobody else holds them all: %w", err)
	}
	if len(p.sockets) > 0 {
		o.log.Warn("not all sockets were held beside the last master; they were taken over from its workers",
			zap.String("listener", c.Name), zap.Int("held", held), zap.Int("sockets", len(p.sockets)), zap.Int("connections found astray", len(strays)), zap.Ints("order", p.meta.Order))
	}
	return strays, nil
}

// salvageUnix looks at each socket that a holder has: the kernel's table of them,
// /proc/net/unix, may leave some out while others come and go.
func (o opener) salvageUnix(c config.Listener, p *pool) error {
	p.meta = heldMeta{Steering: link}
	for _, h := range o.holders {
		slot := strconv.Itoa(h.Slot)
		wanted := map[string]string{hiddenName(c.Path, slot): slot, hiddenName(c.Path, heldOwn): heldOwn}
		take := func(_ uint64, fd int) bool {
			name, ok := wanted[listensOn(fd)]
			if _, have := p.sockets[name]; !ok || have {
				return false
			}
			p.sockets[name] = fd
			return true
		}
		err := copyOut(h.PID, take)
		for end := time.Now().Add(salvageSettle); errors.Is(err, os.ErrPermission) && time.Now().Before(end); {
			time.Sleep(salvagePause)
			err = copyOut(h.PID, take)
		}
		if err != nil {
			return err
		}
		if _, ok := p.sockets[heldOwn]; ok { // no worker of a slot has that one
			p.meta.Steering, p.meta.Reason = shared, sharedReason
			return nil
		}
	}
	return nil
}

// listensOn is the path of a Unix socket that listens; empty: it is another.
func listensOn(fd int) string {
	if on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on == 0 || isShut(fd) {
		return ""
	}
	sa, err := unix.Getsockname(fd)
	if at, ok := sa.(*unix.SockaddrUnix); err == nil && ok {
		return at.Name
	}
	return ""
}

func (o opener) salvageTCP(c config.Listener, p *pool) (strays []int, err error) {
	at, dual, err := resolve(c)
	if err != nil {
		return nil, err
	}
	for _, fd := range p.sockets { // a port that the kernel chose is known from these alone
		if at, err = boundTo(fd); err != nil {
			return nil, err
		}
	}
	if at.Port() == 0 {
		return nil, nil
	}
	alien, err := o.gather(p, at)
	if err != nil || len(p.sockets) == 0 {
		return nil, err
	}
	if _, ok := p.sockets[heldOwn]; ok {
		p.meta = heldMeta{Steering: shared, Reason: sharedReason}
		return nil, nil
	}
	if alien.Inode != 0 {
		return nil, &taken{holder: holderOf(alien), cause: errors.New("a socket of the pool is no known worker's")}
	}
	p.meta.Steering = kernel
	// What cannot be used is refused before anything is changed.
	if err := p.fits(family(at), o.slots); err != nil {
		return nil, err
	}
	fresh, err := freshBaseline(family(at))
	if err != nil {
		return nil, err
	}
	own, err := boundSocket(at, dual, true)
	if err != nil {
		return nil, err
	}
	p.sockets[heldOwn] = own
	if err := unix.Listen(own, c.Backlog); err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	f := finder{opener: o, l: &listener{conf: c, addr: at, dual: dual, steering: kernel}, sockets: p.sockets, fresh: fresh, probes: map[netip.AddrPort]bool{}}
	p.meta.Order, err = f.order()
	// From here on new connections go where they went before the deaths, so that a
	// start which fails later leaves the traffic as it was; and so one that fails here,
	// as far as is known. They are steered before this process's own socket closes: a
	// program that leads to it would be the kernel's hash then, over all slots.
	if back := f.giveBack(p.meta.Order); err == nil {
		err = back
	}
	if err == nil {
		f.settle()
		return f.strays, nil
	}
	for _, fd := range f.strays {
		closeFD(fd)
	}
	return nil, err
}

// gather copies the sockets that listen on the address out of the holders, by
// their slots. alien is one that no holder has.
func (o opener) gather(p *pool, at netip.AddrPort) (alien sockdiag.Socket, err error) {
	known := map[uint64]bool{}
	for _, fd := range p.sockets {
		known[inodeOf(fd)] = true
	}
	for end := time.Now().Add(salvageSettle); ; time.Sleep(salvagePause) {
		listening := map[uint64]bool{}
		all := map[uint64]sockdiag.Socket{}
		err := sockdiag.TCP(sockdiag.Query{Family: uint8(family(at)), States: 1 << sockdiag.Listen, Port: at.Port()}, func(s sockdiag.Socket) {
			if s.Local == at {
				listening[s.Inode], all[s.Inode] = true, s
			}
		})
		if err != nil {
			return alien, err
		}
		for inode := range known {
			delete(listening, inode)
		}
		var refused error
		for _, h := range o.holders {
			if len(listening) == 0 {
				break
			}
			twice := false
			err := copyOut(h.PID, func(inode uint64, fd int) bool {
				name := strconv.Itoa(h.Slot)
				if pooled, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT); err == nil && pooled == 0 {
					name = heldOwn // shared: all have the same
				}
				_, have := p.sockets[name]
				if twice = twice || listening[inode] && have; !listening[inode] || have {
					return false
				}
				p.sockets[name], known[inode] = fd, true
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

// copyOut copies the sockets out of a process, one after the other, each once,
// and closes those that are not taken. A process that is gone has none.
func copyOut(pid int, take func(inode uint64, fd int) bool) (err error) {
	handle := -1
	defer func() {
		gone := errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH)
		// One that nobody has waited for yet looks like another user's.
		if errors.Is(err, os.ErrPermission) && handle >= 0 {
			gone = readable(handle)
		}
		if handle >= 0 {
			closeFD(handle)
		}
		switch {
		case gone:
			err = nil
		case err != nil:
			err = fmt.Errorf("copying sockets out of process %d (it takes its user's rights, and CAP_SYS_PTRACE where Yama forbids it): %w", pid, err)
		}
	}()
	if handle, err = unix.PidfdOpen(pid, 0); err != nil {
		return err
	}
	open, err := socketsOf(pid)
	if err != nil {
		return err
	}
	seen := map[uint64]bool{}
	for number, inode := range open {
		if seen[inode] {
			continue
		}
		fd, err := unix.PidfdGetfd(handle, number, 0)
		switch {
		case errors.Is(err, unix.EBADF): // closed just now
			continue
		case err != nil:
			return err
		}
		// Another may have its number since.
		if inodeOf(fd) != inode || !take(inode, fd) {
			ipc.Discard(fd)
			continue
		}
		seen[inode] = true
	}
	return nil
}

// socketsOf are the inodes of a process's sockets, by its descriptors.
func socketsOf(pid int) (map[int]uint64, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	found := map[int]uint64{}
	for _, e := range names {
		target, err := os.Readlink(dir + "/" + e.Name())
		if err != nil {
			continue // closed just now
		}
		if digits, ok := strings.CutPrefix(target, "socket:["); ok {
			inode, _ := strconv.ParseUint(strings.TrimSuffix(digits, "]"), 10, 64)
			number, _ := strconv.Atoi(e.Name())
			found[number] = inode
		}
	}
	return found, nil
}

// finder finds out which of a pool's sockets is where in the kernel's array. For
// the moment each gets a segment size of its own (TCP_MAXSEG): the kernel tells it
// to a client in its answer to the SYN, whoever accepts the connection, and
// whenever.
type finder struct {
	opener
	l       *listener
	sockets map[string]int // the slots' and the master's own
	fresh   baseline       // that of a socket no worker has had
	probes  map[netip.AddrPort]bool
	strays  []int // clients' connections that were met in queues
}

const (
	// firstSegment and segmentStep give each slot that workers may have a size
	// that the kernel takes, apart also when a client takes its options off.
	firstSegment = 536
	segmentStep  = 16 // bytes
	// ownSegment is what clients are told who wait meanwhile: more than their path
	// allows, so that it is nothing to them.
	ownSegment = 32000
	// findLimit bounds how long all indices are asked for. Of one that gives no answer
	// nothing is known: the machine may be overloaded, or its queue be full.
	findLimit = 15 * time.Second
)

// order asks for each index in turn. On an error it gives those that it has found.
func (f *finder) order() (order []int, err error) {
	n := len(f.sockets) - 1
	if err := f.collect(n); err != nil {
		return nil, err
	}
	tag := func(name string, size int) (restore func(), err error) {
		fd := f.sockets[name]
		was, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG)
		if was == f.fresh.segment {
			was = 0 // the path's own
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, size); err != nil {
			return nil, fmt.Errorf("setting the segment size of socket %s, to find it: %w", name, err)
		}
		return func() { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, was) }, nil
	}
	var slots []int // the first one's size is the first
	for name := range f.sockets {
		size := ownSegment
		if slot, err := strconv.Atoi(name); err == nil {
			size = firstSegment + segmentStep*len(slots)
			slots = append(slots, slot)
		}
		restore, err := tag(name, size)
		if err != nil {
			return nil, err
		}
		defer restore()
	}
	end := time.Now().Add(findLimit)
	for index := range n + 1 {
		segment, err := f.segmentAt(index, end)
		if err != nil {
			return order, fmt.Errorf("finding out which slot is at index %d of %d: %w", index, n, err)
		}
		slot, at := heldOwnOrder, (segment-firstSegment+segmentStep-1)/segmentStep
		if at < n && segment > firstSegment-segmentStep {
			slot = slots[at]
		}
		if slices.Contains(order, slot) || segment > ownSegment || (slot == heldOwnOrder) != (index == n) {
			return order, fmt.Errorf("index %d of %d leads to a socket with segments of %d bytes, which is no slot's or another's too", index, n, segment)
		}
		order = append(order, slot)
	}
	return order, nil
}

// collect has all new connections wait in the last socket of the array, and
// those from a reserved source go to the index that they name.
func (f *finder) collect(n int) error {
	return f.steer(n, []target{{uint32(n), 1}})
}

func (f *finder) steer(n int, to []target) error {
	index := make([]uint32, n+1)
	for i := range index {
		index[i] = uint32(i)
	}
	v6 := f.l.addr.Addr().Is6()
	return f.system.attach(f.sockets[heldOwn], program(index, to, f.l.dual || !v6, v6))
}

// giveBack steers to those that were steered to, as far as they are in the order;
// if none is, all new connections wait in the master's own socket as before.
func (f *finder) giveBack(order []int) error {
	n := len(f.sockets) - 1
	var to []target
	for _, s := range f.shares {
		if at := slices.Index(order, s.Slot); at >= 0 {
			to = append(to, target{uint32(at), s.Weight})
		}
	}
	if len(to) == 0 {
		return nil
	}
	return f.steer(n, to)
}

// segmentAt is the size that the socket at an index tells a client. It is asked for
// again until the end: no answer proves nothing. Each time there is more time for it,
// and there is room in the queues, one of which may be full.
func (f *finder) segmentAt(index int, end time.Time) (int, error) {
	for limit := verifyTimeout; ; limit *= 2 {
		segment, err := f.askSegment(index, min(limit, max(verifyTimeout, time.Until(end))))
		if late := (net.Error)(nil); err == nil || !errors.As(err, &late) || !late.Timeout() || time.Now().After(end) {
			return segment, err
		}
		f.log.Warn("a socket of the pool does not answer; it is asked again", zap.String("listener", f.l.conf.Name), zap.Int("index", index), zap.Duration("after", limit))
		f.sweep(nil)
	}
}

func (f *finder) askSegment(index int, limit time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := f.l.dial(ctx, index)
	if err != nil {
		return 0, err
	}
	defer reset(c)
	t := c.(*net.TCPConn)
	f.probes[t.LocalAddr().(*net.TCPAddr).AddrPort()] = true
	raw, err := t.SyscallConn()
	if err != nil {
		return 0, err
	}
	var info *unix.TCPInfo
	var asked error
	if err := raw.Control(func(fd uintptr) { info, asked = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); err != nil {
		return 0, err
	}
	if asked != nil {
		return 0, fmt.Errorf("asking for the segment size: %w", asked)
	}
	return int(info.Snd_mss), nil
}

// sweep takes out of the slots' queues what waits there, but not out of those whose
// workers are steered to and accept it themselves.
func (f *finder) sweep(but []Share) {
	for name, fd := range f.sockets {
		accepted := slices.ContainsFunc(but, func(s Share) bool { return strconv.Itoa(s.Slot) == name })
		if name == heldOwn || accepted || !readable(fd) {
			continue
		}
		// A live worker has it, which may expect to wait in accept: the mode is
		// changed for no longer than this takes.
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || assertNonblock(fd) != nil {
			continue
		}
		for range maxStrays {
			got, sa, err := acceptNow(fd)
			if err != nil {
				break
			}
			if f.probes[addrOf(sa)] {
				closeFD(got)
				continue
			}
			f.strays = append(f.strays, got)
		}
		if flags&unix.O_NONBLOCK == 0 {
			_, _ = unix.FcntlInt(uintptr(fd), unix.F_SETFL, flags) // it was read a moment ago: it can be set
		}
	}
}

// settle waits for those clients whose handshakes had begun when the steering
// was taken over, and takes them out of queues that nobody may look into.
func (f *finder) settle() {
	time.Sleep(settleTime)
	var pending map[sockdiag.Flow]struct{}
	for end := time.Now().Add(handshakeWait); time.Now().Before(end); time.Sleep(firstLook) {
		flows, err := f.system.handshakes(f.l.addr.Addr().Is6())
		if err != nil {
			break
		}
		if pending = stillUnderWay(pending, flows, map[uint16]bool{f.l.addr.Port(): true}); len(pending) == 0 {
			break
		}
	}
	f.sweep(f.shares)
}

func family(at netip.AddrPort) int {
	if at.Addr().Is6() {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func addrOf(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port))
	}
	return netip.AddrPort{}
}
