package logs

import (
	"bytes"
	"fmt"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/masterd/masterd/pkg/api"
)

const (
	noteEvery  = time.Second // at most, for notes about what was dropped
	streamNote = "masterd"
)

// read takes what is new in one file, up to turn bytes, and reports whether
// there is more.
func (r *Collector) read(o *Output, s *stream, turn int64) (more bool) {
	for n := int64(0); ; {
		chunk, skipped := s.next(r.buf)
		if skipped > 0 {
			r.skip(o, s, skipped)
		}
		if len(chunk) == 0 {
			return false
		}
		o.bucket.fill(r.opt.Clock())
		r.split(o, s, chunk)
		o.note()
		s.giveBack()
		s.left = false
		if n += int64(len(chunk)); n >= turn {
			return true
		}
	}
}

// split makes lines of what was read.
func (r *Collector) split(o *Output, s *stream, chunk []byte) {
	limit := o.id.Line
	for len(chunk) > 0 {
		i := bytes.IndexByte(chunk, '\n')
		if i < 0 {
			s.hold(chunk, limit)
			return
		}
		if len(s.part) > 0 || s.over > 0 {
			s.hold(chunk[:i], limit)
			chunk = chunk[i+1:]
			line, over := s.part, s.over
			s.part, s.over = s.part[:0], 0
			r.line(o, s, line, over)
			continue
		}
		if o.bucket.empty {
			// The clock stands still for this chunk, so all of it goes, and a
			// flood costs one pass over its bytes.
			end := bytes.LastIndexByte(chunk, '\n') + 1
			r.drop(o, s, bytes.Count(chunk[:end], []byte{'\n'}), chunk[:end])
			chunk = chunk[end:]
			continue
		}
		line, over := chunk[:i], uint64(0)
		if len(line) > limit {
			line, over = line[:limit], uint64(len(line)-limit)
		}
		chunk = chunk[i+1:]
		r.line(o, s, line, over)
	}
}

// line passes a line on if the worker has not had its share.
func (r *Collector) line(o *Output, s *stream, line []byte, over uint64) {
	if !o.bucket.take(len(line) + 1) {
		s.remember(line)
		r.drop(o, s, 1, []byte{'\n'})
		o.unsaidB += uint64(len(line))
		return
	}
	o.out.tail, o.err.tail = nil, nil
	r.pass(o, s.name, line, over)
}

// drop counts lines that end in raw, and keeps it in case it was the last word.
func (r *Collector) drop(o *Output, s *stream, lines int, raw []byte) {
	o.dropped += uint64(lines)
	o.unsaid += uint64(lines)
	o.unsaidB += uint64(len(raw))
	r.dropped += uint64(lines)
	s.remember(raw)
}

// pass keeps a line, and hands it to everybody who wants it.
func (r *Collector) pass(o *Output, stream string, line []byte, over uint64) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	text := strings.ToValidUTF8(string(line), "\uFFFD")
	if over > 0 {
		o.cut++
		r.cut++
		text += fmt.Sprintf(" … [%d more bytes cut]", over)
	}
	r.seq++
	rec := record{seq: r.seq, at: r.opt.Clock(), stream: stream, text: text}
	o.ring.add(rec)
	l := o.line(rec)
	for f := range r.followers {
		f.send(l)
	}
	r.opt.Emit(Entry{LogLine: l, PID: o.pid()}, line)
}

func (o *Output) line(rec record) api.LogLine {
	return api.LogLine{
		At: rec.at, Worker: o.id.Worker, Generation: o.id.Generation, Version: o.id.Version,
		Stream: rec.stream, Text: rec.text,
	}
}

// skip tells of output that was never read.
func (r *Collector) skip(o *Output, s *stream, n int64) {
	s.part, s.over, s.tail = nil, 0, nil
	why := "it was written faster than it could be read"
	if s.left {
		why = "it was written while there was no master to read it"
	}
	r.say(o, fmt.Sprintf("%s of this worker's %s were skipped unread: %s", humanize.IBytes(uint64(n)), s.name, why))
}

// note says what was dropped, when there is something to say and it was not
// said just now.
func (r *Collector) note(o *Output) {
	now := r.opt.Clock().UnixNano()
	stray := o.out.stray + o.err.stray
	if o.unsaid == 0 && stray == 0 || now-o.saidAt < int64(noteEvery) {
		return
	}
	o.saidAt = now
	r.sayDropped(o)
	if stray > 0 {
		o.out.stray, o.err.stray = 0, 0
		r.say(o, fmt.Sprintf("%s of the runtime directory's file system were given back, which this worker had taken by its output's file without writing output (if it opens /dev/stdout again: with O_APPEND)", humanize.IBytes(uint64(stray))))
	}
}

// overstep gives a worker up that goes on taking space for nothing.
func (r *Collector) overstep(o *Output) {
	if now := r.opt.Clock(); now.Sub(o.straysFrom) > strayWindow {
		o.straysFrom, o.out.strays, o.err.strays = now, 0, 0
	}
	if !o.overstepped && o.out.strays+o.err.strays >= maxStrays {
		o.overstepped = true
		r.opt.Unfit(o.id.Worker, fmt.Sprintf("it has taken space of the runtime directory's file system %d times by its output's file, without writing output", maxStrays))
	}
}

func (r *Collector) sayDropped(o *Output) {
	if o.unsaid == 0 {
		return
	}
	r.say(o, fmt.Sprintf("%s lines (%s) of this worker's output were dropped: more than %s/s (log.per_worker)",
		humanize.Comma(int64(o.unsaid)), humanize.IBytes(o.unsaidB), humanize.IBytes(o.id.PerWorker)))
	o.unsaid, o.unsaidB = 0, 0
}

func (r *Collector) say(o *Output, text string) { r.pass(o, streamNote, []byte(text), 0) }

// tail passes on the end of what was dropped last, whatever the rate: after a
// flood that ended in a crash these lines say why.
func (r *Collector) tail(o *Output) {
	for _, s := range o.streams() {
		if len(s.tail) == tailSize { // its beginning was pushed out, within a line
			i := bytes.IndexByte(s.tail, '\n')
			s.tail = s.tail[i+1:]
		}
		n := uint64(bytes.Count(s.tail, []byte{'\n'}))
		o.dropped -= n
		r.dropped -= n
		o.unsaid -= min(n, o.unsaid)
		o.unsaidB -= min(uint64(len(s.tail)), o.unsaidB)
	}
	r.sayDropped(o)
	for _, s := range o.streams() {
		for line := range bytes.Lines(s.tail) {
			line = bytes.TrimSuffix(line, []byte{'\n'})
			over := max(0, len(line)-o.id.Line)
			r.pass(o, s.name, line[:len(line)-over], uint64(over))
		}
		s.tail = nil
	}
}
