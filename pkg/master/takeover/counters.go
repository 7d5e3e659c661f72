package takeover

import (
	"errors"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/counters"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/state"
)

// What the service has counted outlives the master in counters.json. Workers say their numbers
// whole, and with each sum lies there what was added to it already. So after the death of a master
// nothing is missing of workers that live; of those that have died since the last write, or die
// while there is no master, what they have counted since that write; and of any that is killed
// what it has counted since it last said its numbers.
//
// What was shown to somebody is never taken back: it was written before. Whoever computes rates
// takes a sum that falls for one that began at zero.

const (
	// countersEvery is the least time between two writes that nobody waits for.
	countersEvery = time.Second
	// countersWait bounds the wait for the disk of those who want to be shown the counters.
	countersWait = time.Second
)

// countersFile is counters.json as it was last written.
type countersFile struct {
	writing bool          // beside the loop
	begun   time.Time     // when the last write did
	refused time.Time     // when a line was last written about its not being written
	reader  chan struct{} // holds the one who is shown it: many must not crowd the disk
}

// KeepCounters has what the service has counted written beside the loop, if that is something new
// and not too often. It is called after each turn that may have changed it.
func (t *Takeover) KeepCounters() {
	if !t.counted.writing && t.Counters.Changed() && time.Since(t.counted.begun) >= countersEvery {
		t.KeepCountersNow()
	}
}

// KeepCountersNow does that whenever it was done last: the next master is about to read it.
func (t *Takeover) KeepCountersNow() { t.writeCounters(func() {}) }

// Counts are what the service has counted, once that is written; nothing, if the loop has ended.
// It may be called from any goroutine but the loop's. A disk that is full or hangs keeps nobody
// from seeing them.
func (t *Takeover) Counts() (all counters.Snapshot) {
	t.counted.reader <- struct{}{}
	defer func() { <-t.counted.reader }()
	written := make(chan struct{})
	if !t.Loop.Call(func() {
		all = t.Counters.Snapshot()
		t.writeCounters(func() { close(written) })
	}) {
		return counters.Snapshot{}
	}
	limit := time.NewTimer(countersWait)
	defer limit.Stop()
	select {
	case <-written:
	case <-limit.C:
	}
	return all
}

// writeCounters has what is new of the counters written beside the loop, and then calls over,
// whatever has become of it: all that there is to write was.
func (t *Takeover) writeCounters(over func()) {
	write := func() {}
	if t.System.KeepCounters != nil && !t.Master.Ousted() && t.Counters.Changed() {
		saved, boot, dir, keep := t.Counters.Save(), t.boot, t.RuntimeDir, t.System.KeepCounters
		t.counted.writing, t.counted.begun = true, time.Now()
		write = func() {
			text, err := saved.Encode(boot)
			if err == nil {
				err = keep(dir, text)
			}
			t.Loop.Post(func() { t.countersKept(err) })
		}
	}
	if !t.Disk.Try(func() { write(); over() }) {
		t.countersKept(errBusy) // others wait for the disk already
		over()
	}
}

// errBusy is why nothing was written.
var errBusy = errors.New("the disk does not keep up")

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
