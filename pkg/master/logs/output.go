package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Output is one worker's.
type Output struct {
	collector *Collector
	id        Ident

	// The rest belongs to the collector's goroutine.
	out, err  *stream
	place     *place // where lines were passed on up to; nil: it cannot be noted
	placePath string
	bucket    bucket
	ring      ring
	done      bool   // finished
	dropped   uint64 // lines, ever
	unsaid    uint64 // lines dropped since the last note
	unsaidB   uint64 // bytes of those
	saidAt    int64  // of the last note, Unix nanoseconds
	cut       uint64 // lines, ever

	straysFrom  time.Time // when the window began in which they are counted
	overstepped bool      // its worker was given up for the space it took
}

// FDs are the descriptors for the worker's standard output and error. They are
// the output's and good until Started.
func (o *Output) FDs() (stdout, stderr int) { return o.out.write, o.err.write }

// Started closes the master's copies of what the worker writes to.
func (o *Output) Started() {
	o.collector.do(func() {
		o.out.closeWrite()
		o.err.closeWrite()
	})
}

// Finish is called when the process is gone: it reads what is left, passes it
// on, and removes the files. When it returns, Last and Lines have everything.
func (o *Output) Finish() { o.collector.do(func() { o.collector.finish(o) }) }

// Last is the text of the last n lines, notes of the master's included, oldest
// first. At most 1,000 lines and 1 MiB are kept.
func (o *Output) Last(n int) (texts []string) {
	o.collector.do(func() {
		for _, rec := range o.ring.last(n) {
			texts = append(texts, rec.text)
		}
	})
	return texts
}

func (o *Output) streams() [2]*stream { return [2]*stream{o.out, o.err} }

func (o *Output) pid() int {
	if o.id.PID == nil {
		return 0
	}
	return o.id.PID()
}

// create makes both files, or none.
func (o *Output) create(dir string) error {
	o.paths(dir)
	o.place = openPlace(o.placePath, true) // before the files: an old one speaks of others
	streams := o.streams()
	for i, s := range streams {
		if err := s.create(o.id.UID); err != nil {
			for _, s := range streams[:i+1] {
				s.remove()
			}
			o.closePlace()
			os.Remove(o.placePath)
			return err
		}
	}
	return nil
}

func (o *Output) paths(dir string) {
	path := func(suffix string) string { return filepath.Join(dir, fmt.Sprintf("w%d.%s", o.id.Worker, suffix)) }
	o.out.path, o.err.path, o.placePath = path("out"), path("err"), path(placeSuffix)
}

// create replaces what is there: writing on at its end would mix two workers.
func (s *stream) create(uid int) error {
	if err := os.Remove(s.path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return s.open(uid)
}
