// Package watch tells when files have changed and come to rest.
//
// A file is a path: what it leads to changes when the file is written, when
// another is renamed over it, and when a symbolic link anywhere on the way
// points elsewhere. So it is the directories on the way that are watched, all
// of them. An event only says "look": what counts is the content, by its
// digest, once nothing has moved for a while. Where the kernel reports nothing
// (a network mount, no watches left), the files are looked at regularly.
package watch

import (
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"
	"go.uber.org/zap"
)

// Defaults and limits.
const (
	DefaultSettle    = 500 * time.Millisecond // without an event, until a change counts
	DefaultMaxSettle = 10 * time.Second       // from the first event, until it counts all the same
	MaxFiles         = 64                     // watched by one Watcher

	maxDirs     = 512              // directories watched
	maxLinks    = 40               // symbolic links followed on one path, as the kernel does
	rescanEvery = 30 * time.Second // a look at all files, whatever was reported
	pollEvery   = time.Second      // the same where nothing is reported
)

// Options say what is watched and who is told.
type Options struct {
	Files     []string      // absolute paths; they need not exist
	Settle    time.Duration // zero: DefaultSettle
	MaxSettle time.Duration // zero: DefaultMaxSettle
	// Changed is called by the Watcher's one goroutine, once for each change
	// that came to rest; Close waits for it, so it must not call Close.
	Changed func(Change)
	Log     *zap.Logger // nil: none
}

// Change is what changed since the last one, or since it was first watched.
type Change struct {
	Files   []string          // as they were given, in their order
	Digests map[string]string // of these: SHA-256 of the content, in hexadecimal digits
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
func Open(o Options) (*Watcher, error) { return open(o, openKernel) }

func open(o Options, kern func(*zap.Logger) notifier) (*Watcher, error) {
	files, err := checkFiles(o.Files)
	if err != nil {
		return nil, err
	}
	if o.Changed == nil {
		return nil, errors.New("watch: nobody to tell of changes")
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
	s := newScanner(w, kern(w.log))
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

// notifier is the kernel's part: fsnotify, or a fake in tests.
type notifier interface {
	Add(dir string) error
	Remove(dir string) error
	Close() error
	events() <-chan fsnotify.Event
	errors() <-chan error
}

type kernel struct{ *fsnotify.Watcher }

// openKernel returns nil when the kernel has no more instances to give.
func openKernel(log *zap.Logger) notifier {
	fs, err := fsnotify.NewWatcher()
	if err != nil {
		log.Warn("the kernel reports no file changes (raise fs.inotify.max_user_instances); looking at the files instead",
			zap.Duration("every", pollEvery), zap.Error(err))
		return nil
	}
	return kernel{fs}
}

func (k kernel) events() <-chan fsnotify.Event { return k.Events }
func (k kernel) errors() <-chan error          { return k.Errors }
