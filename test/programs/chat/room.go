package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/worker"
)

const (
	maxLog     = 1_000                 // messages that the room remembers
	maxLogSize = 512 << 10             // bytes of them; the oldest go first
	maxMessage = 2 << 10               // bytes of one message
	maxPending = 256                   // messages that are not kept yet; senders wait beyond these
	saveEvery  = 20 * time.Millisecond // between two writes of the log: messages that come meanwhile go together
	saveLimit  = 5 * time.Second       // for one of them
	openWait   = 20 * time.Second      // for the version before to have let go of the room
)

var errFrozen = errors.New("the room is frozen")

// post is one message of the room.
type post struct {
	Seq  uint64 `json:"seq"`
	Text string `json:"text"`
}

// keep is where the room's log lives between two processes.
type keep interface {
	save(ctx context.Context, log []byte) error
	load(ctx context.Context) ([]byte, error) // nil: there is none
}

// room is a chat room that one process has at a time: its run is background
// work, so that of two versions only the active one ever writes its log.
//
//	closed ── run ──▶ open ── run's context ends ──▶ frozen ── run ──▶ open …
//
// A message is told to members only once the log with it is kept: what somebody
// has seen is never lost, and no number is ever used twice, also not by a
// replacement after a crash. Therefore the log is kept for each batch and not at
// intervals; a batch is what has come while the last one was written.
//
// Members have no queues: each reads the log at its own place. One that is so
// slow that the log has forgotten its place is told that it has missed some.
type room struct {
	keep    keep
	leaving func(context.Context) <-chan struct{} // worker.Leaving

	mu      sync.Mutex
	open    bool // takes messages
	unsaved bool // frozen or open: the log is not kept as it is, members cannot go
	lost    bool // nor will it be
	log     []post
	size    int    // bytes of the log's texts
	last    uint64 // seq of the last message that is kept
	pending []string
	changed chan struct{} // closed, and made anew, at each change of the above
	dirty   chan struct{} // a token: something is pending
}

func newRoom(k keep, leaving func(context.Context) <-chan struct{}) *room {
	return &room{keep: k, leaving: leaving, changed: make(chan struct{}), dirty: make(chan struct{}, 1)}
}

// run is given to OnActive.
func (r *room) run(ctx context.Context) {
	if err := r.begin(ctx); err != nil {
		slog.Error("chat: the room stays closed", "error", err)
		return
	}
	for kept := true; ctx.Err() == nil; {
		select {
		case <-r.dirty:
			err := r.commit()
			if err != nil && kept { // said once, not with each batch
				slog.Warn("chat: the room's log is not kept; it goes on without", "error", err)
			}
			kept = err == nil
		case <-ctx.Done():
			continue
		}
		select { // what comes meanwhile goes together
		case <-time.After(saveEvery):
		case <-ctx.Done():
		}
	}
	r.freeze()
}

// begin takes up the log where it was left.
func (r *room) begin(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, saveLimit)
	defer cancel()
	b, err := r.keep.load(ctx)
	if err != nil {
		return fmt.Errorf("reading its log: %w", err)
	}
	var log []post
	if len(b) > 0 {
		if err := json.Unmarshal(b, &log); err != nil {
			return fmt.Errorf("its log is of a form that this version does not know: %w", err)
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log, r.size = log, 0
	for _, p := range log {
		r.size += len(p.Text)
		r.last = p.Seq
	}
	r.open, r.unsaved, r.lost = true, true, false
	r.tell()
	return nil
}

// freeze takes no message any more, and keeps those that it has taken.
func (r *room) freeze() {
	r.mu.Lock()
	r.open = false
	r.tell() // nobody writes or waits for a place any more
	r.mu.Unlock()
	err := r.commit()
	if err != nil {
		slog.Error("chat: the room's log is not kept; its members have to come back", "error", err)
	}
	r.mu.Lock()
	r.unsaved, r.lost = err != nil, err != nil
	r.tell()
	r.mu.Unlock()
}

// commit keeps the log with what is pending, then shows it. Of run alone.
func (r *room) commit() error {
	r.mu.Lock()
	log, size := r.log[:len(r.log):len(r.log)], r.size
	taken := len(r.pending)
	for i, text := range r.pending {
		log = append(log, post{Seq: r.last + uint64(i) + 1, Text: text})
		size += len(text)
	}
	r.mu.Unlock()
	for len(log) > maxLog || size > maxLogSize {
		size -= len(log[0].Text)
		log = log[1:]
	}
	b, err := json.Marshal(log)
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), saveLimit)
		defer cancel()
		err = r.keep.save(ctx, b)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.log, r.size = log, size
	r.last += uint64(taken)
	r.pending = r.pending[taken:]
	r.tell()
	return err
}

// tell wakes who waits for a change. r.mu is held.
func (r *room) tell() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// say takes a message; errFrozen: it is for the next version to take.
func (r *room) say(ctx context.Context, text string) error {
	for {
		r.mu.Lock()
		open, full, changed := r.open, len(r.pending) >= maxPending, r.changed
		if open && !full {
			r.pending = append(r.pending, text)
		}
		r.mu.Unlock()
		switch {
		case !open:
			return errFrozen
		case !full:
			select {
			case r.dirty <- struct{}{}:
			default:
			}
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return errFrozen
		}
	}
}

// after are the messages after seq, and a channel that is closed when there may
// be more. When the log does not have the next of them any more, or is another
// log (a client's word can be that), missed is set, and the oldest it has come.
func (r *room) after(seq uint64) (posts []post, missed bool, more <-chan struct{}, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	oldest := r.last + 1 - uint64(len(r.log))
	switch {
	case !r.open:
		return nil, false, nil, errFrozen
	case seq > r.last || seq+1 < oldest:
		return r.log, true, r.changed, nil
	}
	return r.log[seq+1-oldest:], false, r.changed, nil
}

// where a member belongs.
type where int

const (
	here    where = iota // the room is open
	away                 // the worker leaves, and all that the next one needs is kept
	nowhere              // neither, for as long as one waits
)

// place waits until it is known where a member belongs. ctx has the notice to
// leave.
func (r *room) place(ctx context.Context) where {
	ctx, cancel := context.WithTimeout(ctx, openWait)
	defer cancel()
	for {
		r.mu.Lock()
		open, unsaved, lost, changed := r.open, r.unsaved, r.lost, r.changed
		r.mu.Unlock()
		var leaving <-chan struct{}
		switch {
		case open:
			return here
		case lost:
			return nowhere
		case !unsaved:
			leaving = r.leaving(ctx)
		}
		select {
		case <-changed:
		case <-leaving:
			return away
		case <-ctx.Done():
			return nowhere
		}
	}
}

// frozen waits until the room is, or ctx ends; true: it is.
func (r *room) frozen(ctx context.Context) bool {
	for {
		r.mu.Lock()
		open, changed := r.open, r.changed
		r.mu.Unlock()
		if !open {
			return true
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return false
		}
	}
}

// now is the last message's number; ok: the room is open.
func (r *room) now() (last uint64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.last, r.open
}

// kept keeps the log with the master, or in this process when there is none.
type kept struct{ w *worker.Worker }

const roomName = "room" // of what is kept

func (k kept) save(ctx context.Context, log []byte) error { return k.w.Keep(ctx, roomName, log) }

func (k kept) load(ctx context.Context) ([]byte, error) {
	log, err := k.w.Kept(ctx, roomName)
	if errors.Is(err, worker.ErrNotKept) {
		return nil, nil // the room's first time
	}
	return log, err
}
