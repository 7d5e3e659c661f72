package master

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/history"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// diskQueue is how many writes may wait for the disk. One that does not keep
// up loses history first; a save that finds no place has failed.
const diskQueue = 64

// writeDisk does all that is written, one after the other, so that an older
// state never overwrites a newer one and a slow disk holds up nothing else.
func (m *Master) writeDisk() {
	m.disk.drain() // until the loop has ended and closed it
}

func (m *Master) save(c rollout.Save) {
	dir := m.cfg.StateDir
	if !m.disk.try(call{do: func() {
		if err := m.system.save(dir, c.State); err != nil {
			m.log.Error("saving the state", zap.Error(err))
			m.tell(rollout.SaveFailed{Seq: c.Seq, Reason: err.Error()})
			return
		}
		m.tell(rollout.Saved{Seq: c.Seq})
	}}) {
		m.step(rollout.SaveFailed{Seq: c.Seq, Reason: "the disk does not keep up: earlier writes are still waiting"})
	}
}

// record adds to the history and to the log.
func (m *Master) record(c rollout.Record) {
	e := entry(c.Entry)
	fields := []zap.Field{
		zap.String("what", e.What), zap.String("by", e.By), zap.String("outcome", e.Outcome), zap.Uint64("generation", e.To),
		given("version", e.Version), given("stage", e.Stage), given("reason", e.Reason),
	}
	if e.Rollout != 0 {
		fields = append(fields, zap.Uint64("rollout_id", e.Rollout), zap.String("trace_id", m.trace(c.Entry.Rollout)))
	}
	fields = append(fields, cutFields(e)...)
	say := m.log.Info
	switch c.Entry.Code { // what went wrong must be seen at log.level: warn, too
	case rollout.Failed, rollout.RolledBack:
		say = m.log.Warn
	}
	say("history", fields...)
	// A rollback to the parked generation is nobody's rollout: it is this asker who
	// brought it now. One to a version that had ended is, and followTraffic has noted it.
	if e := c.Entry; e.What == "rollback" && e.Code == rollout.Done && e.Rollout == 0 && e.From != e.To {
		m.active = deployment{generation: c.Entry.To, since: time.Now(), by: c.Entry.By, why: c.Entry.Why}
	}
	m.queueDisk("the history", func() error { return m.history.Append(e) })
}

// HistoryFile is the history's in the state directory. Files that were full are beside it.
const HistoryFile = "history.jsonl"

// historyEnds has the log, which may be kept elsewhere, know where a file of the history
// ends: whoever changes one can compute its digests anew, and not change the log.
func (m *Master) historyEnds(e history.End) {
	m.log.Info("history file", zap.String("why", e.Why), zap.String("file", e.File), zap.Uint64("line", e.Line), given("line_digest", e.Digest))
}

// retain lets go of versions beyond keep_versions that nothing needs.
func (m *Master) retain(c rollout.Retain) {
	inUse := map[string]bool{}
	for _, id := range c.InUse {
		inUse[id] = true
	}
	keep := m.cfg.Rollout.KeepVersions
	m.queueDisk("old versions", func() error {
		gone, err := m.store.Prune(keep, inUse)
		if len(gone) > 0 {
			m.log.Info("versions removed", zap.Strings("versions", gone))
		}
		return err
	})
}

// queueDisk has f done by the disk goroutine; f's failure is only logged.
func (m *Master) queueDisk(what string, f func() error) {
	if !m.disk.try(call{do: func() {
		if err := f(); err != nil {
			m.log.Warn("writing "+what, zap.Error(err))
		}
	}}) {
		m.log.Warn("not written: the disk does not keep up, or the master is ending", zap.String("what", what))
	}
}

// entry is the form of a history entry that people and programs read.
func entry(e rollout.Entry) api.Entry {
	return api.Entry{
		At: e.At, Rollout: uint64(e.Rollout), What: e.What, By: e.By, Why: e.Why, From: uint64(e.From), To: uint64(e.To),
		Version: e.Version.Label, Digest: e.Version.Digest, Outcome: result(e.Code), Stage: string(e.Stage), Reason: e.Reason,
		Worker: uint64(e.Worker), Cut: describeCut(e.Cut),
	}
}
