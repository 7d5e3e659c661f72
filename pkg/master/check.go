package master

import (
	"path/filepath"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/listen"
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
