// Package history keeps the audit of a service: what was done or happened,
// when, by whom, why and how it ended. It is a bounded file of JSON lines
// (api.Entry) that people may read with any tool.
package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"sync"
	"syscall"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/atomicfile"
)

const (
	maxEntries = 1000     // entries kept, the newest
	maxLines   = 2000     // lines in the file before it is written anew with maxEntries
	maxLine    = 64 << 10 // bytes of one line
	maxText    = 4 << 10  // bytes of a free text (why, reason) in an entry; longer ones are cut
	maxFile    = 64 << 20 // bytes read at Open, the last ones
)

// Log is one service's history. It may be used by several goroutines; readers
// never wait for the disk.
type Log struct {
	path string

	mu      sync.Mutex // of entries and skipped
	entries []api.Entry
	skipped int

	disk    sync.Mutex // of what follows; taken before mu
	file    *os.File
	size    int64 // of whole lines in file; what is beyond is a torn one
	lines   int
	pending int // so many of the last entries are not in the file yet
}

// Open reads the history at path, which need not exist. A line that is torn (a
// power cut) or not an entry is skipped and counted. An error means that the
// file cannot be read or made at all.
func Open(path string) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0o600)
	if errors.Is(err, syscall.ELOOP) {
		return nil, fmt.Errorf("open history %s: it is a symbolic link, which is never followed here", path)
	}
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	l := &Log{path: path, file: f}
	if err := l.read(); err != nil {
		f.Close()
		return nil, fmt.Errorf("open history %s: %w", path, err)
	}
	return l, nil
}

// read fills the log from its file.
func (l *Log) read() error {
	info, err := l.file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("it is not a regular file (%v)", info.Mode().Type())
	}
	begin := max(0, info.Size()-maxFile)
	r := bufio.NewReaderSize(io.NewSectionReader(l.file, begin, info.Size()-begin), maxLine)
	l.size = begin
	for {
		line, err := r.ReadSlice('\n')
		length := int64(len(line))
		for errors.Is(err, bufio.ErrBufferFull) { // garbage: pass over it
			line, err = r.ReadSlice('\n')
			length += int64(len(line))
			line = nil
		}
		if err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		whole := length > 0 && l.take(line)
		if err != nil {
			// What has no newline is torn, and counted in neither size nor lines:
			// the next line is written over it. If only the newline is missing,
			// the entry is written with it.
			if whole {
				l.pending = 1
			}
			return nil
		}
		l.size += length
		l.lines++
	}
}

// take adds the entry in a line of the file, if there is one.
func (l *Log) take(line []byte) bool {
	var e api.Entry
	if len(bytes.TrimSpace(line)) == 0 || json.Unmarshal(line, &e) != nil || e.At.IsZero() || e.What == "" {
		l.skipped++
		return false
	}
	l.keep(e)
	return true
}

// keep adds an entry in memory. The slice is moved only once per maxEntries.
func (l *Log) keep(e api.Entry) {
	l.entries = append(l.entries, e)
	if len(l.entries) >= maxLines {
		l.entries = slices.Clone(l.entries[len(l.entries)-maxEntries:])
	}
}

// Append adds an entry and makes it durable. When the disk refuses, the error
// says so, the entry is kept in memory and goes to the file with the next one
// that can be written: a full disk never keeps anything from going on.
func (l *Log) Append(e api.Entry) error {
	e.Why, e.Reason = cut(e.Why), cut(e.Reason)
	l.disk.Lock()
	defer l.disk.Unlock()
	l.mu.Lock()
	l.keep(e)
	l.pending = min(l.pending+1, maxEntries)
	waiting := slices.Clone(l.entries[len(l.entries)-l.pending:])
	l.mu.Unlock()

	if l.file == nil {
		return fmt.Errorf("write history %s: it was closed", l.path)
	}
	if l.lines+l.pending > maxLines {
		if err := l.compact(); err == nil {
			return nil
		}
		// Likely a full disk; a line may still fit.
	}
	if err := l.write(waiting); err != nil {
		return fmt.Errorf("write history %s: %w (kept in memory)", l.path, err)
	}
	return nil
}

// write appends lines to the file, all or none.
func (l *Log) write(entries []api.Entry) error {
	text := encode(entries)
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
	l.lines += len(entries)
	l.pending = 0
	// Best effort: the entries are in the file for every reader already.
	_ = l.file.Sync()
	return nil
}

// compact replaces the file by the newest entries.
func (l *Log) compact() error {
	entries := l.Last(maxEntries)
	text := encode(entries)
	if err := atomicfile.Write(l.path, text, 0o600); err != nil {
		return err
	}
	f, err := os.OpenFile(l.path, os.O_RDWR|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	l.file.Close()
	l.file, l.size, l.lines, l.pending = f, int64(len(text)), len(entries), 0
	return nil
}

// Last returns the n newest entries, oldest first. It never waits for the disk.
func (l *Log) Last(n int) []api.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	n = max(0, min(n, maxEntries, len(l.entries)))
	return slices.Clone(l.entries[len(l.entries)-n:])
}

// Skipped tells how many lines of the file were torn or not entries.
func (l *Log) Skipped() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.skipped
}

// Close closes the file; entries that could not be written are lost then, and
// the error says how many. Last goes on working, Append says that it is closed.
func (l *Log) Close() error {
	l.disk.Lock()
	defer l.disk.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	if l.pending > 0 {
		return fmt.Errorf("close history %s: the last %d entries could not be written", l.path, l.pending)
	}
	return err
}

// encode makes lines of entries. An entry cannot fail to encode but by a time
// outside of all calendars; it is left out then.
func encode(entries []api.Entry) []byte {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	for _, e := range entries {
		_ = enc.Encode(e)
	}
	return text.Bytes()
}

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
