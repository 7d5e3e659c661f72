package operator

import (
	"cmp"
	"fmt"
	"path/filepath"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/state"
)

// Upgrade has another binary prove that it can take over, and then leaves.
func (b *Backend) Upgrade(by string, r api.UpgradeRequest) (<-chan api.Event, error) {
	t := b.Takeover
	program := cmp.Or(r.Binary, t.Self.Program)
	if program != "" && !filepath.IsAbs(program) {
		return nil, refused(422, "The path of another masterd must be absolute, %s is not.", program)
	}
	if !t.Possible(program) {
		return nil, refused(409,
			"There is no keeper that could hold the sockets meanwhile; `masterd status` and the log tell more.")
	}
	var why error
	b.Loop.Call(func() { why = t.MayLeave(!r.MakeWay) })
	if why != nil {
		return nil, refused(409, "This masterd cannot be replaced now: %v.", why)
	}
	events := make(chan api.Event, 1)
	begun := time.Now()
	begins := b.Loop.Go(func() {
		defer close(events)
		var version string
		var err error
		o := api.Outcome{Result: api.ResultDone, Reason: "this masterd ends, for one that waits"}
		if r.MakeWay {
			program = ""
		} else if version, err = t.Prove(program); err == nil {
			o.Reason = fmt.Sprintf("%s (%s) has proved that it can take over, and does", program, version)
		}
		if err == nil {
			err = t.LeaveFor(&state.LiveUpgrade{By: by, Why: r.Reason, From: b.Version, Program: program})
		}
		fields := []zap.Field{zap.String("by", by), zap.String("why", r.Reason), zap.String("binary", program),
			zap.String("its version", version)}
		if err != nil {
			o.Result, o.Reason = api.ResultFailed, err.Error()
			b.RecordMasterd(api.Entry{What: "upgrade", By: by, Why: r.Reason, Outcome: api.ResultFailed, Reason: err.Error()})
			b.Log.Error("an upgrade was refused, this masterd goes on", append(fields, zap.Error(err))...)
		} else {
			b.Log.Info("another masterd takes over", fields...)
		}
		o.ElapsedMS = time.Since(begun).Milliseconds()
		events <- api.Event{Outcome: &o}
	})
	if !begins {
		return nil, refused(409, "%s", masterEnds)
	}
	return events, nil
}
