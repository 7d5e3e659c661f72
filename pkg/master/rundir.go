package master

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/state"
)

// Whoever tidies up temporary files, or takes away what is in the runtime
// directory, must not cut the master off: without its sockets no verb reaches it
// and no new worker can say that it is ready, and without live.json the next
// master knows nobody. So it is looked at as the public sockets are, and made
// again.

const (
	// runtimeLook is how often the runtime directory is looked at.
	runtimeLook = time.Second
	// runtimeRefusedEvery is the least time between two lines about something
	// that cannot be made again.
	runtimeRefusedEvery = time.Minute
)

// mender has something in the runtime directory.
type mender interface {
	// Mend makes again what is not there any more, and tells whether it had to.
	// It may be called from any goroutine, and after the end.
	Mend() (mended bool, err error)
}

// keepRuntimeDir looks at the runtime directory until the master ends.
func (m *Master) keepRuntimeDir() {
	if len(m.menders) == 0 {
		return
	}
	look := time.NewTicker(runtimeLook)
	defer look.Stop()
	refused := map[string]time.Time{}
	for {
		select {
		case <-m.life.Done():
			return
		case <-look.C:
		}
		m.mendRuntimeDir(func(what string, err error) {
			if time.Since(refused[what]) >= runtimeRefusedEvery {
				refused[what] = time.Now()
				m.log.Error("something in the runtime directory is gone and cannot be made again", zap.String("what", what), zap.Error(err))
			}
		})
	}
}

// mendRuntimeDir makes again what is gone, and tells refuse of what cannot be made.
func (m *Master) mendRuntimeDir(refuse func(what string, err error)) {
	if len(m.menders) == 0 {
		return // it has no rooms of its own
	}
	dir := m.opt.Config.RuntimeDir
	if err := state.Dirs(dir); err != nil {
		refuse("the directory", err)
		return
	}
	for _, part := range m.menders {
		mended, err := part.Mend()
		if err != nil {
			refuse(part.what, err)
			if held := (*state.HeldError)(nil); errors.As(err, &held) {
				m.ousted.Store(true) // what is there is another master's by now
				return
			}
		} else if mended {
			m.log.Warn("something was removed from the runtime directory and is made again", zap.String("what", part.what), zap.String("directory", dir))
		}
	}
	if err := m.enterIndex(); err != nil {
		refuse("the entry in the index of services", err)
	}
	configs, _ := filepath.Glob(filepath.Join(dir, "config-*.yaml"))
	if _, err := os.Lstat(filepath.Join(dir, "live.json")); m.liveKept.Load() >= 0 && (os.IsNotExist(err) || len(configs) < int(m.liveKept.Load())) {
		m.at(m.keepLiveAgain)
	}
}

// part is something in the runtime directory, by its name for people.
type part struct {
	mender
	what string
}

// keepLiveAgain writes all that the next master needs, whatever was written before.
func (m *Master) keepLiveAgain() {
	m.kept, m.keptConfigs = nil, nil
	m.keepLive()
}

// enterIndex has the service found whose runtime directory is somewhere else than
// those of all others.
func (m *Master) enterIndex() error {
	if m.opt.Index == "" {
		return nil
	}
	return state.Enter(m.opt.Index, m.indexEntry())
}

func (m *Master) leaveIndex() error {
	if m.opt.Index == "" || m.exit == nil || m.ousted.Load() {
		return nil // what is there is another master's
	}
	return m.indexEntry().Leave(m.opt.Index)
}

func (m *Master) indexEntry() state.Entry {
	c := m.opt.Config
	return state.Entry{Service: c.Service, Config: c.File, RuntimeDir: c.RuntimeDir}
}
