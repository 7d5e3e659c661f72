// Package watch tells when files have changed and come to rest.
//
// A file is a path: what it leads to changes when the file is written, when
// another is renamed over it, and when a symbolic link anywhere on the way
// points elsewhere. So the paths are looked at regularly, as whoever opens them
// would; inotify would have to be told of each directory on each way, and reports
// nothing on network mounts. A look only says that something has moved: what
// counts is the content, by its digest, once nothing has moved for a while.
package watch

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"go.uber.org/zap"
)

// Defaults and limits.
const (
	DefaultEvery     = 500 * time.Millisecond // between two looks
	DefaultSettle    = 500 * time.Millisecond // without a move, until a change counts
	DefaultMaxSettle = 10 * time.Second       // from the first move, until it counts all the same
	MaxFiles         = 64                     // watched by one Watcher
)

// Options say what is watched and who is told.
type Options struct {
	Files     []string      // absolute paths; they need not exist
	Every     time.Duration // between two looks; zero: DefaultEvery
	Settle    time.Duration // zero: DefaultSettle
	MaxSettle time.Duration // zero: DefaultMaxSettle
	// Changed is called by the Watcher's one goroutine, once for each change
	// that came to rest; Close waits for it, so it must not call Close.
	Changed func(Change)
	Log     *zap.Logger // nil: none
}

// Change is what changed since the last one, or since it was first watched.
type Change struct {
	Files []string // as they were given, in their order
}

// Watcher watches until it is closed.
type Watcher struct {
	opt     Options
	log     *zap.Logger
	set     chan []string // the files asked for last; never holds more than one
	setting sync.Mutex    // makes replacing what set holds one step
	done    chan struct{} // closed by Close
	closing sync.Once
	gone    chan struct{} // closed when the goroutine has ended
}

// Open begins to watch. What the files hold when it returns is what changes are
// compared with.
func Open(o Options) (*Watcher, error) {
	files, err := checkFiles(o.Files)
	if err != nil {
		return nil, err
	}
	if o.Changed == nil {
		return nil, errors.New("watch: nobody to tell of changes")
	}
	if o.Every <= 0 {
		o.Every = DefaultEvery
	}
	if o.Settle <= 0 {
		o.Settle = DefaultSettle
	}
	if o.MaxSettle <= 0 {
		o.MaxSettle = DefaultMaxSettle
	}
	o.MaxSettle = max(o.MaxSettle, o.Settle)
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	w := &Watcher{opt: o, log: o.Log, set: make(chan []string, 1), done: make(chan struct{}), gone: make(chan struct{})}
	s := &scanner{Watcher: w}
	s.replace(files)
	go s.run()
	return w, nil
}

// Set watches other files from now on. Those that were watched before keep
// what they are compared with; for new ones it is what they hold when the
// Watcher gets to it, which is at once. It never waits. Paths that cannot be
// watched are left out and logged.
func (w *Watcher) Set(files []string) {
	w.setting.Lock()
	defer w.setting.Unlock()
	select {
	case <-w.set: // nobody needs what was asked for before
	default:
	}
	w.set <- slices.Clone(files)
}

// Close ends the Watcher and waits until nothing of it is left.
func (w *Watcher) Close() {
	w.closing.Do(func() { close(w.done) })
	<-w.gone
}

// checkFiles returns clean paths without repeats.
func checkFiles(files []string) ([]string, error) {
	var clean []string
	for _, f := range files {
		if !filepath.IsAbs(f) {
			return nil, errors.New("watch: not an absolute path: " + f)
		}
		if f = filepath.Clean(f); !slices.Contains(clean, f) {
			clean = append(clean, f)
		}
	}
	if len(clean) > MaxFiles {
		return nil, errors.New("watch: too many files")
	}
	return clean, nil
}
