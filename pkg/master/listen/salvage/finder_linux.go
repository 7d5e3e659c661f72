package salvage

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// finder finds out which of a pool's sockets is where in the kernel's array. For
// the moment each gets a segment size of its own (TCP_MAXSEG): the kernel tells it
// to a client in its answer to the SYN, whoever accepts the connection, and
// whenever.
type finder struct {
	*salvage
	at     netip.AddrPort
	dual   bool
	fresh  steer.Baseline // that of a socket no worker has had
	probes map[netip.AddrPort]bool
	strays []int // clients' connections that were met in queues
}

const (
	// firstSegment and segmentStep give each slot that workers may have a size
	// that the kernel takes, apart also when a client takes its options off.
	firstSegment = 536
	segmentStep  = 16 // bytes
	// ownSegment is what clients are told who wait meanwhile: more than their path
	// allows, so that it is nothing to them.
	ownSegment = 32000
	// handshakeWait bounds the wait for clients that were on their way when the
	// steering was taken over; between two looks lookPause passes.
	handshakeWait = time.Second
	lookPause     = 10 * time.Millisecond
	// maxStrays bounds what is taken out of one slot's queue; the rest waits there.
	maxStrays = 1024
	// findLimit bounds how long all indices are asked for. Of one that gives no answer
	// nothing is known: the machine may be overloaded, or its queue be full.
	findLimit = 15 * time.Second
)

// order asks for each index in turn. On an error it gives those that it has found.
func (f *finder) order() (order []int, err error) {
	n := len(f.Sockets) - 1
	if err := f.collect(n); err != nil {
		return nil, err
	}
	tag := func(name string, size int) (restore func(), err error) {
		fd := f.Sockets[name]
		was, _ := unix.GetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG)
		if was == f.fresh.Segment {
			was = 0 // the path's own
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, size); err != nil {
			return nil, fmt.Errorf("setting the segment size of socket %s, to find it: %w", name, err)
		}
		return func() { _ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, was) }, nil
	}
	var slots []int // the first one's size is the first
	for name := range f.Sockets {
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
		slot, at := steer.OwnOrder, (segment-firstSegment+segmentStep-1)/segmentStep
		if at < n && segment > firstSegment-segmentStep {
			slot = slots[at]
		}
		if slices.Contains(order, slot) || segment > ownSegment || (slot == steer.OwnOrder) != (index == n) {
			return order, fmt.Errorf("index %d of %d leads to a socket with segments of %d bytes, which is no slot's or "+
				"another's too", index, n, segment)
		}
		order = append(order, slot)
	}
	return order, nil
}

// collect has all new connections wait in the last socket of the array, and
// those from a reserved source go to the index that they name.
func (f *finder) collect(n int) error {
	return f.steer(n, []steer.Target{{Index: uint32(n), Weight: 1}}, 0)
}

func (f *finder) steer(n int, to []steer.Target, sticky uint32) error {
	index := make([]uint32, n+1)
	for i := range index {
		index[i] = uint32(i)
	}
	v6 := f.at.Addr().Is6()
	g := steer.Group{Index: index, IPv4: f.dual || !v6, IPv6: v6}
	return f.Attach(f.Sockets[steer.Own], g.Program(to, sticky))
}

// giveBack steers to those that were steered to, as far as they are in the order;
// if none is, all new connections wait in the master's own socket as before.
func (f *finder) giveBack(order []int) error {
	n := len(f.Sockets) - 1
	var to []steer.Target
	for _, s := range f.Shares {
		if at := slices.Index(order, s.Slot); at >= 0 {
			to = append(to, steer.Target{Index: uint32(at), Weight: s.Weight, Canary: s.Canary})
		}
	}
	if len(to) == 0 {
		return nil
	}
	return f.steer(n, to, f.Sticky)
}

// segmentAt is the size that the socket at an index tells a client. It is asked for
// again until the end: no answer proves nothing. Each time there is more time for it,
// and there is room in the queues, one of which may be full.
func (f *finder) segmentAt(index int, end time.Time) (int, error) {
	for limit := steer.DialLimit; ; limit *= 2 {
		segment, err := f.askSegment(index, min(limit, max(steer.DialLimit, time.Until(end))))
		if late := (net.Error)(nil); err == nil || !errors.As(err, &late) || !late.Timeout() || time.Now().After(end) {
			return segment, err
		}
		f.Log.Warn("a socket of the pool does not answer; it is asked again", zap.String("listener", f.Listener.Name),
			zap.Int("index", index), zap.Duration("after", limit))
		f.sweep(nil)
	}
}

func (f *finder) askSegment(index int, limit time.Duration) (int, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := steer.Dial(ctx, f.at, f.dual, index)
	if err != nil {
		return 0, err
	}
	defer steer.Reset(c)
	t := c.(*net.TCPConn)
	f.probes[t.LocalAddr().(*net.TCPAddr).AddrPort()] = true
	var info *unix.TCPInfo
	err = fdpass.Control(t, func(fd int) (err error) {
		info, err = unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		return err
	})
	if err != nil {
		return 0, fmt.Errorf("asking for the segment size: %w", err)
	}
	return int(info.Snd_mss), nil
}

// sweep takes out of the slots' queues what waits there, but not out of those whose
// workers are steered to and accept it themselves.
func (f *finder) sweep(but []Share) {
	for name, fd := range f.Sockets {
		accepted := slices.ContainsFunc(but, func(s Share) bool { return strconv.Itoa(s.Slot) == name })
		if name == steer.Own || accepted || !steer.Readable(fd) {
			continue
		}
		// A live worker has it, which may expect to wait in accept: the mode is
		// changed for no longer than this takes.
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFL, 0)
		if err != nil || steer.Nonblock(fd) != nil {
			continue
		}
		for range maxStrays {
			got, sa, err := steer.Accept(fd)
			if err != nil {
				break
			}
			if f.probes[steer.AddrOf(sa)] {
				_ = unix.Close(got)
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
	time.Sleep(sockdiag.SettleTime)
	var pending map[sockdiag.Flow]struct{}
	for end := time.Now().Add(handshakeWait); time.Now().Before(end); time.Sleep(lookPause) {
		flows, err := f.Handshakes(f.at.Addr().Is6())
		if err != nil {
			break
		}
		if pending = sockdiag.StillUnderWay(pending, flows, map[uint16]bool{f.at.Port(): true}); len(pending) == 0 {
			break
		}
	}
	f.sweep(f.Shares)
}
