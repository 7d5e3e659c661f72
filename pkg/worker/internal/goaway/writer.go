package goaway

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
)

// frameWriter writes what an HTTP/2 server sends, and puts frames of our own between two of
// the server's. Its methods may be called by any goroutine.
type frameWriter struct {
	conn net.Conn

	mu     sync.Mutex // held for as long as a write blocks
	frames frames     // where the server is
	begun  bool       // the server's preface, a SETTINGS frame, has begun
	broken error      // of the first write that failed for good: nothing may follow half a frame

	pending atomic.Bool // something is due
	due     struct {    // frames that wait for a gap between two others
		sync.Mutex
		b []byte
	}
}

func (w *frameWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	n := 0
	var err error
	if w.pending.Load() {
		// Up to the first gap, which what is due goes into. A long answer may
		// never be written so that a frame and a buffer end together.
		before := w.frames
		if at := before.nextGap(b); at < len(b) {
			if n, err = w.write(b[:at]); err == nil {
				w.writePending()
			}
		}
	}
	if err == nil {
		var rest int
		rest, err = w.write(b[n:])
		n += rest
	}
	w.mu.Unlock()
	w.flush()
	return n, err
}

// write writes for the server. The caller holds mu.
func (w *frameWriter) write(b []byte) (int, error) {
	if w.broken != nil {
		return 0, w.broken
	}
	if len(b) == 0 {
		return 0, nil
	}
	n, err := w.conn.Write(b)
	w.frames.skip(b[:n])
	w.begun = true
	if !errors.Is(err, os.ErrDeadlineExceeded) { // then the server may go on where it was
		w.broken = err
	}
	return n, err
}

// enqueue has frames go out as soon as there is a gap: now, or in the middle of
// what the server writes next.
func (w *frameWriter) enqueue(b []byte) {
	w.due.Lock()
	w.due.b = append(w.due.b, b...)
	w.pending.Store(true)
	w.due.Unlock()
	w.flush()
}

// flush looks for a gap when nobody writes. Whoever holds mu looks when it is
// done; the loop is for what became due after he looked.
func (w *frameWriter) flush() {
	for w.pending.Load() && w.mu.TryLock() {
		done := w.writePending()
		w.mu.Unlock()
		if !done {
			return // within a frame; the server must write on to end it
		}
	}
}

// writePending writes what is due if this is a gap. The caller holds mu.
func (w *frameWriter) writePending() bool {
	if !w.begun || !w.frames.atGap() || w.broken != nil {
		return false
	}
	w.due.Lock()
	b := w.due.b
	w.due.b = nil
	w.pending.Store(false)
	w.due.Unlock()
	_, w.broken = w.conn.Write(b)
	return true
}
