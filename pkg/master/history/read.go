package history

import (
	"fmt"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// Reader reads a log on from an entry. It belongs to one goroutine, is behind as far as it
// likes, and costs the log nothing: what it has missed is said to it. Repeats that are not
// over yet come when they are.
type Reader struct {
	log  *Log
	at   uint64 // the next one to read, counted as Log.kept
	said *api.Entry
}

// After reads what follows the entry with a number.
func (l *Log) After(n uint64) *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := &Reader{log: l, at: l.oldest()}
	if n > l.shown.line {
		r.said = gap(0, fmt.Sprintf("There is no entry %d, the last one is %d: the history's files were taken away, or it is that of "+
			"another service. Numbers begin anew.", n, l.shown.line))
		return r
	}
	first := uint64(0)
	for _, e := range l.entries {
		if e.N > n || e.N == 0 { // those without a number are the last
			first = e.N
			break
		}
		r.at++
	}
	if r.at == l.oldest() && first > n+1 {
		r.said = l.missing(n+1, first-1)
	}
	return r
}

// Newest reads the last n entries, and what follows.
func (l *Log) Newest(n int) *Reader {
	l.mu.Lock()
	defer l.mu.Unlock()
	return &Reader{log: l, at: max(l.oldest(), l.kept-min(l.kept, uint64(max(n, 0))))}
}

// Next returns what has come since it was called last. more is closed when there is more.
func (r *Reader) Next() (entries []api.Entry, more <-chan struct{}) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.said != nil {
		entries = append(entries, *r.said)
		r.said = nil
	}
	oldest := l.oldest()
	if r.at < oldest {
		entries = append(entries, *l.missing(0, max(l.entries[0].N, 1)-1))
		r.at = oldest
	}
	entries = append(entries, l.entries[r.at-oldest:]...)
	r.at = l.kept
	return entries, l.more
}

// oldest is the place of the first entry in memory; mu is held.
func (l *Log) oldest() uint64 { return l.kept - uint64(len(l.entries)) }

// missing stands for entries that are in files alone; from zero: those since the one before.
func (l *Log) missing(from, to uint64) *api.Entry {
	which := fmt.Sprintf("Entries up to %d", to)
	if from > 0 {
		which = fmt.Sprintf("Entries %d to %d", from, to)
	}
	return gap(to, which+" are not in memory any more; they are in "+l.path+" and the files beside it, as far as these are kept.")
}

func gap(n uint64, why string) *api.Entry {
	return &api.Entry{At: time.Now(), What: api.WhatGap, By: "masterd", Outcome: api.ResultDone, Reason: why, N: n}
}

// tellReaders has them read on.
func (l *Log) tellReaders() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.more)
	l.more = make(chan struct{})
}
