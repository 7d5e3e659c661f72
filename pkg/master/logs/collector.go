package logs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/masterd/masterd/pkg/api"
)

const (
	defaultLine = 16 << 10              // bytes of a line when Options say nothing
	gatherFor   = 10 * time.Millisecond // from the first sign of new output until it is read: one read for many lines
	lookEvery   = time.Second           // at all outputs, whether the kernel said something or not
	pollEvery   = 100 * time.Millisecond
	eventQueue  = 256 // of the file watch; what does not fit waits in the kernel, which folds repeats

	turnSize     = 4 << 20 // bytes read of one file before somebody else has his turn
	readSize     = 64 << 10
	keepFinished = 16          // workers whose last lines are kept after their end
	keepBytes    = 2 << 20     // of the lines of all of those together
	maxStrays    = 10          // times that a worker may take space for no output,
	strayWindow  = time.Minute // in this time: who opens its output again without O_APPEND does so now and then
)

// Options say where output is kept and what bounds it.
type Options struct {
	Dir       string // for the files; made with mode 0700 if it is not there
	PerWorker uint64 // bytes a second of one worker that are passed on, twice that in a burst; zero: all
	Line      int    // bytes after which a line is cut; zero: 16 KiB

	// Emit is given every line that is passed on; raw is the line as the worker
	// wrote it, up to where it was cut, and must not be kept. It is called by
	// one goroutine, which also answers every question to the collector: it must not
	// block. May be nil.
	Emit func(e Entry, raw []byte)

	// Unfit is told of a worker that fills the outputs' file system by other means than
	// output, again and again: space is given back 10 ms after it was taken, and others
	// have none of it meanwhile. It must not block. May be nil.
	Unfit func(worker uint64, why string)

	Clock func() time.Time // nil: time.Now
}

// Entry is a line and the process that wrote it.
type Entry struct {
	api.LogLine
	PID int
}

// Ident says whose output it is.
type Ident struct {
	Worker, Generation uint64
	Version            string
	PID                func() int // asked for each line passed on; nil or zero: not known
	UID                int        // may open its output again by /dev/stdout; zero: the master's user alone
	PerWorker          uint64     // bytes a second; zero: as Options says
	Line               int        // bytes after which a line is cut; zero: as Options says
}

// Collector reads the output of every worker of one service. Its methods may be
// called from any goroutine; after Close they do nothing.
type Collector struct {
	opt   Options
	watch *fsnotify.Watcher // nil: polled
	asks  chan func()
	stop  chan struct{}
	ended chan struct{}
	close sync.Once
	tails sync.WaitGroup // goroutines that end followers

	// The rest belongs to the goroutine in run.
	buf       []byte
	seq       uint64 // of the last line
	outputs   map[uint64]*Output
	finished  []*Output // oldest first
	followers map[*follower]struct{}
	dropped   uint64 // by all workers, forgotten ones too
	cut       uint64
}

// Open starts to watch the directory. Files that are already in it are left alone.
func Open(o Options) (*Collector, error) {
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("the directory for workers' output cannot be made: %w", err)
	}
	if o.Line <= 0 {
		o.Line = defaultLine
	}
	if o.Clock == nil {
		o.Clock = time.Now
	}
	if o.Unfit == nil {
		o.Unfit = func(uint64, string) {}
	}
	if o.Emit == nil {
		o.Emit = func(Entry, []byte) {}
	}
	r := &Collector{
		opt:       o,
		asks:      make(chan func()),
		stop:      make(chan struct{}),
		ended:     make(chan struct{}),
		buf:       make([]byte, readSize),
		outputs:   make(map[uint64]*Output),
		followers: make(map[*follower]struct{}),
	}
	// Without a watch (no inotify instance left, a file system without) it is
	// slower, not worse.
	if w, err := fsnotify.NewBufferedWatcher(eventQueue); err == nil {
		if err := w.Add(o.Dir); err == nil {
			r.watch = w
		} else {
			w.Close()
		}
	}
	go r.run()
	return r, nil
}

// Close reads once more and ends. The files of workers that are still there
// stay, and those workers go on writing to them; the next master adopts them.
func (r *Collector) Close() error {
	r.close.Do(func() { close(r.stop) })
	<-r.ended
	r.tails.Wait()
	return nil
}

// Add makes the files for a worker that is about to be started. A file that an
// earlier master left under the same name is replaced.
func (r *Collector) Add(id Ident) (*Output, error) {
	return r.enter(id, func(o *Output) error { return o.create(r.opt.Dir) })
}

