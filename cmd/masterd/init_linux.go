package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/term"

	"github.com/masterd/masterd/pkg/master"
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
)

// container is the first process of one (of a PID namespace), which is init to
// all others: whose parent dies becomes its child. The master waits for its own
// children by number and would leave those unreaped, and its death would be
// everybody's, the kernel sees to that. So the first process is this, and the
// master is its child: this one reaps, passes signals on, and starts the master
// again when it was killed. Nobody else's exit status can be taken by it, as it
// has no child that it waits for but that one.
type container struct {
	a        *app
	self     master.Self
	master   int // its pid; zero: between two
	stopping bool
	crashes  []time.Time // in the last initWindow
	signals  chan os.Signal
}

// first tells whether this process is the first of a PID namespace.
func first() bool { return os.Getpid() == 1 }

// runFirst is the container's life.
func (a *app) runFirst(self master.Self) error {
	c := &container{a: a, self: self, signals: make(chan os.Signal, signalQueue)}
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
			status, ended := c.heard(sig.(syscall.Signal))
			switch {
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

// start starts the master: this program as it was started, in a process group
// of its own, so that a terminal's interrupt comes once, from here.
func (c *container) start() error {
	self, err := os.Executable()
	if err != nil {
		return err
	}
	attr := &syscall.SysProcAttr{Setpgid: true}
	if term.IsTerminal(0) {
		attr.Foreground, attr.Ctty = true, 0
	}
	c.master, err = syscall.ForkExec(self, os.Args, &syscall.ProcAttr{
		// A crash must not look like an exit with 2, wrong usage.
		Env: append(environWithout(os.Environ(), "GOTRACEBACK"), "GOTRACEBACK=crash"), Files: []uintptr{0, 1, 2}, Sys: attr,
	})
	return err
}

// heard acts on a signal. It returns how the master ended if it did.
func (c *container) heard(sig syscall.Signal) (status syscall.WaitStatus, ended bool) {
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
