package master

import (
	"errors"
	"os"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
	"github.com/masterd/masterd/pkg/master/proc"
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
