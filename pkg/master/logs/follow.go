package logs

import (
	"cmp"
	"context"
	"fmt"
	"slices"

	"github.com/masterd/masterd/pkg/api"
)

const (
	maxFollowers  = 64  // of one service
	maxPerUser    = 16  // of one uid among them
	followerQueue = 512 // lines that a reader may be behind
)

// follower is one reader of lines to come.
type follower struct {
	uid    uint32
	worker uint64 // zero: all
	lines  chan api.LogLine
	lost   uint64
	left   func() bool // forget its context
}

// send never waits: a reader that is stuck must not hold up the others.
func (f *follower) send(l api.LogLine) {
	if f.worker != 0 && f.worker != l.Worker {
		return
	}
	if f.lost > 0 {
		note := l
		note.Stream = streamNote
		note.Text = fmt.Sprintf("%d lines are missing here: they were read too slowly", f.lost)
		select {
		case f.lines <- note:
			f.lost = 0
		default:
			f.lost++
			return
		}
	}
	select {
	case f.lines <- l:
	default:
		f.lost++
	}
}

func (r *Collector) follow(ctx context.Context, uid uint32, worker uint64, n int) *follower {
	if why := r.crowded(uid); why != "" {
		f := &follower{lines: make(chan api.LogLine, 1)}
		f.lines <- api.LogLine{At: r.opt.Clock(), Worker: worker, Stream: streamNote, Text: why}
		close(f.lines)
		return f
	}
	past := r.lines(worker, n)
	f := &follower{uid: uid, worker: worker, lines: make(chan api.LogLine, len(past)+followerQueue)}
	for _, l := range past {
		f.lines <- l
	}
	if o := r.outputs[worker]; worker != 0 && (o == nil || o.done) {
		close(f.lines)
		return f
	}
	r.followers[f] = struct{}{}
	r.tails.Add(1)
	stop := context.AfterFunc(ctx, func() {
		defer r.tails.Done()
		r.do(func() { r.unfollow(f) })
	})
	f.left = func() bool {
		if stop() {
			r.tails.Done()
			return true
		}
		return false
	}
	return f
}

// crowded says why one more reader of this user finds no place; empty: there is one.
func (r *Collector) crowded(uid uint32) string {
	same := 0
	for f := range r.followers {
		if f.uid == uid {
			same++
		}
	}
	switch {
	case same >= maxPerUser:
		return fmt.Sprintf("%d readers of uid %d follow this output already, that is all that one user may have: end one of them", same, uid)
	case len(r.followers) >= maxFollowers:
		return fmt.Sprintf("%d readers follow this output already, that is all there may be", maxFollowers)
	}
	return ""
}

func (r *Collector) unfollow(f *follower) {
	if _, there := r.followers[f]; !there {
		return
	}
	delete(r.followers, f)
	f.left()
	close(f.lines)
}

// lines collects what is kept.
func (r *Collector) lines(worker uint64, n int) []api.LogLine {
	type owned struct {
		record
		o *Output
	}
	var all []owned
	for id, o := range r.outputs {
		if worker == 0 || worker == id {
			for _, rec := range o.ring.last(n) {
				all = append(all, owned{rec, o})
			}
		}
	}
	slices.SortFunc(all, func(a, b owned) int { return cmp.Compare(a.seq, b.seq) })
	all = all[max(0, len(all)-max(0, n)):]
	out := make([]api.LogLine, len(all))
	for i, l := range all {
		out[i] = l.o.line(l.record)
	}
	return out
}
