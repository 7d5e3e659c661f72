// Package check says of a configuration, without starting or opening anything, what
// would keep its versions from being pinned, and who could exchange what is run. `masterd
// check` and the preparation of a rollout ask it. It reads programs and directories, so it is
// called beside the loop; its functions keep nothing.
package check

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/proc"
	"github.com/masterd/masterd/pkg/master/trust"
	"github.com/masterd/masterd/pkg/master/version"
)

// Source is the version that a configuration names.
func Source(c *config.Config, label string) version.Source {
	names := make([]string, len(c.Listeners))
	for i, l := range c.Listeners {
		names[i] = l.Name
	}
	return version.Source{
		Program: c.Worker.Command[0], Args: c.Worker.Command, Env: c.Worker.Env, EnvFiles: c.Worker.EnvFiles,
		Dir: c.Worker.Directory, Label: label, Mode: c.Worker.Pin, Listeners: names, Settings: c.Own(),
	}
}

// VersionsIn is the directory of the pinned versions.
func VersionsIn(c *config.Config) string { return filepath.Join(c.StateDir, "versions") }

// Store says why what is configured could not be run from the state
// directory; nil also when the program itself is what is wrong.
func Store(c *config.Config) error {
	choice, err := version.Inspect(Source(c, ""))
	if err != nil || choice.Mode != version.ModeCopy {
		return nil
	}
	return version.Check(VersionsIn(c))
}

// Kind warns of a program that cannot be a worker of kind sdk, as far as its file tells: it is
// a Go program, and knows nothing of the control protocol. It may still start one that does.
// Of programs in other languages nothing is known.
func Kind(c *config.Config) (warnings []string) {
	if c.Worker.Kind != config.KindSDK {
		return nil
	}
	if isGo, speaks := version.Mentions(c.Worker.Command[0], ipc.EnvSecret); isGo && !speaks {
		warnings = append(warnings, fmt.Sprintf("worker.kind: %s is a Go program that is not built on pkg/worker, so as kind sdk it "+
			"will never be ready: build it on that, or set worker.kind to unmodified (it binds by itself) or socket-activation "+
			"(it takes LISTEN_FDS), unless it starts another program that is", c.Worker.Command[0]))
	}
	return warnings
}

// Parked says what drain.parked does to the connections of the version before, by the kind of
// its workers and what is known of its listeners.
func Parked(c *config.Config) (notes []string) {
	if c.Drain.Parked != config.ParkedClose || len(c.Listeners) == 0 {
		return nil
	}
	if c.Worker.Kind == config.KindSDK {
		return []string{"drain.parked: close has no effect on kind sdk: its connections move to the new version in any case"}
	}
	for _, l := range c.Listeners {
		does := "connections to the version before are closed while the new one bakes, each between two requests, and " +
			"streams once they have been silent for 5 to 15 s; the program stays warm"
		switch {
		case l.Network == "unix":
			does = "connections to the version before stay until it drains: of a Unix socket's it is not known when they are quiet"
		case !c.SpeaksHTTP(l.Name):
			does = "connections to the version before stay until it drains: the listener is not known to be HTTP (health.http.listener), " +
				"so they may be in the middle of something"
		}
		notes = append(notes, fmt.Sprintf("drain.parked: close: listener %s: %s", l.Name, does))
	}
	return notes
}

// Trust warns of workers that are root, and of what others than root and the
// master's user could exchange: programs, scripts and files that the master or its
// workers run and read. Files of variables are refused, see [config.Try].
func Trust(c *config.Config) (warnings []string) {
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
	if choice, err := version.Inspect(Source(c, "")); err == nil {
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
