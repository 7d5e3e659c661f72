package journal

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/master/trust"
)

const (
	ownLimit     = 8 << 20 // bytes of the master's own lines that may wait to be written
	workersLimit = 1 << 20 // bytes that may wait when a worker's line comes; beyond, that line is lost
	flushLimit   = 2 * time.Second
	fileMode     = 0o640
)

// line is one that waits to be written.
type line struct {
	text    []byte
	native  []byte // the same for systemd's journal; empty: it does not go there
	workers bool
}

func (l line) size() int { return len(l.text) + len(l.native) }

// losses counts lines.
type losses struct{ own, workers uint64 }

func (l *losses) add(workers bool) {
	if workers {
		l.workers++
	} else {
		l.own++
	}
}

// writer writes lines in their order, and keeps nobody waiting.
type writer struct {
	path   string
	stderr *os.File               // nil: none
	native *native                // systemd's journal; nil: it is not known to be there
	note   func(text string) line // one of the journal's own

	mu      sync.Mutex
	wake    *sync.Cond // something to write, something written, or closing
	queue   []line
	waiting int      // bytes queued or being written
	next    *os.File // opened again, to be used from the next line on
	broken  error    // why there is no file yet
	closing bool
	lost    losses
	unsaid  uint64 // lines lost for want of room since it was last said

	ended chan struct{}

	// The rest belongs to the goroutine in run.
	file   *os.File // nil: stderr only
	torn   bool     // the last write ended within a line
	failed uint64   // lines that went to stderr instead, since the file last took one
	why    error
}

func newWriter(path string, stderr *os.File, systemd *native, note func(string) line) *writer {
	w := &writer{path: path, stderr: duplicate(stderr), native: systemd, note: note, ended: make(chan struct{})}
	w.wake = sync.NewCond(&w.mu)
	if path != "" {
		w.file, w.broken = openFile(path)
	}
	go w.run()
	return w
}

// openFile waits for nobody, and appends to no file that another's link leads to.
func openFile(path string) (*os.File, error) {
	f, err := trust.Own().Append(path, true, fileMode)
	if err != nil {
		return nil, fmt.Errorf("the log file cannot be opened: %w; see log.file", err)
	}
	return f, nil
}

// put takes a whole line. Whether there is room is decided by what waits: as
// long as lines can be written at all, nothing does.
func (w *writer) put(l line) {
	w.mu.Lock()
	defer w.mu.Unlock()
	limit := ownLimit
	if l.workers {
		limit = workersLimit
	}
	if w.closing || w.waiting+l.size() > limit {
		w.lost.add(l.workers)
		w.unsaid++
		return
	}
	w.queue = append(w.queue, l)
	w.waiting += l.size()
	w.wake.Broadcast()
}

func (w *writer) run() {
	defer close(w.ended)
	for {
		w.mu.Lock()
		for len(w.queue) == 0 && w.next == nil && !w.closing {
			w.wake.Wait()
		}
		lines, unsaid, next := w.queue, w.unsaid, w.next
		w.queue, w.unsaid, w.next = nil, 0, nil
		closing := w.closing
		w.mu.Unlock()

		if next != nil {
			if w.file != nil {
				w.file.Close()
			}
			w.file, w.torn = next, false
		}
		for _, l := range lines {
			err := w.write(l)
			w.mu.Lock()
			w.waiting -= l.size()
			if err != nil {
				w.lost.add(l.workers)
			}
			w.mu.Unlock()
		}
		if unsaid > 0 {
			w.write(w.note(fmt.Sprintf(
				"%d lines of this log are missing before this one: they could not be written fast enough", unsaid)))
		}
		w.mu.Lock()
		idle := len(w.queue) == 0 && w.unsaid == 0
		w.wake.Broadcast()
		w.mu.Unlock()
		if closing && idle {
			return
		}
	}
}

// write puts one line into the file, or onto standard error when that fails.
func (w *writer) write(l line) error {
	if w.file == nil {
		return w.toStderr(l)
	}
	if w.why != nil {
		// It may work again: say there what is missing there.
		said := w.note(fmt.Sprintf("%d lines are missing here and went to standard error: %v", w.failed, w.why))
		if w.into(said.text) == nil {
			w.failed, w.why = 0, nil
		}
	}
	err := w.into(l.text)
	if err == nil {
		return nil
	}
	if w.why == nil {
		w.toStderr(w.note(fmt.Sprintf("the log file cannot be written, its lines come here: %v", err)))
	}
	w.failed++
	w.why = err
	return w.toStderr(l)
}

// toStderr has a line go where standard error leads: to systemd's journal by its own
// protocol, if it takes that.
func (w *writer) toStderr(l line) error {
	if w.native != nil && len(l.native) > 0 && w.native.send(l.native) == nil {
		return nil
	}
	if w.stderr == nil {
		return os.ErrClosed
	}
	_, err := w.stderr.Write(l.text)
	return err
}

// into writes to the file so that a line that only half fitted does not spoil
// the one after it.
func (w *writer) into(line []byte) error {
	if w.torn {
		if _, err := w.file.Write([]byte{'\n'}); err != nil {
			return err
		}
		w.torn = false
	}
	n, err := w.file.Write(line)
	w.torn = err != nil && n > 0
	return err
}

func (w *writer) reopen() error {
	if w.path == "" {
		return nil
	}
	f, err := openFile(w.path)
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.closing {
		return errors.Join(os.ErrClosed, f.Close())
	}
	if w.next != nil {
		w.next.Close()
	}
	w.next, w.broken = f, nil
	w.wake.Broadcast()
	return nil
}

// flush waits until everything that was put is written, for a bounded time.
func (w *writer) flush() {
	late := false
	timer := time.AfterFunc(flushLimit, func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		late = true
		w.wake.Broadcast()
	})
	defer timer.Stop()
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.waiting > 0 && !late {
		w.wake.Wait()
	}
}

// close gives up after flushLimit: a write to a terminal that was stopped
// cannot be ended from here.
func (w *writer) close() error {
	w.mu.Lock()
	w.closing = true
	w.wake.Broadcast()
	w.mu.Unlock()
	timer := time.NewTimer(flushLimit)
	defer timer.Stop()
	select {
	case <-w.ended:
		return w.closeFiles()
	case <-timer.C:
		return fmt.Errorf("the log's last lines could not be written within %s", flushLimit)
	}
}

func (w *writer) closeFiles() error {
	var err error
	if w.native != nil {
		w.native.close()
	}
	for _, f := range []*os.File{w.file, w.next, w.stderr} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

func (w *writer) unopened() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.broken
}

func (w *writer) losses() losses {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lost
}
