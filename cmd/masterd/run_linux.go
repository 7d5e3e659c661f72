package main

import (
	"context"
	"os"
	"path/filepath"

	"github.com/masterd/masterd/pkg/master"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/takeover"
)

// daemon is a master, as the command line sees it: it is given the signals
// here, and is made by startMaster.
type daemon interface {
	// Run serves until it is told to stop, and returns the exit code, or
	// master.Replaced: then Successor says by whom.
	Run(ctx context.Context) int
	Successor() (program string, self takeover.Self)
	Hup()        // read the configuration and roll over
	Usr2()       // roll over with the configuration in force
	ReopenLogs() // close and open log files
	Quit()       // drain and stop, without a deadline
	Terminate()  // drain and stop within stop_timeout; the second time: now
}

// daemonOptions are what a daemon takes from its surroundings.
type daemonOptions struct {
	File           string   // the configuration, absolute
	Strict         bool     // refuse to start with a configuration that is not whole
	Env            []string // without what is for the service manager's main process alone
	master.Options          // of the surroundings; startMaster adds what the configuration says
}

// becomeOther is for the two that masterd is besides itself: the shim through which
// workers are started, and the keeper.
func becomeOther() {
	proc.ShimMain()
	keeper.Main(master.Tend)
}

// maxSpareThreads is how many threads a master has for moments at which it can make none.
const maxSpareThreads = 16

// spareThreads are fewer where the processes are that few.
func spareThreads() int {
	if most := (memory.Machine{}).MostProcesses(); most > 0 {
		return int(min(maxSpareThreads, most/16))
	}
	return maxSpareThreads
}

// run is the daemon's life. Signals are caught before the master is made: one
// that comes early waits for it.
func (a *app) run(ctx context.Context, strict bool) error {
	file, _ := a.configFile()
	if file == "" {
		return exitf(exitUsage, "no configuration: neither --config nor MASTERD_CONFIG names one, and there is no %s", a.defaultFile)
	}
	if !filepath.IsAbs(file) {
		return exitf(exitUsage, "the path %s of the configuration is relative, and the directory that masterd is started in cannot be found: name it from the root", file)
	}
	self := a.self(file, strict) // with what the service manager has said, which newManager takes away
	if first() {
		return a.runFirst(self)
	}
	if self.Program != "" { // it may have been started by a descriptor, and be called by its number
		_ = os.WriteFile("/proc/self/comm", []byte(filepath.Base(self.Program)), 0)
	}
	proc.Protect(spareThreads())
	signals := catchSignals()
	defer signals.stop()
	given := givenSockets()
	manager := newManager(a.env)
	o := daemonOptions{
		File: file, Strict: strict, Env: environWithout(a.environ(), config.ManagerVariables()...),
		Options: master.Options{
			Notify: manager.notify, Watchdog: manager.watchdog, Version: buildInfo().short(), Self: self, Given: given, Restored: a.env(restoredEnv), Report: keeper.Reporter(a.env),
		},
	}
	d, err := a.start(o)
	if held, ok := manager.rival(err); ok {
		d, err = a.succeed(ctx, held, o)
	}
	if err != nil {
		return startError(err)
	}
	signals.pass(d)
	code := d.Run(ctx)
	if code == master.Replaced {
		program, self := d.Successor()
		return becomes(program, self, o.Report)
	}
	endLook(file) // if it was one
	if code != exitDone {
		return &exit{code: code} // the log said why
	}
	return nil
}
