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
	c    chan os.Signal
	done chan struct{}
	wait sync.WaitGroup
}

// catchSignals takes the caught ones from now on, and
// no other: Go uses some for itself. PIPE is among them for a log that is a
// pipe: its reader's death must not be ours. Caught signals go back to their
// default in a worker, ignored ones would stay ignored.
func catchSignals() *signals {
	s := &signals{c: make(chan os.Signal, signalQueue), done: make(chan struct{})}
	signal.Notify(s.c, caught...)
	return s
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
	close(s.done)
	s.wait.Wait()
}
