package operator

import (
	"fmt"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/master/manager"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// facts are how the service is, for the service manager.
func (b *Backend) facts(st rollout.Status) manager.Facts {
	f := manager.Facts{Status: st}
	if g := b.Generations.Get(st.Active); g != nil {
		f.Version = g.Version.Label
	}
	if b.Generations.Degraded() != "" {
		f.Degraded = append(f.Degraded, b.Generations.Degraded())
	}
	f.Degraded = append(f.Degraded, b.lacks(b.Generations.Refused())...)
	if loop, ended := looping(st, time.Now()); loop != "" {
		f.Degraded = append(f.Degraded, fmt.Sprintf("%s The last one, worker %d, %s", loop, ended.Worker, ended.How))
	}
	return f
}

// Tell tells the service manager what has changed.
func (b *Backend) Tell() { b.Manager.Tell(b.facts(b.Master.Machine())) }

// notifyTrouble shows that a reload was refused, or how an unattended one went.
func (b *Backend) notifyTrouble(what string) { b.Manager.Trouble(what, b.facts(b.Master.Machine())) }

// Pulse tells the service manager that the loop is alive: one that hangs is noticed.
func (b *Backend) Pulse() {
	b.Manager.Pulse(b.Master.Machine())
	b.lookAtClosing()
}

// closing is how many descriptors that others have sent were being closed at the pulse
// before, and whether that was said.
type closing struct {
	now      int
	reported bool
}

// lookAtClosing warns once that descriptors which others have sent take long to be
// closed: they were being closed at the pulse before, too.
func (b *Backend) lookAtClosing() {
	before, told := b.closing.now, b.closing.reported
	now, most := fdpass.Closing()
	if now > 0 && before > 0 && !told {
		b.Log.Warn("descriptors that workers or clients have sent take long to be closed; they stay open meanwhile",
			zap.Int("now", now), zap.Int("at_once", most))
		told = true
	}
	b.closing.now, b.closing.reported = now, told && now > 0
}
