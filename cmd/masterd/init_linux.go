package main

import (
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/takeover"
)

const (
	// initPause is how long a master that was killed stays away.
	initPause = 100 * time.Millisecond
	// initCrashes in initWindow are too many: the container's own manager is to
	// see it.
	initCrashes = 10
	initWindow  = time.Minute
	// initGrace is how long what is left in the container has to end by itself.
	initGrace = 10 * time.Second
	// initGuard is how long the keeper may take, once a guarded master is gone, until
	// the one from before the upgrade runs: it kills one that hangs first.
	initGuard = 10 * time.Second
	// initReports bounds what is read at once of what is reported, in bytes.
	initReports = 4 << 10
)

// container is the first process of one (of a PID namespace), which is init to
// all others: whose parent dies becomes its child. The master waits for its own
// children by number and would leave those unreaped, and its death would be
// everybody's, the kernel sees to that. So the first process is this, and the
// master is its child: this one reaps, passes signals on, and starts the master
// again when it was killed. Nobody else's exit status can be taken by it, as it
// has no child that it waits for but that one.
//
// After an upgrade the keeper stands by with the masterd from before: then the end
// of the master is not the container's, whatever its status, and this process does
// not start one of its own beside it. Master and keeper report that, see
// [keeper.Reporter]. The keeper starts the master from before as this process's
// child, so that it is the master here from then on.
type container struct {
	a        *app
	self     takeover.Self
	program  *os.File  // what is started: the last masterd that has proved itself; nil: what lies at its path
	reports  *os.File  // this end of the pipe
	reporter *os.File  // the other one
	partial  string    // of a line that has not come whole
	guarded  time.Time // until then a guard stands
	master   int       // its pid; zero: between two
	stopping bool
	crashes  []time.Time // in the last initWindow
	signals  chan os.Signal
}

// first tells whether this process is the first of a PID namespace.
func first() bool { return os.Getpid() == 1 }

// runFirst is the container's life.
func (a *app) runFirst(self takeover.Self) error {
	c := &container{a: a, self: self, signals: make(chan os.Signal, signalQueue)}
	if err := c.open(); err != nil {
		return exitf(exitFailed, "preparing to start the master: %v", err)
	}
	signal.Notify(c.signals, syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGCHLD)
	defer signal.Stop(c.signals)
	if err := c.start(); err != nil {
		return exitf(exitFailed, "starting the master: %v", err)
	}
	again := time.NewTimer(time.Hour)
	defer again.Stop()
	for {
		select {
		case sig := <-c.signals:
			status, ended := c.handle(sig.(syscall.Signal))
			switch {
			case ended && c.guards() && c.awaitGuard():
				fmt.Fprintf(a.err, "masterd: the masterd that took over has ended (%s); the one from before runs again, as process %d\n", describe(status), c.master)
			case ended && c.final(status):
				c.end()
				return &exit{code: exitCode(status)}
			case ended:
				fmt.Fprintf(a.err, "masterd: the master was killed (%s), starting it again: its workers serve meanwhile\n", unix.SignalName(status.Signal()))
				again.Reset(initPause)
			case c.stopping && c.master == 0: // between two masters
				c.end()
				return nil
			}
		case <-again.C:
			if err := c.start(); err != nil {
				c.end()
				return exitf(exitFailed, "starting the master again: %v", err)
			}
		}
	}
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return unix.SignalName(status.Signal())
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// open makes the pipe, and keeps hold of this program if it can be read.
func (c *container) open() (err error) {
	c.keep(os.Getpid())
	c.reports, c.reporter, err = os.Pipe()
	return err
}

// start starts the master: the program that has proved itself last, as this one was
// started, in a process group of its own, so that a terminal's interrupt comes once,
// from here.
func (c *container) start() error {
	attr := &syscall.SysProcAttr{Setpgid: true}
	if term.IsTerminal(0) {
		attr.Foreground, attr.Ctty = true, 0
	}
	// A crash must not look like an exit with 2, wrong usage.
	env := append(environWithout(c.self.Environ(), "GOTRACEBACK", keeper.ReporterEnv), "GOTRACEBACK=crash", keeper.ReporterVariable())
	program := c.self.Program
	if c.program != nil { // by way of this process: the child's descriptors are moved
		program = fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), descriptor(c.program))
	}
	pid, err := syscall.ForkExec(program, c.self.Args(takeover.RunVerb), &syscall.ProcAttr{
		Env: env, Files: []uintptr{0, 1, 2, keeper.ReporterFD: uintptr(descriptor(c.reporter))}, Sys: attr,
	})
	if err == nil {
		c.master = pid
	}
	return err
}

