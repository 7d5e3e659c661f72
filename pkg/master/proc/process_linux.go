package proc

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

// reapPoll is how often a process is asked whether it is gone where the kernel
// has no pidfd to wait on (before 5.3, and in some sandboxes).
const reapPoll = 20 * time.Millisecond

// Process is a started worker. Its methods may be called from any goroutine.
type Process struct {
	pid   int
	pidfd *os.File // nil: the kernel has none

	contained bool // see Contained

	stranger *stranger // nil: our child
	group    int       // that it is in and does not lead; zero: it leads one

	mu     sync.Mutex
	filter int  // see Filter
	spares bool // its group goes on without it
	reaped bool // from then on the pid may be somebody else's
	exit   Exit

	done  chan struct{} // closed once reaped
	stop  chan struct{} // closed by Close
	close sync.Once
	ended sync.WaitGroup // the watching goroutine
}

// watch takes over a child. Its pid stays its own until this reaps it.
func watch(pid, pidfd int) *Process {
	p := &Process{pid: pid, filter: -1, done: make(chan struct{}), stop: make(chan struct{})}
	p.watch(pidfd)
	return p
}

func (p *Process) watch(pidfd int) {
	if pidfd >= 0 {
		// Nonblocking, so that the runtime's poller waits for it: a worker
		// costs no thread.
		unix.SetNonblock(pidfd, true)
		p.pidfd = os.NewFile(uintptr(pidfd), "pidfd")
	}
	p.ended.Go(p.reap)
}

// PID is the worker's process id. It is the worker's until Done.
func (p *Process) PID() int { return p.pid }

// Filter is the descriptor on which the calls are told that [Spec.Filter] asks
// for; it is the caller's from now on. -1: there is none, or it was taken. Only one
// of two callers gets it, and Close is one: a number that is closed twice may be
// somebody else's by the second time.
func (p *Process) Filter() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	fd := p.filter
	p.filter = -1
	return fd
}

// Contained tells whether it was started in [Spec.Cgroup].
func (p *Process) Contained() bool { return p.contained }

// Done is closed once the process is gone and has been waited for.
func (p *Process) Done() <-chan struct{} { return p.done }

// Ended asks the kernel, without waiting: it knows before Done does.
func (p *Process) Ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return p.over()
	}
}

// Exit is how the process ended; it waits for Done.
func (p *Process) Exit() Exit {
	<-p.done
	return p.exit
}

// Signal sends sig to the worker's process group, which its children share
// unless they left it. After Done it returns [os.ErrProcessDone] and signals
// nobody, whoever may have got the pid since.
func (p *Process) Signal(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	if p.stranger != nil && p.group == 0 {
		return p.signalStranger(sig)
	}
	return p.signalByNumber(sig)
}

// SignalAlone sends sig to the process and to nobody else of its group.
func (p *Process) SignalAlone(sig syscall.Signal) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped || p.stranger != nil && p.over() {
		return os.ErrProcessDone
	}
	// It is there, or nobody has waited for it: the number is its own.
	if err := unix.Kill(p.pid, sig); err != nil {
		return fmt.Errorf("send %s to process %d: %w", sig, p.pid, err)
	}
	return nil
}

// Spare says whether its group outlives it, because another process of the group
// has taken its place. By default what it leaves in its group is killed.
func (p *Process) Spare(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.spares = on
}

// leader is the process whose number the group has.
func (p *Process) leader() int {
	if p.group != 0 {
		return p.group
	}
	return p.pid
}

// signalByNumber is for when the number is surely the process's own: it was not
// waited for, or is there.
func (p *Process) signalByNumber(sig syscall.Signal) error {
	if p.group != 0 && p.over() { // while it is there so is its group
		return os.ErrProcessDone
	}
	err := unix.Kill(-p.leader(), sig)
	if err == unix.ESRCH { // it moved itself to another group
		err = unix.Kill(p.pid, sig)
	}
	if err != nil {
		return fmt.Errorf("send %s to process group %d: %w", sig, p.pid, err)
	}
	return nil
}

