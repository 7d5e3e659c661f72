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
)

// maxElsewhere bounds what is remembered of addresses that are no listener's.
const maxElsewhere = 8

// Supervisor answers the calls of one worker.
type Supervisor struct {
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
	shares    []netip.AddrPort // bound with SO_REUSEPORT and no listener's
	ready     bool
	reported  time.Time
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
func Begin(o Options) (*Supervisor, error) {
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	r := &Supervisor{o: o, log: o.Log, done: make(chan struct{}), slots: map[uint64]string{}}
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
	go r.run()
	return r, nil
}

// Close ends the answering. What was taken is answered; a call that comes later
// waits for whoever else holds the descriptor, or fails when nobody does.
func (r *Supervisor) Close() {
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
func (r *Supervisor) run() {
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
			r.tell("a worker calls bind or listen more often than is answered; it waits",
				zap.Int("calls a second", perSecond), zap.Int("of the time, one in", share))
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
func (r *Supervisor) wait() bool {
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
func (r *Supervisor) one() bool {
	r.answering.Lock()
	defer r.answering.Unlock()
	if r.stopped {
		return false
	}
	// zeroed, as the kernel demands
	buf := make([]uint64, (max(int(r.sizes.notif), int(unsafe.Sizeof(notification{})))+7)/8)
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

func (r *Supervisor) ioctl(request uint, p unsafe.Pointer) (err error) {
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

func (r *Supervisor) tell(what string, fields ...zap.Field) {
	if time.Since(r.reported) >= reportEvery {
		r.reported = time.Now()
		r.log.Warn(what, fields...)
	}
}
