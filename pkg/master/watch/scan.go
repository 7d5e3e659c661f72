package watch

import (
	"errors"
	"time"

	"go.uber.org/zap"
)

// scanner is all that a Watcher knows. One goroutine owns it.
type scanner struct {
	*Watcher
	files []*file
	since time.Time // of the first move of a change that has not come to rest; zero: there is none
	due   time.Time // when it may have
}

// run is the Watcher's goroutine.
func (s *scanner) run() {
	defer close(s.gone)
	timer := time.NewTimer(s.opt.Every)
	defer timer.Stop()
	for {
		select {
		case <-s.done:
			return
		case files := <-s.set:
			if clean, err := checkFiles(files); err != nil {
				s.log.Error("the files that were watched before stay watched", zap.Error(err))
			} else {
				s.replace(clean)
			}
		case <-timer.C:
			switch {
			case s.since.IsZero():
				s.look()
			case !time.Now().Before(s.due):
				s.settle()
			}
		}
		next := s.opt.Every
		if !s.since.IsZero() {
			next = time.Until(s.due)
		}
		timer.Reset(next)
	}
}

// replace takes over a new list of files.
func (s *scanner) replace(files []string) {
	old := map[string]*file{}
	for _, f := range s.files {
		old[f.path] = f
	}
	s.files = nil
	var added []*file
	for _, path := range files {
		f := old[path]
		if f == nil {
			f = &file{path: path}
			added = append(added, f)
		}
		s.files = append(s.files, f)
	}
	for _, f := range added {
		digest, err := f.read(s.done)
		f.digest = digest
		switch {
		case errors.Is(err, errUnsettled):
			s.touch()
		case err != nil:
			s.log.Info("a watched file cannot be read yet; its coming is a change", zap.String("file", f.path), zap.Error(err))
		}
	}
	s.log.Debug("watching files", zap.Strings("files", files))
}

// look looks at all files, and begins to wait for rest if one has moved.
func (s *scanner) look() {
	moved := false
	for _, f := range s.files {
		moved = f.moved() || moved
	}
	if moved {
		s.touch()
	}
}

// touch begins to wait for rest.
func (s *scanner) touch() {
	s.since = time.Now()
	s.again(s.since)
}

// settle looks whether everything has come to rest, and if so reports what has
// another content than before. A file that is still being written is waited
// for, but not longer than MaxSettle; one that is not there is no change: it is
// being replaced, or will be missed by whoever runs it.
func (s *scanner) settle() {
	now := time.Now()
	last := !now.Before(s.since.Add(s.opt.MaxSettle))
	for _, f := range s.files {
		if (f.moved() || openForWriting(f.path)) && !last {
			s.log.Debug("a watched file is still being written", zap.String("file", f.path))
			s.again(now)
			return
		}
	}
	var c Change
	var unsettled bool
	digests := map[*file]string{}
	for _, f := range s.files {
		digest, err := f.read(s.done)
		switch {
		case errors.Is(err, errUnsettled) && !last:
			s.again(now)
			return
		case errors.Is(err, errUnsettled):
			unsettled = true
		case err != nil:
			s.log.Debug("a watched file cannot be read", zap.String("file", f.path), zap.Error(err))
		case digest != f.digest:
			c.Files = append(c.Files, f.path)
			digests[f] = digest
		}
	}
	s.since = time.Time{}
	if unsettled {
		s.touch()
	}
	select {
	case <-s.done:
		return
	default:
	}
	if len(c.Files) == 0 {
		s.log.Debug("watched files were touched, but hold what they held")
		return
	}
	for f, digest := range digests {
		f.digest = digest
	}
	s.opt.Changed(c)
}

// again waits once more for rest.
func (s *scanner) again(now time.Time) {
	s.due = now.Add(s.opt.Settle)
	if last := s.since.Add(s.opt.MaxSettle); last.Before(s.due) {
		s.due = last
	}
}
