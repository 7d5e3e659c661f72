package watch

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// scanner is all that a Watcher knows. One goroutine owns it.
type scanner struct {
	*Watcher
	files []*file
	names map[string]map[string]bool // directories on the way, and the names in them that matter
	dirs  map[string]os.FileInfo     // directories that the kernel watches for us, as they were then
	dark  map[string]bool            // directories on the way that it does not report on
	kern  notifier                   // nil: nothing is reported at all
	since time.Time                  // of the first event of a change that has not come to rest; zero: there is none
	due   time.Time                  // when it may have
	look  time.Time                  // of the next rescan
}

func newScanner(w *Watcher, kern notifier) *scanner {
	return &scanner{Watcher: w, kern: kern, dirs: map[string]os.FileInfo{}, dark: map[string]bool{}}
}

// run is the Watcher's goroutine.
func (s *scanner) run() {
	defer close(s.gone)
	var events <-chan fsnotify.Event
	var failures <-chan error
	if s.kern != nil {
		events, failures = s.kern.events(), s.kern.errors()
		defer func() { _ = s.kern.Close() }()
	}
	s.look = time.Now().Add(s.rescanAfter())
	timer := time.NewTimer(s.wait())
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
		case e := <-events:
			s.event(e)
		case err := <-failures:
			if !errors.Is(err, fsnotify.ErrEventOverflow) {
				s.log.Warn("the kernel failed to report file changes; looking at all of them", zap.Error(err))
			}
			s.rescan()
			s.touch() // events are missing: whatever they were, look at the content
		case <-timer.C:
			if now := time.Now(); !now.Before(s.look) {
				s.rescan()
			}
			if !s.since.IsZero() && !time.Now().Before(s.due) {
				s.settle()
			}
		}
		timer.Reset(s.wait())
	}
}

// wait is the time until there is something to do.
func (s *scanner) wait() time.Duration {
	next := s.look
	if !s.since.IsZero() && s.due.Before(next) {
		next = s.due
	}
	return time.Until(next)
}

// replace takes over a new list of files. The directories are watched before
// the content is read: a change in between is seen twice rather than not.
func (s *scanner) replace(files []string) {
	old := map[string]*file{}
	for _, f := range s.files {
		old[f.path] = f
	}
	s.files = nil
	var fresh []*file
	for _, path := range files {
		f := old[path]
		if f == nil {
			f = &file{path: path}
			fresh = append(fresh, f)
		}
		s.files = append(s.files, f)
	}
	s.rewatch()
	for _, f := range fresh {
		digest, err := f.read(s.done)
		f.digest = digest
		switch {
		case errors.Is(err, errUnsettled):
			s.touch()
		case err != nil:
			s.log.Info("a watched file cannot be read yet; its coming is a change", zap.String("file", f.path), zap.Error(err))
		}
	}
	s.log.Debug("watching files", zap.Strings("files", files), zap.Int("directories", len(s.names)))
}

// event notes what the kernel reported, if it is about a name on the way.
func (s *scanner) event(e fsnotify.Event) {
	if e.Op&(fsnotify.Remove|fsnotify.Rename) != 0 {
		s.forget(filepath.Clean(e.Name))
	}
	if !s.names[filepath.Dir(e.Name)][filepath.Base(e.Name)] {
		return
	}
	if e.Op&(fsnotify.Create|fsnotify.Remove|fsnotify.Rename) != 0 {
		s.rewatch() // the way may lead elsewhere
	}
	s.touch()
}

// touch begins to wait for rest, or goes on with it.
func (s *scanner) touch() {
	now := time.Now()
	if s.since.IsZero() {
		s.since = now
	}
	for _, f := range s.files {
		f.moved()
	}
	s.due = now.Add(s.opt.Settle)
	if last := s.since.Add(s.opt.MaxSettle); last.Before(s.due) {
		s.due = last
	}
}

// rescan looks at everything, whatever was reported, and watches every
// directory anew: watching one twice does nothing.
func (s *scanner) rescan() {
	clear(s.dirs)
	s.rewatch()
	s.look = time.Now().Add(s.rescanAfter())
	moved := false
	for _, f := range s.files {
		moved = f.moved() || moved
	}
	if moved {
		s.touch()
	}
}

func (s *scanner) rescanAfter() time.Duration {
	if s.kern == nil || len(s.dark) > 0 {
		return pollEvery
	}
	return rescanEvery
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
	c := Change{Digests: map[string]string{}}
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
		f.digest, c.Digests[f.path] = digest, digest
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