// enter makes a worker's output, with its files made or found.
func (r *Collector) enter(id Ident, files func(*Output) error) (*Output, error) {
	if id.PerWorker == 0 {
		id.PerWorker = r.opt.PerWorker
	}
	if id.Line <= 0 {
		id.Line = r.opt.Line
	}
	o := &Output{collector: r, id: id, out: newStream("stdout"), err: newStream("stderr")}
	err := errors.New("the room for workers' output is closed")
	r.do(func() {
		if _, twice := r.outputs[id.Worker]; twice {
			err = fmt.Errorf("worker %d has its output already", id.Worker)
			return
		}
		o.bucket = newBucket(id.PerWorker, r.opt.Clock())
		if err = files(o); err != nil {
			err = fmt.Errorf("the output files of worker %d cannot be made: %w", id.Worker, err)
			return
		}
		r.outputs[id.Worker] = o
	})
	if err != nil {
		return nil, err
	}
	return o, nil
}

// Lines are the last n lines of a worker, or of all when worker is 0, oldest
// first. A finished worker's can be had until 16 others have finished after it.
func (r *Collector) Lines(worker uint64, n int) (lines []api.LogLine) {
	r.do(func() { lines = r.lines(worker, n) })
	return lines
}

// Dropped is how many lines of a worker's (0: of all there ever were) were not
// passed on, because they were too many.
func (r *Collector) Dropped(worker uint64) (n uint64) {
	r.do(func() {
		if worker == 0 {
			n = r.dropped
		} else if o := r.outputs[worker]; o != nil {
			n = o.dropped
		}
	})
	return n
}

// Follow returns the last n lines of a worker (0: of all), then those to come, to a
// reader of this user.
// The channel is closed when ctx or the collector ends, or the worker is finished.
// Who reads too slowly loses lines and is told how many.
func (r *Collector) Follow(ctx context.Context, uid uint32, worker uint64, n int) <-chan api.LogLine {
	var f *follower
	r.do(func() { f = r.follow(ctx, uid, worker, n) })
	if f == nil {
		closed := make(chan api.LogLine)
		close(closed)
		return closed
	}
	return f.lines
}

// do has f run by the goroutine that owns everything, and waits for it.
func (r *Collector) do(f func()) {
	done := make(chan struct{})
	select {
	case r.asks <- func() { defer close(done); f() }:
		<-done
	case <-r.ended:
	}
}

func (r *Collector) run() {
	defer close(r.ended)
	var events chan fsnotify.Event
	var faults chan error
	every := pollEvery
	if r.watch != nil {
		events, faults, every = r.watch.Events, r.watch.Errors, lookEvery
		defer r.watch.Close()
	}
	look := time.NewTicker(every)
	defer look.Stop()
	gather := time.NewTimer(gatherFor)
	defer gather.Stop()
	gathering := true
	for {
		heard := events
		if gathering {
			heard = nil // left in the kernel, which folds a flood of events into few
		}
		select {
		case ask := <-r.asks:
			ask()
		case <-heard:
			gathering = true
			gather.Reset(gatherFor)
		case <-faults: // an overflow: events were lost, not output
			gathering = true
			gather.Reset(gatherFor)
		case <-gather.C:
			discard(events)
			gathering = r.look(turnSize)
			if gathering {
				gather.Reset(0)
			}
		case <-look.C:
			r.look(turnSize)
		case <-r.stop:
			r.end()
			return
		}
	}
}

// discard forgets events that were there before the outputs are looked at.
func discard(events chan fsnotify.Event) {
	for range eventQueue {
		select {
		case <-events:
		default:
			return
		}
	}
}

// look reads what is new, up to turn bytes of each file, and reports whether
// there is more.
func (r *Collector) look(turn int64) (more bool) {
	for _, o := range r.outputs {
		if o.done {
			continue
		}
		for _, s := range o.streams() {
			if r.read(o, s, turn) {
				more = true
			}
		}
		r.note(o)
		r.overstep(o)
	}
	return more
}

func (r *Collector) end() {
	r.look(backlogLimit)
	for _, o := range r.outputs {
		for _, s := range o.streams() {
			s.close()
		}
		o.closePlace()
	}
	for f := range r.followers {
		r.unfollow(f)
	}
}

// finish reads a worker's output to its end and forgets the files.
func (r *Collector) finish(o *Output) {
	if o.done {
		return
	}
	o.done = true
	for _, s := range o.streams() {
		s.closeWrite()
		r.read(o, s, backlogLimit+turnSize)
		if len(s.part) > 0 || s.over > 0 {
			line, over := s.part, s.over
			s.part, s.over = nil, 0
			r.line(o, s, line, over)
		}
	}
	r.tail(o)
	for _, s := range o.streams() {
		s.remove()
	}
	o.closePlace()
	os.Remove(o.placePath)
	r.finished = append(r.finished, o)
	kept := 0
	for i := len(r.finished) - 1; i >= 0; i-- {
		kept += r.finished[i].ring.bytes
		// The newest is always kept: it is the one that will be asked for.
		if n := len(r.finished); i < n-1 && (i < n-keepFinished || kept > keepBytes) {
			for _, old := range r.finished[:i+1] {
				delete(r.outputs, old.id.Worker)
			}
			r.finished = append([]*Output(nil), r.finished[i+1:]...)
			break
		}
	}
	for f := range r.followers {
		if f.worker == o.id.Worker {
			r.unfollow(f)
		}
	}
}
