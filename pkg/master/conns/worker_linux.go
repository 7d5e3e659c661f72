package conns

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/master/process"
)

const (
	// heldApart is between two looks at a worker's descriptors, at least, and they may take
	// one part in heldShare of the time.
	heldApart = 250 * time.Millisecond
	heldShare = 20
	// maxClosed bounds what one look closes: between two of them others are served.
	maxClosed = 64
	// maxStrange is how many descriptors of a worker may turn out to be something else than
	// what they were a moment ago. One that exchanges them on purpose is not looked into.
	maxStrange = 100
	// copyTime bounds the wait until the copy of a descriptor is closed.
	copyTime = time.Second
)

// ErrNotAllowed: descriptors may not be taken from the worker.
var ErrNotAllowed = errors.New("descriptors may not be taken from it")

// Place is where clients connect to.
type Place struct {
	At   netip.AddrPort
	HTTP bool // it is known to be HTTP
}

// Worker watches the connections of one worker. It is for one goroutine.
type Worker struct {
	watch     *Watch
	processes func() []int
	at        []Place
	paths     []string
	held      map[uint64]holder // by inode
	heldAt    time.Time
	heldCost  time.Duration
	strange   int
	closed    int
	ended     int // of those
}

// holder is who has a socket open.
type holder struct{ pid, fd int }

// Worker begins to watch a worker that consists of these processes, and has accepted from
// listeners at these addresses and paths.
func (w *Watch) Worker(processes func() []int, at []Place, paths []string) *Worker {
	return &Worker{watch: w, processes: processes, at: at, paths: paths}
}

// Look closes what may be closed in a mode, at most so many, and tells what is left, and what
// the look has cost. The error is [ErrNotAllowed] where nothing can be closed in this way.
func (x *Worker) Look(ctx context.Context, m Mode, most int) (left Left, cost time.Duration, err error) {
	begun := time.Now()
	fresh := false
	if begun.Sub(x.heldAt) >= max(heldApart, heldShare*x.heldCost) {
		if fresh, err = true, x.hold(); err != nil {
			return left, 0, err
		}
	}
	if _, err = x.watch.Look(x.at); err != nil {
		return left, 0, err
	}
	left, err = x.look(ctx, m, min(most, maxClosed))
	if err == nil && left.Open == 0 && !fresh { // what it has taken since is not known
		if err = x.hold(); err == nil {
			left, err = x.look(ctx, Count, 0)
		}
	}
	return left, time.Since(begun), err
}

// hold looks for who has which sockets open.
func (x *Worker) hold() error {
	begun := time.Now()
	held := map[uint64]holder{}
	for _, pid := range x.processes() {
		open, err := process.Sockets(pid)
		for fd, inode := range open {
			held[inode] = holder{pid, fd}
		}
		if err != nil && !process.Ended(pid) {
			return fmt.Errorf("looking at the descriptors of process %d: %w", pid, err)
		}
	}
	x.held, x.heldAt, x.heldCost = held, begun, time.Since(begun)
	return nil
}

// due is a connection that may be closed. What it is a part of is the watch's.
type due struct {
	of *seen
	holder
	cookie uint64
	info   *unix.TCPInfo // as it was seen
	quiet  time.Duration
	http   bool
}

func (x *Worker) look(ctx context.Context, m Mode, most int) (left Left, err error) {
	left, all := x.review(m)
	for _, d := range all[:min(len(all), most)] {
		if ctx.Err() != nil || x.strange > maxStrange {
			break
		}
		closed, err := x.close(ctx, d)
		if err != nil {
			return left, err
		}
		if closed {
			x.closed++
			left.Open--
			if !d.http {
				x.ended++
			}
		}
	}
	left.Closed, left.Ended = x.closed, x.ended
	if x.strange > maxStrange {
		return left, ErrNotAllowed
	}
	if len(x.paths) > 0 {
		left.Unix, err = x.unix()
		left.Open += left.Unix
	}
	return left, err
}

// review says what the worker has, as of the last look, and what of it may be closed.
func (x *Worker) review(m Mode) (left Left, all []due) {
	w, now := x.watch, time.Now()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, a := range x.at {
		p := w.places[a.At]
		if p == nil {
			continue
		}
		left.Open += p.more // whose they are is not known
		for cookie, c := range p.seen {
			h, ours := x.held[c.Inode]
			if !ours || c.gone() {
				continue
			}
			left.count(c, now)
			if quiet, may := c.needs(m, a.HTTP, &w.learnt); may && c.quiet >= quiet {
				all = append(all, due{c, h, cookie, c.Info, c.quiet, a.HTTP})
			}
		}
	}
	// Those that were answered last first: the others' clients may be about to ask.
	slices.SortFunc(all, func(a, b due) int { return cmp.Compare(a.quiet, b.quiet) })
	return left, all
}

// unix counts the worker's connections of Unix sockets.
func (x *Worker) unix() (n int, err error) {
	all, err := process.UnixSockets()
	for _, s := range all {
		if _, ours := x.held[s.Inode]; ours && s.Connected && slices.Contains(x.paths, s.Path) {
			n++
		}
	}
	return n, err
}
