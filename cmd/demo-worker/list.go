package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
)

const (
	maxItems = 10_000   // the list forgets its oldest beyond these
	maxItem  = 64 << 10 // bytes of one item
	maxList  = 16 << 20 // bytes of all; the oldest go first
	listName = "list"   // what it is kept by
)

// list is a list of texts that outlives this process: it is kept with the
// master, and every process of every version that runs reads and writes that
// one. Nothing of it is held here between two requests.
//
// An item whose POST was answered is kept: a reload, a rollback, a crash of
// this process and its kill -9 lose none. A POST that got no answer may have
// been kept or not. The death of the master loses the list; a stop of the
// service is meant to, and with -persist does not.
//
// Requests that come while one is being written wait and are written together
// with the next, so that the master is asked a hundred times a second at most,
// however many come. (Each time the whole list is written: this is for state
// that is small. examples/redis-list is the same with a database.)
type list struct {
	w    *worker.Worker
	opts []worker.KeepOption
	turn chan struct{} // held by who writes

	mu      sync.Mutex
	waiting []*listing
}

// listing is one request: an item to add, or none, and what the list is then.
type listing struct {
	add   []string
	done  chan struct{} // closed when the rest is set
	items []string
	err   error
}

func newList(w *worker.Worker, opts ...worker.KeepOption) *list {
	return &list{w: w, opts: opts, turn: make(chan struct{}, 1)}
}

func (l *list) get(c *gin.Context) {
	items, err := l.do()
	if err != nil {
		c.String(http.StatusServiceUnavailable, "the list cannot be read: %v", err)
		return
	}
	c.JSON(http.StatusOK, gin.H{"items": items})
}

func (l *list) add(c *gin.Context) {
	body, err := io.ReadAll(http.MaxBytesReader(c.Writer, c.Request.Body, maxItem))
	if err != nil {
		c.String(http.StatusRequestEntityTooLarge, "an item has at most %d bytes", maxItem)
		return
	}
	items, err := l.do(string(body))
	if err != nil {
		c.String(http.StatusServiceUnavailable, "the item was not kept, or it is not known: %v", err)
		return
	}
	c.JSON(http.StatusCreated, gin.H{"items": len(items)})
}

// do adds items, if there are any, and returns the list. It is done by whoever
// has the turn, for all who wait.
func (l *list) do(add ...string) ([]string, error) {
	mine := &listing{add: add, done: make(chan struct{})}
	l.mu.Lock()
	l.waiting = append(l.waiting, mine)
	l.mu.Unlock()
	select {
	case <-mine.done:
	case l.turn <- struct{}{}:
		l.mu.Lock()
		all := l.waiting
		l.waiting = nil
		l.mu.Unlock()
		if len(all) > 0 { // else mine was among those before
			l.doAll(all)
		}
		<-l.turn
		<-mine.done
	}
	return mine.items, mine.err
}

// doAll does what several requests want, with one change of what is kept. No
// request's context ends it: it is not that request's alone, and worker bounds
// the wait.
func (l *list) doAll(all []*listing) {
	var add []string
	for _, r := range all {
		add = append(add, r.add...)
	}
	var items []string
	var err error
	if len(add) == 0 {
		var kept []byte
		if kept, err = l.w.Kept(context.Background(), listName); err == nil {
			items, err = decode(kept)
		} else if errors.Is(err, worker.ErrNotKept) {
			items, err = []string{}, nil
		}
	} else {
		err = l.w.UpdateKept(context.Background(), listName, func(kept []byte) ([]byte, error) {
			before, err := decode(kept)
			if err != nil {
				return nil, err
			}
			items = trim(append(before, add...))
			return json.Marshal(items)
		}, l.opts...)
	}
	for _, r := range all {
		r.items, r.err = items, err
		close(r.done)
	}
}

func decode(kept []byte) ([]string, error) {
	items := []string{}
	if len(kept) == 0 {
		return items, nil
	}
	return items, json.Unmarshal(kept, &items)
}

// trim forgets the oldest.
func trim(items []string) []string {
	items = items[max(0, len(items)-maxItems):]
	size := 0
	for i := len(items) - 1; i >= 0; i-- {
		if size += len(items[i]); size > maxList {
			return items[i+1:]
		}
	}
	return items
}
