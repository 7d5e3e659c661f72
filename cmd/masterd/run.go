package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/masterd/masterd/pkg/master"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/memory"
	"github.com/masterd/masterd/pkg/master/proc"
)

// daemon is a master, as the command line sees it: run.go gives it the signals,
// wire.go makes it.
type daemon interface {
	// Run serves until it is told to stop, and returns the exit code, or
	// master.Replaced: then Successor says by whom.
	Run(ctx context.Context) int
	Successor() (program string, self master.Self)
	Hup()        // read the configuration and roll over
	Usr2()       // roll over with the configuration in force
	ReopenLogs() // close and open log files
	Quit()       // drain and stop, without a deadline
	Terminate()  // drain and stop within stop_timeout; the second time: now
}

// daemonOptions are what a daemon takes from its surroundings.
type daemonOptions struct {
	File     string             // the configuration, absolute
	Strict   bool               // refuse to start with a configuration that is not whole
	Env      []string           // without what is for the service manager's main process alone
	Notify   func(state string) // tells the service manager; nil: there is none
	Watchdog time.Duration      // the service manager's; zero: none. The master sends WATCHDOG=1 in less than that
	Version  string             // of masterd, for people
	Self     master.Self        // how it was started
	Report   *os.File           // the container's first process; nil: there is none
	Given    []listen.Given     // listening sockets of the service manager's
	Restored string             // the masterd that was to take over and died; empty: none
}

func (a *app) runCommand() *cobra.Command {
	var strict bool
	cmd := &cobra.Command{
		Use:     "run",
		GroupID: groupDaemon,
		Short:   "Run the service, in the foreground",
		Long: `Run the service, in the foreground, until it is told to stop. The same as
masterd without a verb.

If the configuration is wrong at start, the last good one runs, and status says
so; --strict refuses instead.

Signals: HUP reads the configuration and rolls over; USR2 rolls over with the
configuration in force; USR1 reopens log files; QUIT drains and stops without a
deadline; TERM and INT drain and stop within stop_timeout, a second one at once.
With stop_announce a stop is announced first, and a second one ends that.

As the first process of a container it starts the master as its child, passes
signals on to it, reaps whoever has lost his parent, and starts the master again
if it was killed. It needs a runtime_dir and a state_dir that can be written to.`,
		Args: arguments(0, 0),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.run(cmd.Context(), strict) },
	}
	strictFlag(cmd, &strict)
	return cmd
}

func strictFlag(cmd *cobra.Command, strict *bool) {
	cmd.Flags().BoolVar(strict, "strict", false, "refuse to start with a wrong configuration, instead of running the last good one")
}

// maxSpareThreads is how many threads a master has for moments at which it can make none.
const maxSpareThreads = 16

// spareThreads are fewer where the processes are that few.
func spareThreads() int {
	if most := memory.MostProcesses(); most > 0 {
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
		File: file, Strict: strict, Env: environWithout(a.environ(), managerVariables()...),
		Notify: manager.notify, Watchdog: manager.watchdog, Version: buildInfo().short(), Self: self, Given: given, Restored: a.env(restoredEnv), Report: keeper.Reporter(a.env),
	}
	d, err := a.start(o)
	if held, ok := manager.rival(err); ok {
		d, err = a.succeed(ctx, held, o)
	}
	if err != nil {
		return startError(err)
	}
	signals.pass(d)
	switch code := d.Run(ctx); code {
	case exitDone:
		return nil
	case master.Replaced:
		program, self := d.Successor()
		return becomes(program, self, o.Report)
	default:
		return &exit{code: code} // the log said why
	}
}
