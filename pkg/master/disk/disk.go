// Package disk writes what a master leaves on its disk, one thing after the other: an older
// state never overwrites a newer one, and a slow disk holds up nothing else.
package disk

import (
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/loop"
)

// length is how many writes may wait for the disk. One that does not keep up loses history
// first; a save that finds no place has failed.
const length = 64

// Writer makes the writes in one goroutine, that of [Writer.Run]. Its methods are for any
// goroutine, unless they say otherwise.
type Writer struct {
	log   *zap.Logger
	queue *loop.Queue
}

// New makes a writer that logs what cannot be written.
func New(log *zap.Logger) *Writer { return &Writer{log, loop.NewQueue(length)} }

// Run makes the writes until Close was called, and what was taken before that.
func (w *Writer) Run() { w.queue.Drain() }

// Close ends it: nothing more is taken. The loop's goroutine calls it, once.
func (w *Writer) Close() { w.queue.Close() }

// Try has write called, and reports false when there is no place for it.
func (w *Writer) Try(write func()) bool { return w.queue.Try(write) }

// Put has write called. It waits for a place until limit, and reports whether it got one.
func (w *Writer) Put(write func(), limit <-chan time.Time) bool {
	return w.queue.Put(write, nil, limit)
}

// Later has write called; its failure is only logged, with what it was to write.
func (w *Writer) Later(what string, write func() error) {
	if !w.queue.Try(func() {
		if err := write(); err != nil {
			w.log.Warn("writing "+what, zap.Error(err))
		}
	}) {
		w.log.Warn("not written: the disk does not keep up, or the master is ending", zap.String("what", what))
	}
}
