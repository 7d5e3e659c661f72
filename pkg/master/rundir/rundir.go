// Package rundir makes again what somebody takes away from a service's runtime directory.
//
// Whoever tidies up temporary files, or takes away what is in the runtime directory, must
// not cut the master off: without its sockets no verb reaches it and no new worker can say
// that it is ready, and without live.json the next master knows nobody. So it is looked at
// as the public sockets are, and made again.
package rundir

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/state"
)

const (
	// interval is how often the runtime directory is looked at.
	interval = time.Second
	// refusedEvery is the least time between two lines about something that cannot be made
	// again.
	refusedEvery = time.Minute
)

// Mender has something in the runtime directory.
type Mender interface {
	// Mend makes again what is not there any more, and tells whether it had to.
	// It may be called from any goroutine, and after the end.
	Mend() (mended bool, err error)
}

// Part is something in the runtime directory, by its name for people.
type Part struct {
	Mender
	What string
}

// Live is live.json, which the master's loop writes.
type Live interface {
	LiveLost() bool // it lies there no more, or not whole
	WriteAgain()    // from any goroutine
}

// Dir is a service's runtime directory. Its methods may be called from any goroutine, once
// its fields are set.
type Dir struct {
	Log    *zap.Logger
	Config *config.Config // that the service was started with
	Index  string         // the directory whose index the service is entered in; empty: none
	Parts  []Part         // none: nothing is looked at
	Live   Live

	ousted atomic.Bool
}

// Ousted reports whether the directory is another master's by now.
func (d *Dir) Ousted() bool { return d.ousted.Load() }

// Keep looks at the directory until the context ends.
func (d *Dir) Keep(ctx context.Context) {
	if len(d.Parts) == 0 {
		return
	}
	look := time.NewTicker(interval)
	defer look.Stop()
	refused := map[string]time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		d.mend(func(what string, err error) {
			if time.Since(refused[what]) >= refusedEvery {
				refused[what] = time.Now()
				d.refused(what, err)
			}
		})
	}
}

// Mend makes again what is gone, now, and logs what cannot be made.
func (d *Dir) Mend() {
	if len(d.Parts) > 0 {
		d.mend(d.refused)
	}
}

func (d *Dir) refused(what string, err error) {
	d.Log.Error("something in the runtime directory is gone and cannot be made again", zap.String("what", what),
		zap.Error(err))
}

// mend makes again what is gone, and tells refuse of what cannot be made.
func (d *Dir) mend(refuse func(what string, err error)) {
	dir := d.Config.RuntimeDir
	if err := state.Dirs(dir); err != nil {
		refuse("the directory", err)
		return
	}
	for _, part := range d.Parts {
		mended, err := part.Mend()
		if err != nil {
			refuse(part.What, err)
			if _, held := errors.AsType[*state.HeldError](err); held {
				d.ousted.Store(true) // what is there is another master's by now
				return
			}
		} else if mended {
			d.Log.Warn("something was removed from the runtime directory and is made again", zap.String("what", part.What),
				zap.String("directory", dir))
		}
	}
	if err := d.Enter(); err != nil {
		refuse("the entry in the index of services", err)
	}
	if d.Live.LiveLost() {
		d.Live.WriteAgain()
	}
}

// Enter has the service found whose runtime directory is somewhere else than those of all
// others.
func (d *Dir) Enter() error {
	if d.Index == "" {
		return nil
	}
	return state.Enter(d.Index, d.entry())
}

// Leave takes the service out of the index again, unless another master has its place.
func (d *Dir) Leave() error {
	if d.Index == "" || d.Ousted() {
		return nil
	}
	return d.entry().Leave(d.Index)
}

func (d *Dir) entry() state.Entry {
	c := d.Config
	return state.Entry{Service: c.Service, Config: c.File, RuntimeDir: c.RuntimeDir}
}
