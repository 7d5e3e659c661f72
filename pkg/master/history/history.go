// Package history keeps the audit of a service: what was done or happened,
// when, by whom, why and how it ended. It is files of JSON lines (api.Entry)
// that people may read with any tool: one that grows, and beside it those that
// were full, the oldest of which go. Each line carries the digest of the one
// before, see [Verify].
package history

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// FileName is the history's in the state directory. Files that were full are beside it.
const FileName = "history.jsonl"

const (
	maxEntries = 1000                // entries in memory, the newest; and such as a full disk keeps waiting
	maxLine    = 64 << 10            // bytes of one line
	maxText    = 4 << 10             // bytes of a free text (why, reason) in an entry; longer ones are cut
	maxFile    = 4 << 20             // bytes of one file before the next is begun
	maxSpan    = 30 * 24 * time.Hour // from a file's first line to its last, so that old ones can go
	maxAge     = 180 * 24 * time.Hour
	maxTotal   = 512 << 20   // bytes of all files: 180 days of six entries a minute
	maxShare   = 10          // and one part in so many of the file system
	foldFor    = time.Minute // repeats are one line in this time
)

// End is where a file of the history ends, or has ended: what a log that is kept
// elsewhere should know, so that it can be compared later.
type End struct {
	File   string
	Line   uint64 // number of its last line, counted from the first of all
	Digest string // SHA-256 of that line; empty: see what was said when the file was full
	Why    string // "opened", "full", "closed" or "removed"
}

// Log is one service's history. It may be used by several goroutines; readers
// never wait for the disk.
type Log struct {
	path      string
	ended     func(End)
	unwritten error // why there is no file; nil: there is, or was until Close

	mu      sync.Mutex // of these
	entries []api.Entry
	repeats api.Entry // what follows the last of them and is a repeat of it; Repeats is zero: there is none
	skipped int
	shown   head
	kept    uint64        // entries that there ever were in memory; the last of entries is the last of them
	more    chan struct{} // closed when there is more to read

	disk   sync.Mutex // of what follows; taken before mu
	file   *os.File
	size   int64 // of whole lines in file; what is beyond is a torn one
	head   head
	first  time.Time   // of the first entry in file; zero: there is none
	todo   []api.Entry // not in the file yet
	begun  bool        // this process has added to it: only then are repeats counted, as a death loses their number
	folded *time.Timer // writes the repeats; nil: there are none
}

// Open reads the history at path, which need not exist. A line that is torn (a
// power cut) or not an entry is skipped and counted. ended is told where each file ends;
// nil: nobody is. Whatever is wrong, there is a log. An error says that something cannot
// be read; if that is the growing file, see [Log.Unwritten], the log is in memory alone.
func Open(path string, ended func(End)) (*Log, error) {
	if ended == nil {
		ended = func(End) {}
	}
	l := &Log{path: path, ended: ended, more: make(chan struct{})}
	before := l.readFull()
	f, err := openFile(path, os.O_RDWR|os.O_CREATE)
	if errors.Is(err, syscall.ELOOP) {
		err = fmt.Errorf("%s is a symbolic link, which is never followed here", path)
	}
	if err == nil {
		l.file = f
		if err = l.read(); err != nil {
			f.Close()
			l.file = nil
		}
	}
	if err != nil {
		l.unwritten = fmt.Errorf("open history: %w", err)
		return l, errors.Join(before, l.unwritten)
	}
	l.shown = l.head
	l.tell("opened", filepath.Base(path))
	l.prune()
	return l, before
}

