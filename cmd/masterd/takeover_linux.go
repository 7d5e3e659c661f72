package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/state"
	"github.com/masterd/masterd/pkg/master/takeover"
)

// restoredEnv tells a masterd that the keeper has started it in the place
// of another, which died.
const restoredEnv = takeover.RestoredEnv

// succeed takes over from a master that the keeper has started: the service
// manager supervises well only what it has started itself.
func (a *app) succeed(ctx context.Context, held *state.HeldError, o daemonOptions) (daemon, error) {
	c := api.NewClient(filepath.Join(filepath.Dir(held.File), master.AdminSocket), "")
	for end := time.Now().Add(upgradeTimeout); ; time.Sleep(upgradePoll) {
		if st, err := c.Status(ctx); err == nil && st.Master.Restored != "" {
			o.Restored = st.Master.Restored
			_, _ = c.Upgrade(ctx, api.UpgradeRequest{MakeWay: true, Reason: "the service manager has started one in its place"}, nil) // or the next time
		}
		d, err := a.start(o)
		if !errors.As(err, &held) || time.Now().After(end) {
			return d, err
		}
	}
}

// prove reads what run would, and says that this masterd could take over.
func (a *app) prove(strict bool) error {
	file, _ := a.configFile()
	env := environWithout(a.environ(), config.ManagerVariables()...)
	cfg, _, err := usableConfig(newLastGood(file, env), file, env, strict)
	if err == nil {
		err = takeover.Prove(cfg, parser(file, env))
	}
	if err != nil {
		return &exit{exitFailed, err.Error()}
	}
	fmt.Fprintln(a.out, takeover.Proof+buildInfo().short())
	return nil
}

// self is how this process was started. Sockets that were given are the keeper's
// when another masterd takes its place.
func (a *app) self(file string, strict bool) takeover.Self {
	program, err := a.startedAs()
	if err != nil {
		return takeover.Self{}
	}
	flags := []string{"--config", file}
	if strict {
		flags = append(flags, "--strict")
	}
	return takeover.Self{
		Program: program, Flags: flags,
		Env: environWithout(os.Environ(), restoredEnv, takeover.StartedAsEnv, "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"),
	}
}

// startedAs is by which path masterd was started, absolute. Symbolic links stay in
// it: what they lead to when there is an upgrade is what is wanted then. It is found
// out once and carried over each exec, as by then the path may lead elsewhere, and
// the working directory be gone.
func (a *app) startedAs() (string, error) {
	if program := a.env(takeover.StartedAsEnv); filepath.IsAbs(program) {
		return program, nil
	}
	running, err := os.Executable()
	if err != nil {
		return "", err
	}
	named := os.Args[0]
	if !strings.ContainsRune(named, filepath.Separator) {
		named, err = exec.LookPath(named)
	}
	if err == nil {
		named, err = filepath.Abs(named)
	}
	if err == nil && sameFile(named, running) { // the first argument may be anything
		return named, nil
	}
	return strings.TrimSuffix(running, " (deleted)"), nil
}

func sameFile(x, y string) bool {
	a, err := os.Stat(x)
	if err != nil {
		return false
	}
	b, err := os.Stat(y)
	return err == nil && os.SameFile(a, b)
}

// becomes makes this process another program; should the kernel refuse that, it
// is this one again, from its beginning. A signal must not end it before the
// next one listens for them: until then they are ignored, which an exec keeps.
func becomes(program string, self takeover.Self, report *os.File) error {
	signal.Ignore(caught...)
	if report != nil { // the next one reports, too
		_, _ = unix.FcntlInt(keeper.ReporterFD, unix.F_SETFD, 0)
	}
	next := self.As(program)
	err := syscall.Exec(program, next.Args(takeover.RunVerb), next.Environ())
	return errors.Join(err, syscall.Exec("/proc/self/exe", self.Args(takeover.RunVerb), self.Environ(restoredEnv+"="+program)))
}