// SetOOMScoreAdj says again how readily the kernel kills the process when
// memory is short, from -1000 to 1000, and all of its group who had the same score
// as the process until now. Without privileges it can only be raised, and lowered
// again to what it was at the start. It looks at all processes there are, and holds up
// no signal meanwhile.
func (p *Process) SetOOMScoreAdj(adj int) error {
	was, err := process.Score(p.pid)
	if set := p.setScore(p.pid, adj); set != nil {
		return set
	}
	if err != nil {
		return err
	}
	for _, pid := range process.Group(p.leader()) {
		if its, err := process.Score(pid); pid != p.pid && err == nil && its == was {
			_ = p.setScore(pid, adj) // it may just have ended
		}
	}
	return nil
}

// setScore changes one process's, while the number of the worker's is its own.
func (p *Process) setScore(pid, adj int) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reaped {
		return os.ErrProcessDone
	}
	return process.SetScoreIf(pid, adj, func() bool { return p.stranger == nil || !p.over() })
}

// Close ends the watching and gives back what it held. Of a process that is
// still there nothing more will be heard: Done stays open, and nobody waits for
// it. So close after Done, or when a process has to be given up.
func (p *Process) Close() {
	p.close.Do(func() {
		close(p.stop)
		if fd := p.Filter(); fd >= 0 {
			unix.Close(fd)
		}
		if p.pidfd != nil {
			p.pidfd.Close()
		}
	})
	p.ended.Wait()
}

// reap is the one way to the end of a process, started or adopted.
func (p *Process) reap() {
	if !p.await() {
		return
	}
	noticed := process.Ticks()
	p.mu.Lock()
	spares := p.spares
	p.mu.Unlock()
	if !spares {
		// What the worker leaves behind in its group could hold its sockets and
		// go on taking connections that nobody knows of.
		p.clear(noticed)
	}
	p.mu.Lock()
	if p.stranger == nil {
		p.exit = p.wait() // under the lock: the number is free from here on
	}
	p.reaped = true
	p.mu.Unlock()
	if p.stranger != nil {
		p.exit = p.testament() // takes a moment; nobody is signalled meanwhile
	}
	close(p.done)
}

// wait takes the status of a child that has ended.
func (p *Process) wait() Exit {
	var ws syscall.WaitStatus
	for {
		switch _, err := syscall.Wait4(p.pid, &ws, 0, nil); err {
		case nil:
			return exitOf(ws)
		case syscall.EINTR:
		default: // somebody in this process waited for any child
			return Exit{Code: -1}
		}
	}
}

// await returns true once the process can be waited for without blocking, and
// false if Close came first.
func (p *Process) await() bool {
	if p.pidfd != nil {
		conn, err := p.pidfd.SyscallConn()
		if err == nil {
			err = conn.Read(func(fd uintptr) bool { return p.isOver(int(fd)) })
		}
		if err == nil {
			return true
		}
		if errors.Is(err, os.ErrClosed) {
			return false
		}
		// The poller does not take this kernel's pidfds.
	}
	tick := time.NewTicker(reapPoll)
	defer tick.Stop()
	for {
		if p.isOver(-1) {
			return true
		}
		select {
		case <-tick.C:
		case <-p.stop:
			return false
		}
	}
}

// isOver asks without waiting. The descriptor is the pidfd, if the caller holds it.
func (p *Process) isOver(pidfd int) bool {
	switch {
	case p.stranger == nil:
		gone, _ := p.gone()
		return gone
	case pidfd >= 0:
		return readable(pidfd)
	}
	return p.over()
}

// gone asks without waiting and without taking the answer away. Ours is false
// when somebody else in this process took it.
func (p *Process) gone() (gone, ours bool) {
	var info unix.Siginfo
	for {
		err := unix.Waitid(unix.P_PID, p.pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
		if err == unix.EINTR {
			continue
		}
		return err != nil || info.Signo != 0, err == nil
	}
}
