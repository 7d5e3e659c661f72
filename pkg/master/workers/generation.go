package workers

import (
	"errors"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/trust"
	"github.com/masterd/masterd/pkg/master/version"
)

// Generation is what must be known of a generation to run its workers. The loop owns it.
type Generation struct {
	ID        rollout.Generation
	Slot      rollout.Slot // of its first worker
	Config    *config.Config
	Version   version.Version
	Checker   Checker
	By, Why   string
	Rollout   rollout.Rollout
	Vetted    bool           // this masterd, or one like it, has looked at its paths: see config.Refused
	Refused   error          // the path that it would not be taken with anew
	Activated bool           // one of its workers was told that it is active, once
	Last      rollout.Worker // the one that was started last: its output explains a failure that names none
	Digest    string         // of the configuration's text, once asked for
	Base      string         // and of what it was made of
	beside    beside
}

// Names are the listeners of the generation.
func (g *Generation) Names() []string {
	names := make([]string, len(g.Config.Listeners))
	for i, l := range g.Config.Listeners {
		names[i] = l.Name
	}
	return names
}

// variables reads a file of them. What an earlier masterd has started is started again
// with what it was started with.
func (g *Generation) variables(path string) ([]string, error) {
	vars, err := config.LoadEnvFile(path)
	if _, refused := errors.AsType[trust.Refused](err); refused && !g.Vetted {
		return config.LoadEnvFileOfAnybody(path)
	}
	return vars, err
}
