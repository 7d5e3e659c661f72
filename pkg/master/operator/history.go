package operator

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/workers"
)

// Record adds to the history and to the log what the machine says.
func (b *Backend) Record(c rollout.Record) {
	e := b.ended(c.Entry)
	if e.Rollout != 0 || e.What == "rollback" { // a way back at once is nobody's rollout, and ends as one
		b.Counters.Ended(e.Rollout, counters.Outcome{What: e.What, Outcome: e.Outcome}, e.At)
	}
	fields := []zap.Field{
		zap.String("what", e.What), zap.String("by", e.By), zap.String("outcome", e.Outcome), zap.Uint64("generation", e.To),
		given("version", e.Version), given("stage", e.Stage), given("reason", e.Reason),
	}
	if e.Rollout != 0 {
		fields = append(fields, zap.Uint64("rollout_id", e.Rollout),
			zap.String("trace_id", b.Generations.Trace(c.Entry.Rollout)))
	}
	if e.WaitedMS != 0 {
		fields = append(fields, zap.Int64("clients_waited_ms", e.WaitedMS))
	}
	fields = append(fields, cutFields(e)...)
	say := b.Log.Info
	switch c.Entry.Code { // what went wrong must be seen at log.level: warn, too
	case rollout.Failed, rollout.RolledBack:
		say = b.Log.Warn
	}
	// Whoever was told that it fails is told that it does not; and a rollout that stops by itself waits for somebody.
	if e.What == "healthy" || e.What == "pause" && c.Entry.Origin == rollout.Internal {
		say = b.Log.Warn
	}
	say("history", fields...)
	b.appendHistory(e)
}

// recordSwitch adds to the history that a rollout has the traffic now, and whose it was. How
// the rollout ends is an entry of its own: a bake takes its time.
func (b *Backend) recordSwitch(r rollout.Report) {
	b.appendHistory(entry(rollout.Entry{
		At: time.Now(), Rollout: r.Rollout, What: "switch", Code: rollout.Done, By: r.By, Origin: r.Origin, Why: r.Why,
		From: r.From, To: r.Generation, Version: r.Version, Stage: r.Stage, Began: r.Began,
	}))
}

// RecordMasterd adds to the history and to the log what has become of masterd itself. It may
// be called from any goroutine.
func (b *Backend) RecordMasterd(e api.Entry) {
	e.At = time.Now()
	b.Log.Info("history", zap.String("what", e.What), zap.String("by", e.By), zap.String("outcome", e.Outcome),
		given("why", e.Why), given("reason", e.Reason))
	b.appendHistory(e)
}

func (b *Backend) appendHistory(e api.Entry) {
	b.Disk.Later("the history", func() error { return b.Audit.Append(e) })
}

// HistoryEnds has the log, which may be kept elsewhere, know where a file of the history
// ends: whoever changes one can compute its digests anew, and not change the log.
func (b *Backend) HistoryEnds(e history.End) {
	b.Log.Info("history file", zap.String("why", e.Why), zap.String("file", e.File), zap.Uint64("line", e.Line),
		given("line_digest", e.Digest))
}

// ended is entry, with what was compared if it is the end of a rollout.
func (b *Backend) ended(of rollout.Entry) api.Entry {
	e := entry(of)
	if e.Rollout != 0 && !e.Began.IsZero() {
		e.Analysis = b.analysis(e.Rollout)
	}
	return e
}

// entry is the form of a history entry that people and programs read.
func entry(e rollout.Entry) api.Entry {
	return api.Entry{
		At: e.At, Rollout: uint64(e.Rollout), What: e.What, By: e.By, Why: e.Why, From: uint64(e.From), To: uint64(e.To),
		Version: e.Version.Label, Digest: e.Version.Digest, Outcome: generations.Result(e.Code), Stage: string(e.Stage),
		Reason: e.Reason,
		Worker: uint64(e.Worker), Cut: workers.DescribeCut(e.Cut), VersionID: e.Version.ID,
		Began: e.Began, Switched: e.Switched, WaitedMS: e.Waited.Milliseconds(),
	}
}

// cutFields name in the log what an entry of the history says was cut.
func cutFields(e api.Entry) []zap.Field {
	if e.Cut == nil {
		return nil
	}
	f := []zap.Field{zap.Uint64("worker", e.Worker)}
	if e.Cut.Unknown {
		return append(f, zap.Bool("cut_unknown", true))
	}
	f = append(f, zap.Uint64("cut_connections", e.Cut.Connections), zap.Uint64("cut_requests", e.Cut.Requests),
		zap.Int64("cut_longest_ms", e.Cut.LongestMS), zap.Int64("cut_median_ms", e.Cut.MedianMS))
	if e.Cut.LastBeat {
		f = append(f, zap.Bool("as_of_last_beat", true))
	}
	return f
}
