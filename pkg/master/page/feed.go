package page

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/recent"
)

const (
	lookSoonest = time.Second // between two looks at the status
	// lookAtRest is where nothing is under way, and nobody tells of a change: a look reads the
	// configuration's file and what workers use, and costs milliseconds.
	lookAtRest = 10 * time.Second
	maxEntries = 100 // of the history that a page is shown when it comes
)

// feed tells all streams what there is to see. Its goroutine owns all but the channels.
type feed struct {
	s     *Server
	join  chan *stream
	leave chan *stream

	streams map[*stream]bool
	timer   *time.Timer // for the next look
	looked  time.Time   // when the last was
	status  []byte      // as it was seen last
	seen    []byte      // as it was told last, but for what is not compared
	last    time.Time   // the last point that was told
	reader  Reader
	more    <-chan struct{} // closed when that has more
	entries []api.Entry     // the last of the history, newest first
}

func newFeed(s *Server) *feed {
	return &feed{s: s, join: make(chan *stream), leave: make(chan *stream), streams: map[*stream]bool{}}
}

func (f *feed) run(life context.Context) {
	f.timer = time.NewTimer(lookAtRest)
	f.rest()
	defer f.timer.Stop()
	for life.Err() == nil {
		f.turn(life)
	}
}

// turn does one thing.
func (f *feed) turn(life context.Context) {
	defer f.s.survive()
	woken := f.s.woken
	if len(f.streams) == 0 {
		woken = nil
	}
	select {
	case <-life.Done():
	case st := <-f.join:
		f.welcome(st)
	case st := <-f.leave:
		f.drop(st)
	case <-woken:
		f.timer.Reset(max(0, lookSoonest-time.Since(f.looked)))
	case <-f.more:
		f.tellEntries()
	case <-f.timer.C:
		f.look()
	}
}

// rest forgets what was seen: nobody looks.
func (f *feed) rest() {
	f.timer.Stop()
	f.looked, f.status, f.seen, f.reader, f.more, f.entries, f.last = time.Time{}, nil, nil, nil, nil, nil, time.Time{}
}

// welcome tells a stream that begins all there is.
func (f *feed) welcome(st *stream) {
	if len(f.streams) == 0 {
		f.reader = f.s.o.Source.History(maxEntries)
	}
	f.tellEntries()
	points := f.s.o.Source.Recent(time.Time{})
	f.tellPoints(points)
	if time.Since(f.looked) >= lookSoonest {
		f.look()
	}
	f.streams[st] = true
	f.send(st, frame("hello", st.hello))
	f.send(st, f.status)
	f.send(st, frame("recent", hour{int(recent.Step / time.Second), notNil(points)}))
	f.send(st, frame("history", notNil(f.entries)))
}

// hour is the last one, as a page is shown it when it comes.
type hour struct {
	Step   int            `json:"step_s"`
	Points []recent.Point `json:"points"`
}

// look tells what has changed since the last look.
func (f *feed) look() {
	src := f.s.o.Source
	st := src.Status()
	f.looked = time.Now()
	st.Listeners, st.Generations = notNil(st.Listeners), notNil(st.Generations)
	f.status = frame("status", st) // who comes is shown the newest, whatever has changed
	if seen := compared(st); !bytes.Equal(seen, f.seen) {
		f.seen = seen
		f.tellFrame(f.status)
	}
	if len(f.streams) > 0 {
		f.tellPoints(src.Recent(f.last))
	}
	next := lookAtRest
	if underWay(st) {
		next = lookSoonest
	}
	f.timer.Reset(next)
}

// compared is what makes a status another one: all but what is another at each look.
func compared(st api.Status) []byte {
	st.Now = time.Time{}
	for _, g := range st.Generations {
		for i := range g.Workers {
			g.Workers[i].CPUSeconds, g.Workers[i].ProbeMS = 0, 0
		}
	}
	return frame("", st)
}

// underWay reports whether a status is worth a look each second.
func underWay(st api.Status) bool {
	switch st.State {
	case "starting", "down", "stopping":
		return true
	}
	return st.Rollout != nil || slices.ContainsFunc(st.Generations, func(g api.Generation) bool {
		return g.Phase == "draining" || g.Phase == "stopping" || g.Phase == "killed"
	})
}

func (f *feed) tellPoints(points []recent.Point) {
	for _, p := range points {
		if p.At.After(f.last) {
			f.last = p.At
			f.tell("point", p)
		}
	}
}

func (f *feed) tellEntries() {
	var entries []api.Entry
	entries, f.more = f.reader.Next()
	for _, e := range entries {
		f.entries = slices.Insert(f.entries, 0, e)
		f.tell("entry", e)
	}
	f.entries = f.entries[:min(len(f.entries), maxEntries)]
}

func (f *feed) tell(event string, data any) {
	if len(f.streams) > 0 {
		f.tellFrame(frame(event, data))
	}
}

func (f *feed) tellFrame(b []byte) {
	for st := range f.streams {
		f.send(st, b)
	}
}

// send gives a stream what it is to write. One that does not keep up ends.
func (f *feed) send(st *stream, b []byte) {
	if len(b) == 0 || !f.streams[st] {
		return
	}
	select {
	case st.queue <- b:
	default:
		f.s.log.Debug("a page does not read, and is dropped")
		f.drop(st)
	}
}

func (f *feed) drop(st *stream) {
	st.end()
	delete(f.streams, st)
	if len(f.streams) == 0 {
		f.rest()
	}
}

// frame is one event, as it is written to all streams. Empty: it cannot be.
func frame(event string, data any) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "event: %s\ndata: ", event)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(data); err != nil { // a number that JSON has not; the next may be another
		return nil
	}
	b.WriteByte('\n')
	return b.Bytes()
}

// notNil makes an empty list of none.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
