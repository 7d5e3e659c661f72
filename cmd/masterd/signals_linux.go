package main

import (
	"os"
	"os/signal"
	"sync"
	"syscall"
)

// signalQueue is how many signals may wait for the master to be made. What
// comes beyond that is lost, as it is in the kernel.
const signalQueue = 16

// caught are those that mean something to the daemon.
var caught = []os.Signal{syscall.SIGHUP, syscall.SIGUSR1, syscall.SIGUSR2, syscall.SIGQUIT, syscall.SIGTERM, syscall.SIGINT, syscall.SIGPIPE}

// signals are the daemon's.
type signals struct {
	c     chan os.Signal
	abort chan os.Signal
	done  chan struct{}
	wait  sync.WaitGroup
}

// catchSignals takes the caught ones from now on, and ABRT, and
// no other: Go uses some for itself. PIPE is among them for a log that is a
// pipe: its reader's death must not be ours. Caught signals go back to their
// default in a worker, ignored ones would stay ignored.
func catchSignals() *signals {
	s := &signals{c: make(chan os.Signal, signalQueue), abort: make(chan os.Signal, 1), done: make(chan struct{})}
	signal.Notify(s.c, caught...)
	signal.Notify(s.abort, syscall.SIGABRT)
	s.wait.Go(s.aborts)
	return s
}

// aborts ends the process with the stacks of all its threads when the watchdog
// asks for it. Go's runtime has QUIT go from thread to thread for that, and
// waits five seconds for each that it does not reach; as long as QUIT is caught
// it reaches none.
func (s *signals) aborts() {
	select {
	case <-s.abort:
		signal.Reset(syscall.SIGQUIT, syscall.SIGABRT)
		_ = syscall.Kill(os.Getpid(), syscall.SIGABRT)
	case <-s.done:
	}
}

// pass hands them to d until stop.
func (s *signals) pass(d daemon) {
	s.wait.Go(func() {
		for {
			select {
			case sig := <-s.c:
				deliver(d, sig)
			case <-s.done:
				return
			}
		}
	})
}

func deliver(d daemon, sig os.Signal) {
	switch sig {
	case syscall.SIGHUP:
		d.Hup()
	case syscall.SIGUSR1:
		d.ReopenLogs()
	case syscall.SIGUSR2:
		d.Usr2()
	case syscall.SIGQUIT:
		d.Quit()
	case syscall.SIGTERM, syscall.SIGINT:
		d.Terminate()
	}
}

func (s *signals) stop() {
	signal.Stop(s.c)
	signal.Stop(s.abort)
	close(s.done)
	s.wait.Wait()
}
