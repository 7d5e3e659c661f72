package master

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/trust"
	"github.com/masterd/masterd/pkg/master/version"
)

// What `masterd check` tries besides the configuration itself.

// CheckStore says why what is configured could not be run from the state
// directory; nil also when the program itself is what is wrong.
func CheckStore(c *config.Config) error {
	choice, err := version.Inspect(source(c, ""))
	if err != nil || choice.Mode != version.ModeCopy {
		return nil
	}
	return version.Check(filepath.Join(c.StateDir, versionsDir))
}

// CheckTrust warns of workers that are root, and of what others than root and the
// master's user could exchange: programs, scripts and files that the master or its
// workers run and read. Files of variables are refused, see [config.Try].
func CheckTrust(c *config.Config) (warnings []string) {
	uid, _, _, err := proc.Credentials(c.Worker.User, c.Worker.Group)
	root := err == nil && uid == 0
	if root {
		warnings = append(warnings, "worker.user: workers run as root, and what they can be made to do is done as root; name a user that has nothing else")
	}
	say := func(key, path, so string) {
		if err := trust.Own().File(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			warnings = append(warnings, fmt.Sprintf("%s: others could exchange %s: %s; %s", key, path, err, so))
		}
	}
	// each says it of the files among arguments; relative ones are found from dir.
	each := func(key, dir string, args []string, so string) {
		for _, arg := range args {
			if !filepath.IsAbs(arg) {
				arg = filepath.Join(dir, arg)
			}
			if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
				say(key, arg, so)
			}
		}
	}
	asMaster := "the master runs it as its own user: give it, and what is above it, to root or to that user"
	say("the configuration", c.File, "it says what is run, and as whom")
	if self, err := os.Executable(); err == nil {
		say("masterd", self, asMaster)
	}
	if choice, err := version.Inspect(source(c, "")); err == nil {
		so := "status may show one digest, and another program run"
		if choice.Mode == version.ModeCopy {
			so = "so its pinned copy is run, which finds nothing beside itself"
		}
		say("worker.command", c.Worker.Command[0], so+"; give it, and what is above it, to root")
		each("worker.command", c.Worker.Directory, c.Worker.Command[1:], "workers are given it")
	}
	h := c.Rollout.Hooks
	for _, list := range []struct {
		key  string
		args [][]string
	}{
		{"rollout.hooks.before", h.Before}, {"rollout.hooks.after", h.After}, {"rollout.hooks.failed", h.Failed},
		{"rollout.require.commands", c.Rollout.Require.Commands}, {"health.command", [][]string{c.Health.Command}}, {"drain.command", [][]string{c.Drain.Command}},
	} {
		for _, args := range list.args {
			each(list.key, "/", args, asMaster)
		}
	}
	if !root { // whose directory it is, and who may install what that user runs, is no matter of root's
		return warnings
	}
	say("worker.directory", c.Worker.Directory, "workers that run as root find there what others put there")
	for _, dir := range c.Versions.Allow {
		say("versions.allow", dir, "operators may have run as root what others put there")
	}
	return warnings
}

// CheckCalls tries whether the calls of a worker that binds by itself can be
// answered here, with a process that ends at once. shim is as in [Options]. It is nil
// for other kinds, and when something else keeps the process from running.
func CheckCalls(c *config.Config, shim []string) error {
	if !bindsItself(c) {
		return nil
	}
	self, err := os.Executable()
	if err != nil {
		return nil
	}
	p, err := proc.Start(proc.Spec{Shim: shim, Program: self, Args: []string{self, "version"}, Filter: true})
	if err != nil {
		if why, ok := errors.AsType[*proc.StartError](err); ok && strings.Contains(why.Reason, "its calls cannot be answered") {
			return errors.New("worker.kind: unmodified is not possible: " + why.Reason)
		}
		return nil
	}
	<-p.Done()
	p.Close()
	return nil
}

// CheckNewListeners tries those listeners that a service which runs does not have
// yet, as a reload would open them, and says of the others what cannot change.
func CheckNewListeners(c *config.Config, running api.Status) error {
	open := map[string]api.Listener{}
	for _, l := range running.Listeners {
		open[place(l.Address)] = l
	}
	var wrong []error
	for _, l := range c.Listeners {
		have, is := open[place(l.Address)]
		switch {
		case !is:
			if err := listen.Try(l, []int{running.Master.PID, running.Master.Keeper}); err != nil {
				wrong = append(wrong, err)
			}
		case (have.Steering == "shared") != (l.Steering == "shared") && (l.Steering == "shared" || have.Reason == listen.SharedReason):
			wrong = append(wrong, fmt.Errorf("listener %s on %s: steering cannot change from %s to %s while the listener is open; restart the service for it", l.Name, l.Address, have.Steering, l.Steering))
		}
	}
	return errors.Join(wrong...)
}

// place is an address without its options.
func place(address string) string {
	at, _, _ := strings.Cut(address, "?")
	return at
}

// CheckListeners opens every listener and closes it again, and says how each
// would steer. It is for a service that does not run: a running one has its
// addresses.
func CheckListeners(c *config.Config) ([]api.Listener, error) {
	set, err := listen.Open(listen.Options{Listeners: c.Listeners, Slots: slots(c), Log: zap.NewNop()})
	if err != nil {
		return nil, err
	}
	status := set.Status()
	return status, set.Close()
}
