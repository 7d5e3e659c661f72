package takeover

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// What the service has counted outlives the master in counters.json. Workers say their numbers
// whole, and with each sum lies there what was added to it already. So after the death of a master
// nothing is missing of workers that live; of those that die while there is no master, what they
// have counted since the last write, and of any that is killed what it has counted since it last
// said its numbers.

// countersEvery is the least time between two writes of the counters, which no decision rests on.
const countersEvery = time.Second

// countersFile is counters.json as it was last written.
type countersFile struct {
	writing bool      // beside the loop
	begun   time.Time // when the last write did
	refused time.Time // when a line was last written about its not being written
}

// KeepCounters has what the service has counted written beside the loop, if that is something new
// and not too often. It is called after each turn that may have changed it.
func (t *Takeover) KeepCounters() {
	if !t.counted.writing && t.Counters.Changed() && time.Since(t.counted.begun) >= countersEvery {
		t.KeepCountersNow()
	}
}

// KeepCountersNow does that whenever it was done last: the next master is about to read it.
func (t *Takeover) KeepCountersNow() {
	if t.System.KeepCounters == nil || t.Master.Ousted() {
		return
	}
	saved, boot, dir, keep := t.Counters.Save(), t.boot, t.RuntimeDir, t.System.KeepCounters
	t.counted.writing, t.counted.begun = true, time.Now()
	if !t.Disk.Try(func() {
		text, err := saved.Encode(boot)
		if err == nil {
			err = keep(dir, text)
		}
		t.Loop.Post(func() { t.countersKept(err) })
	}) { // others wait for the disk already
		t.counted.writing = false
		t.Counters.Unsaved()
	}
}

func (t *Takeover) countersKept(err error) {
	t.counted.writing = false
	if err == nil {
		return
	}
	t.Counters.Unsaved()
	if time.Since(t.counted.refused) >= refusedEvery {
		t.counted.refused = time.Now()
		t.Log.Warn("what the service has counted cannot be written: should this masterd die, its metrics fall to what was "+
			"written last", zap.Error(err))
	}
}

// adoptCounters goes on counting where the last master has stopped. Where there is none, what
// lies there is of another time.
func (t *Takeover) adoptCounters() {
	if t.left == nil {
		if err := state.DropCounters(t.RuntimeDir); err != nil {
			t.Log.Warn("counters of an earlier time cannot be removed", zap.Error(err))
		}
		return
	}
	text, err := state.LoadCounters(t.RuntimeDir)
	if err == nil && text != nil {
		err = t.Counters.Restore(text, t.boot, func(worker, generation uint64) bool {
			w := t.Workers.Get(rollout.Worker(worker))
			return w != nil && uint64(w.Generation.ID) == generation
		})
	}
	if t.found == nil {
		t.Counters.Abandon()
	}
	if err != nil {
		t.Log.Warn("what the service has counted before cannot be read: its metrics begin anew", zap.Error(err))
	}
}
