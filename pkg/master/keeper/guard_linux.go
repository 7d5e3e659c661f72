package keeper

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/proc"
)

const (
	// bytes of arguments and environment, coded; the kernel allows an exec some 2 MiB
	maxOrder   = 8 << 20
	dyingLimit = 500 * time.Millisecond // for a killed process to be gone
)

// order is what a guard's program is started with. It goes through memory, not
// through the socket, whose packets are small. Bytes: an environment need not
// be UTF-8.
type order struct {
	Args, Env  [][]byte
	Dir        []byte
	For        time.Duration
	JoinWithin time.Duration
}

// guard is what is started should the master not come back.
type guard struct {
	order
	program, stderr *os.File // stderr nil: nowhere
	report          *os.File // who supervises the master; nil: nobody
	until           time.Time
	off             chan struct{} // closed when it does not stand any more
}

// setGuard takes an order, instead of the one before.
func (k *keeper) setGuard(m *master, p *packet) error {
	switch {
	case m.process == nil:
		return errors.New("the keeper cannot watch the master: it is in another PID namespace")
	case p.cut || len(p.fds) < 2 || len(p.fds) > maxFDs:
		return fmt.Errorf("a guard came with %d descriptors", len(p.fds))
	}
	o, err := readOrder(p.fds[1])
	if err != nil {
		return fmt.Errorf("the guard's order: %w", err)
	}
	g := &guard{order: o, program: os.NewFile(uintptr(p.fds[0]), "program"), until: time.Now().Add(o.For),
		off: make(chan struct{})}
	if len(p.fds) > 2 {
		g.stderr = os.NewFile(uintptr(p.fds[2]), "stderr")
	}
	if len(p.fds) > 3 {
		g.report = os.NewFile(uintptr(p.fds[3]), "report")
	}
	unix.Close(p.fds[1])
	p.fds = nil
	k.unguard()
	k.mu.Lock()
	k.guard = g
	k.mu.Unlock()
	return nil
}

func readOrder(fd int) (o order, err error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return o, err
	}
	if st.Size > maxOrder {
		return o, fmt.Errorf("%d bytes, %d are allowed", st.Size, maxOrder)
	}
	if err := ipc.CheckSealed(fd, st.Size); err != nil {
		return o, err
	}
	text := make([]byte, st.Size)
	if n, err := unix.Pread(fd, text, 0); err != nil || n != len(text) {
		return o, fmt.Errorf("read %d of %d bytes: %w", n, len(text), err)
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return o, err
	}
	if len(o.Args) == 0 || o.For <= 0 || o.For > MaxGuard {
		return o, errors.New("it is not complete")
	}
	return o, nil
}

// write makes an order sealed memory, the caller's to close.
func (o order) write() (*os.File, error) {
	text, err := json.Marshal(o)
	if err != nil {
		return nil, err
	}
	if len(text) > maxOrder {
		return nil, fmt.Errorf("arguments and environment have %d bytes, a guard takes %d", len(text), maxOrder)
	}
	f, err := ipc.NewMemory("guard")
	if err != nil {
		return nil, err
	}
	if _, err = f.Write(text); err == nil {
		err = ipc.Seal(f)
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

func (k *keeper) unguard() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if g := k.guard; g != nil {
		close(g.off)
		k.guard = nil
	}
}

// stand waits for a guarded master without a connection: it is about to be
// another program, or dead, or hanging.
func (k *keeper) stand(g *guard, m *master, joined <-chan struct{}) {
	defer m.release()
	gone := make(chan bool, 1)
	go func() { gone <- m.gone(g.JoinWithin) }() // ends within that time
	select {
	case <-joined:
		return
	case <-g.off:
		return
	case dead := <-gone:
		if dead {
			g.say("masterd keeper: master %d has died before it joined the keeper", m.pid)
			break
		}
		// It hangs. It has the lock and would keep the old one out.
		g.say("masterd keeper: master %d has not joined the keeper within %s and is killed", m.pid, g.JoinWithin)
		m.kill()
		m.gone(dyingLimit)
	}
	k.unguard()
	g.start()
}

// start starts the guard's program, once, and waits for its end.
func (g *guard) start() {
	cmd := &exec.Cmd{
		Path: fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), g.program.Fd()), // the child's descriptors are moved
		Args: proc.Strings(g.Args), Env: proc.Strings(g.Env), Dir: string(g.Dir),
		SysProcAttr: &syscall.SysProcAttr{Setsid: true},
	}
	if _, err := os.Stat(cmd.Dir); err != nil {
		cmd.Dir = "/" // it was removed meanwhile; a master needs it for nothing of its own
	}
	if g.stderr != nil {
		cmd.Stdout, cmd.Stderr = g.stderr, g.stderr
	}
	if g.report != nil {
		g.startForSupervisor(cmd)
		return
	}
	if err := cmd.Start(); err != nil {
		g.say("masterd keeper: the masterd from before the upgrade could not be started: %v; workers serve on without a "+
			"master: start one", err)
		return
	}
	g.say("masterd keeper: the masterd from before the upgrade was started as process %d", cmd.Process.Pid)
	resetOOM(cmd.Process.Pid)
	_ = cmd.Wait()
}

// startForSupervisor starts it as a child of who supervises the master, which is the
// keeper's own parent since that one is gone, and reports it.
func (g *guard) startForSupervisor(cmd *exec.Cmd) {
	null, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	pid := 0
	if err == nil {
		pid, err = syscall.ForkExec(cmd.Path, cmd.Args, &syscall.ProcAttr{
			Dir: cmd.Dir, Env: cmd.Env, Sys: &syscall.SysProcAttr{Setsid: true, Cloneflags: unix.CLONE_PARENT},
			Files: []uintptr{uintptr(null), g.stderr.Fd(), g.stderr.Fd(), ReporterFD: g.report.Fd()},
		})
		unix.Close(null)
	}
	if err != nil {
		g.say("masterd keeper: the masterd from before the upgrade could not be started: %v; workers serve on without a "+
			"master", err)
	} else {
		resetOOM(pid)
	}
	_ = report(g.report, "%s %d\n", ReportStarted, pid)
}

// say writes a line to where the master's errors go, if that takes it now: a
// pipe that nobody reads must not stop the keeper.
func (g *guard) say(format string, args ...any) {
	if g.stderr == nil {
		return
	}
	if events, _ := fdpass.Ready(int(g.stderr.Fd()), unix.POLLOUT, 0); events&unix.POLLOUT != 0 {
		fmt.Fprintf(g.stderr, format+"\n", args...)
	}
}