// read takes what has been reported since. What a master wrote before its end is
// there when its end is.
func (c *container) read() {
	fd := descriptor(c.reports)
	b := make([]byte, initReports)
	for {
		n, err := unix.Read(fd, b)
		if err != nil || n <= 0 {
			return
		}
		lines := strings.Split(c.partial+string(b[:n]), "\n")
		c.partial = lines[len(lines)-1]
		c.partial = c.partial[:min(len(c.partial), initReports)]
		for _, line := range lines[:len(lines)-1] {
			c.reported(line)
		}
	}
}

func (c *container) reported(line string) {
	word, value, _ := strings.Cut(line, " ")
	n, _ := strconv.Atoi(value)
	switch word {
	case keeper.ReportGuard:
		c.guarded = c.a.now().Add(min(time.Duration(n)*time.Millisecond, keeper.MaxGuard))
	case keeper.ReportUnguarded:
		c.guarded = time.Time{}
		c.keep(c.master)
	case keeper.ReportStarted:
		c.guarded = time.Time{}
		if n > 0 && syscall.Kill(n, 0) == nil { // or it has ended already, and was reaped
			c.master = n
			c.keep(n)
		}
	}
}

// keep has the next start be of the program that a process runs: what lies at its
// path may be the one that has failed.
func (c *container) keep(pid int) {
	f, err := os.Open(fmt.Sprintf("/proc/%d/exe", pid))
	if err != nil {
		return
	}
	if c.program != nil {
		c.program.Close()
	}
	c.program = f
}

// guards tells whether the keeper is to bring a master back.
func (c *container) guards() bool { return !c.stopping && c.a.now().Before(c.guarded) }

// awaitGuard waits for the master that the keeper starts, and is false if there is
// none.
func (c *container) awaitGuard() bool {
	late := time.NewTimer(initGuard)
	defer late.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		c.read()
		if c.master != 0 || !c.guards() {
			return c.master != 0 // else it could not be started, or all is to end
		}
		select {
		case <-late.C:
			return false
		case <-look.C:
		case sig := <-c.signals:
			_, _ = c.handle(sig.(syscall.Signal))
		}
	}
}

// handle acts on a signal. It returns how the master ended if it did.
func (c *container) handle(sig syscall.Signal) (status syscall.WaitStatus, ended bool) {
	c.read() // whom it is for
	if sig == syscall.SIGCHLD {
		return c.reap()
	}
	if sig == syscall.SIGTERM || sig == syscall.SIGINT || sig == syscall.SIGQUIT {
		c.stopping = true
	}
	if c.master != 0 {
		_ = syscall.Kill(c.master, sig) // not reaped yet: its number is its own
	}
	return 0, false
}

// reap waits for all that have ended; several may have, for one signal.
func (c *container) reap() (status syscall.WaitStatus, ended bool) {
	for {
		var ws syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &ws, syscall.WNOHANG, nil)
		switch {
		case err == syscall.EINTR:
			continue
		case err != nil || pid == 0:
			return status, ended
		case pid == c.master:
			c.master, status, ended = 0, ws, true
		}
	}
}

// final tells whether the container ends with the master. One that exited has
// done so on purpose, and said why; one that was killed has workers that serve.
func (c *container) final(status syscall.WaitStatus) bool {
	if c.stopping || status.Exited() {
		return true
	}
	now := c.a.now()
	kept := c.crashes[:0]
	for _, t := range c.crashes {
		if now.Sub(t) < initWindow {
			kept = append(kept, t)
		}
	}
	c.crashes = append(kept, now)
	return len(c.crashes) > initCrashes
}

// end asks everybody to end and waits, not for ever: the kernel kills who is
// there when the first process ends.
func (c *container) end() {
	if syscall.Kill(-1, syscall.SIGTERM) != nil {
		return // nobody
	}
	late := time.NewTimer(initGrace)
	defer late.Stop()
	look := time.NewTicker(20 * time.Millisecond)
	defer look.Stop()
	for {
		c.reap()
		if syscall.Kill(-1, 0) != nil {
			return
		}
		select {
		case <-late.C:
			return
		case <-look.C:
		case <-c.signals:
		}
	}
}

func exitCode(status syscall.WaitStatus) int {
	if status.Signaled() {
		return 128 + int(status.Signal())
	}
	return status.ExitStatus()
}

// descriptor is a file's; Fd would make it blocking.
func descriptor(f *os.File) (fd int) {
	fd = -1
	_ = fdpass.Control(f, func(n int) error { fd = n; return nil })
	return fd
}
