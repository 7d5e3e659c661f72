package history

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A file that is full gets the number of its last line in its name, with as many digits
// as sorting by name needs, and another one is begun.
const fullDigits = 12

func fullName(path string, line uint64) string {
	ext := filepath.Ext(path)
	return fmt.Sprintf("%s-%0*d%s", strings.TrimSuffix(path, ext), fullDigits, line, ext)
}

// fullFiles are those that were full, oldest first.
func fullFiles(path string) ([]string, error) {
	ext := filepath.Ext(path)
	before := filepath.Base(strings.TrimSuffix(path, ext)) + "-"
	d, err := os.Open(filepath.Dir(path))
	if err != nil {
		return nil, err
	}
	defer d.Close()
	names, err := d.Readdirnames(-1)
	if err != nil {
		return nil, err
	}
	var full []string
	for _, name := range names {
		if _, is := lineOf(name, before, ext); is {
			full = append(full, filepath.Join(filepath.Dir(path), name))
		}
	}
	slices.Sort(full)
	return full, nil
}

// numberOf is the number of the last line of a full file, by its name.
func numberOf(path, full string) uint64 {
	ext := filepath.Ext(path)
	n, _ := lineOf(filepath.Base(full), filepath.Base(strings.TrimSuffix(path, ext))+"-", ext)
	return n
}

func lineOf(name, before, ext string) (uint64, bool) {
	digits, is := strings.CutPrefix(name, before)
	digits, ends := strings.CutSuffix(digits, ext)
	n, err := strconv.ParseUint(digits, 10, 64)
	return n, is && ends && len(digits) == fullDigits && err == nil
}

// rotate begins another file. If that cannot be done all stays as it is.
func (l *Log) rotate() {
	full := fullName(l.path, l.head.line)
	_ = l.file.Sync()
	if _, err := os.Lstat(full); err == nil || os.Rename(l.path, full) != nil {
		return
	}
	f, err := openFile(l.path, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if err != nil {
		_ = os.Rename(full, l.path)
		return
	}
	l.tell("full", filepath.Base(full))
	l.file.Close()
	l.file, l.size, l.first = f, 0, time.Time{}
	if d, err := os.Open(filepath.Dir(l.path)); err == nil {
		_ = d.Sync()
		d.Close()
	}
	l.prune()
}

// prune lets the oldest files go: those that have nothing young enough, and those for
// which there is no room. A disk that others have filled is no reason: who fills it
// would choose what is forgotten.
func (l *Log) prune() {
	full, _ := fullFiles(l.path)
	room := int64(maxTotal)
	if all := sizeOfDisk(filepath.Dir(l.path)); all > 0 {
		room = min(room, all/maxShare)
	}
	room -= l.size
	keep := 0 // of the newest
	for i := len(full) - 1; i >= 0; i-- {
		info, err := os.Lstat(full[i])
		if err != nil || time.Since(info.ModTime()) > maxAge || info.Size() > room {
			break
		}
		room -= info.Size()
		keep++
	}
	for _, path := range full[:len(full)-keep] {
		name := filepath.Base(path)
		if os.Remove(path) == nil {
			l.ended(End{File: name, Line: numberOf(l.path, path), Why: "removed"})
		}
	}
}
