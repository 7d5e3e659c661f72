package history

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
)

// File is what a Report says of one.
type File struct {
	Name        string
	First, Last uint64 // numbers of its lines; zero: it has none
	Digest      string // of the last
	Without     uint64 // lines at its beginning that older masterds wrote, which had no digests
	Torn        bool   // after them there is a part of a line: it is being written, or was cut off
}

// Report is what was found.
type Report struct {
	Files []File
	// Wrong is the first line that was changed or is missing, as a sentence that names
	// it; empty: there is none.
	Wrong string
}

// Verify reads all files of a history and finds the first line that was changed or is
// missing since it was written. end is what the master that writes it says is its last
// line, or one who has noted it says was a line of it; nil: nobody says. Without end it
// is not known whether lines at the end are missing or the last one was changed.
//
// A line that is changed has another digest than the line after it says. Who changes it
// and all that follow is found only by a digest that was noted elsewhere.
func Verify(path string, end *End) (r Report, err error) {
	for range verifyTries {
		var full, now []string
		if full, err = fullFiles(path); err != nil {
			return r, err
		}
		r, err = verify(path, full, end)
		if now, _ = fullFiles(path); slices.Equal(full, now) {
			break // no other file was begun meanwhile
		}
	}
	return r, err
}

// verifyTries is how often it is looked again when the files have changed meanwhile.
const verifyTries = 3

func verify(path string, full []string, end *End) (Report, error) {
	v := verifier{end: end}
	for _, p := range append(full, path) {
		if err := v.file(p); err != nil {
			return v.report, err
		}
		if v.report.Wrong != "" {
			return v.report, nil
		}
	}
	v.finish()
	return v.report, nil
}

type verifier struct {
	report Report
	end    *End
	seen   bool // the line that end names
	before head
	place  string // of the line before
	known  bool   // lines have had digests
	doubt  string // what is wrong if the next line does not say that it is this one that was changed
}

func (v *verifier) file(path string) error {
	f, err := openFileToRead(path)
	if err != nil {
		return err
	}
	defer f.Close()
	v.report.Files = append(v.report.Files, File{Name: filepath.Base(path)})
	file := &v.report.Files[len(v.report.Files)-1]
	n := 0
	return scan(f, func(s scanned) error {
		n++
		if v.report.Wrong == "" {
			v.line(file, s, fmt.Sprintf("line %d of %s", n, file.Name))
		}
		return nil
	})
}

func (v *verifier) line(file *File, s scanned, place string) {
	if !s.whole {
		file.Torn = true
		return
	}
	now := v.before.after(s)
	linked := s.line != nil && s.line.N > 0
	switch {
	case v.doubt != "":
		// The line before this does not follow the one before it. If this one follows it
		// all the same, it was not changed alone: the one before it was.
		if linked && s.line.Prev == v.before.digest {
			v.report.Wrong = v.doubt
		} else {
			v.report.Wrong = v.changed(v.place, v.before)
		}
		return
	case !linked && v.known:
		v.report.Wrong = place + " was changed, or an older masterd wrote it: it has no digest of the line before."
		return
	case !linked:
		file.Without++
	case !v.known && v.before.digest == "": // the first that there is
	case now.line != v.before.line+1 && s.line.Prev == v.before.digest:
		v.report.Wrong = v.changed(place, now)
		return
	case now.line > v.before.line+1:
		v.report.Wrong = fmt.Sprintf("%s missing before %s, which is number %d.", missing(v.before.line+1, now.line-1), place, now.line)
		return
	case now.line != v.before.line+1:
		v.report.Wrong = fmt.Sprintf("%s is number %d and follows number %d: it was changed, or is here twice.", place, now.line, v.before.line)
		return
	case s.line.Prev != v.before.digest:
		v.doubt = v.changed(v.place, v.before)
	}
	v.known = v.known || linked
	if file.First == 0 {
		file.First = now.line
	}
	file.Last, file.Digest = now.line, now.digest
	if v.end != nil && v.end.Line == now.line {
		v.seen = true
		if v.end.Digest != now.digest {
			v.report.Wrong = v.changed(place, now) + " Its digest is not the one that was noted."
			return
		}
	}
	v.before, v.place = now, place
}

func (v *verifier) changed(place string, h head) string {
	return fmt.Sprintf("%s, number %d, was changed.", place, h.line)
}

// finish says what only the end can tell.
func (v *verifier) finish() {
	switch {
	case v.report.Wrong != "":
	case v.doubt != "": // nothing follows the line that does not fit
		v.report.Wrong = v.doubt
	case v.end == nil || v.seen || v.end.Line == 0:
	case v.end.Line > v.before.line:
		v.report.Wrong = fmt.Sprintf("%s missing at the end.", missing(v.before.line+1, v.end.Line))
	}
}

func missing(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("Line number %d is", from)
	}
	return fmt.Sprintf("Lines number %d to %d are", from, to)
}

func openFileToRead(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open history: %w", err)
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("open history %s: it is not a regular file (%v)", path, info.Mode().Type())
	}
	if err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}