func openFile(path string, how int) (*os.File, error) {
	f, err := os.OpenFile(path, how|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open %s: it is not a regular file (%v)", path, info.Mode().Type())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// readFull fills the log from the last full file, whose last line is what the first of the
// growing one follows. It is only read: it may be immutable. If it cannot be, what is
// there in the growing one says what follows; if nothing is, the name gives the number.
func (l *Log) readFull() error {
	full, err := fullFiles(l.path)
	if err != nil || len(full) == 0 {
		return unreadable(l.path, err)
	}
	last := full[len(full)-1]
	defer func() { l.first = time.Time{} }()
	f, err := openFile(last, os.O_RDONLY)
	if err == nil {
		defer f.Close()
		err = scan(f, func(s scanned) error { l.take(s); return nil })
	}
	if err != nil {
		l.head = head{line: numberOf(l.path, last)}
	}
	return unreadable(last, err)
}

func unreadable(path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("read history %s: %w", path, unnamed(err))
}

// read fills the log from the growing file.
func (l *Log) read() error {
	return scan(l.file, func(s scanned) error {
		e := l.take(s)
		switch {
		case s.whole:
			l.size += s.length
		case e != nil: // only its newline is missing: it is written again, with it
			l.todo = append(l.todo, *e)
		}
		return nil
	})
}

// take adds the entry in a line of a file, if there is one.
func (l *Log) take(s scanned) *api.Entry {
	number := uint64(0) // of what is torn somebody else may get it
	if s.whole {
		l.head = l.head.after(s)
		number = l.head.line
	}
	if s.line == nil {
		if s.length > 0 {
			l.skipped++
		}
		return nil
	}
	if l.first.IsZero() {
		l.first = s.line.At
	}
	s.line.N = number
	l.keep(s.line.Entry)
	return &s.line.Entry
}

// keep adds an entry in memory. The slice is moved only once per maxEntries.
func (l *Log) keep(e api.Entry) {
	l.entries = append(l.entries, e)
	l.kept++
	if len(l.entries) >= 2*maxEntries {
		l.entries = slices.Clone(l.entries[len(l.entries)-maxEntries:])
	}
}

// Append adds an entry and makes it durable. When the disk refuses, the error
// says so, the entry is kept in memory and goes to the file with the next one
// that can be written: a full disk never keeps anything from going on.
//
// What repeats the entry before is counted, and written as one line within a minute.
func (l *Log) Append(e api.Entry) error {
	e.Why, e.Reason = cut(e.Why), cut(e.Reason)
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.file == nil && l.unwritten == nil {
		return fmt.Errorf("write history %s: it was closed", l.path)
	}
	l.mu.Lock()
	if n := len(l.entries); l.begun && repeats(l.entries[n-1], e) {
		e.Repeats = l.repeats.Repeats + 1
		l.repeats = e
		l.mu.Unlock()
		if l.folded == nil {
			l.folded = time.AfterFunc(foldFor, l.unfold)
		}
		return nil
	}
	l.mu.Unlock()
	l.endRepeats()
	l.begun = true
	l.mu.Lock()
	l.keep(e)
	l.mu.Unlock()
	err := l.flush(e)
	l.tellReaders() // now that it has its number, if it gets one
	return err
}

// unfold writes the repeats when their time is over.
func (l *Log) unfold() {
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.file != nil && l.endRepeats() {
		_ = l.flush() // what is not written waits, and the next Append says why
		l.tellReaders()
	}
}

// endRepeats makes an entry of the repeats, to be written. It reports whether there were any.
func (l *Log) endRepeats() bool {
	if l.folded != nil {
		l.folded.Stop()
		l.folded = nil
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.repeats
	if e.Repeats == 0 {
		return false
	}
	l.repeats = api.Entry{}
	l.keep(e)
	l.todo = append(l.todo, e)
	return true
}

// repeats tells whether an entry says the same as the one before, but for when and for
// numbers. What a person did is said each time, and what was compared.
func repeats(a, b api.Entry) bool {
	return a.What == b.What && a.By == b.By && a.Why == b.Why && a.Version == b.Version && a.Digest == b.Digest &&
		a.Outcome == b.Outcome && a.Stage == b.Stage && a.Cut == nil && b.Cut == nil && a.Analysis == nil && b.Analysis == nil &&
		withoutNumbers(a.Reason) == withoutNumbers(b.Reason) && !strings.Contains(b.By, "uid ")
}

func withoutNumbers(text string) string {
	return strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return -1
		}
		return r
	}, text)
}

// flush writes what waits and these.
func (l *Log) flush(more ...api.Entry) error {
	l.todo = append(l.todo, more...)
	l.todo = l.todo[max(0, len(l.todo)-maxEntries):]
	if l.unwritten != nil {
		return fmt.Errorf("%w (kept in memory)", l.unwritten)
	}
	text, next := encode(l.head, l.todo)
	if l.size > 0 && (l.size+int64(len(text)) > maxFile || l.todo[len(l.todo)-1].At.Sub(l.first) > maxSpan) {
		l.rotate() // if it cannot be, the file grows
	}
	if err := l.write(text); err != nil {
		return fmt.Errorf("write history %s: %w (kept in memory)", l.path, err)
	}
	if l.first.IsZero() {
		l.first = l.todo[0].At
	}
	l.mu.Lock()
	if first := len(l.entries) - len(l.todo); first >= 0 {
		for i, e := range l.todo {
			l.entries[first+i].N = e.N
		}
	}
	l.shown = next
	l.mu.Unlock()
	l.head, l.todo = next, nil
	return nil
}

// write appends lines to the file, all or none.
func (l *Log) write(text []byte) error {
	_, err := l.file.WriteAt(text, l.size)
	if err == nil {
		err = l.file.Truncate(l.size + int64(len(text))) // what was torn before may be longer
	}
	if err != nil {
		// Take back what was written of it: half a line would be garbage to
		// whoever reads the file. Making a file shorter needs no space.
		_ = l.file.Truncate(l.size)
		return unnamed(err)
	}
	l.size += int64(len(text))
	// Best effort: the entries are in the file for every reader already.
	_ = l.file.Sync()
	return nil
}

// Last returns the n newest entries, oldest first. It never waits for the disk.
func (l *Log) Last(n int) []api.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := l.entries
	if l.repeats.Repeats > 0 {
		all = append(slices.Clip(all), l.repeats)
	}
	n = max(0, min(n, maxEntries, len(all)))
	return slices.Clone(all[len(all)-n:])
}

// End is the last line that is in the file. It never waits for the disk.
func (l *Log) End() End {
	l.mu.Lock()
	defer l.mu.Unlock()
	return End{File: l.path, Line: l.shown.line, Digest: l.shown.digest}
}

// Unwritten says why entries are in memory alone; nil: they are not.
func (l *Log) Unwritten() error { return l.unwritten }

// Close closes the file; entries that could not be written are lost then, and
// the error says how many. Last goes on working, Append says that it is closed.
func (l *Log) Close() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.file == nil {
		return nil
	}
	if l.endRepeats() {
		_ = l.flush() // told below
	}
	l.tell("closed", filepath.Base(l.path))
	err := l.file.Close()
	l.file = nil
	if len(l.todo) > 0 {
		return fmt.Errorf("close history %s: the last %d entries could not be written", l.path, len(l.todo))
	}
	return err
}

func (l *Log) tell(why, file string) { l.ended(End{file, l.head.line, l.head.digest, why}) }

// cut bounds a free text, at a whole character.
func cut(text string) string {
	const more = " …"
	if len(text) <= maxText {
		return text
	}
	end := maxText - len(more)
	for end > 0 && text[end]&0xC0 == 0x80 { // inside a character
		end--
	}
	return text[:end] + more
}

// unnamed strips the path from an error that is about to be told with it.
func unnamed(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}
