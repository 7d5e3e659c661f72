package page

import (
	"context"
	"net/http"
	"time"
)

const (
	maxStreams  = 16 // open at one time; one more is refused
	maxQueued   = 64 // events that one has yet to write
	heartbeat   = 15 * time.Second
	readTimeout = 10 * time.Second // for a page to read one event
)

// stream is one page that looks.
type stream struct {
	hello hello
	queue chan []byte
	end   context.CancelFunc
}

// hello is what a page may do, and what it talks to.
type hello struct {
	May     []string `json:"may"`
	Version string   `json:"version"`
}

// deeds are what may be done from a page.
var deeds = []string{"promote", "abort", "rollback", "hold"}

// events streams what there is to see, until the page goes away, does not read, or its session ends.
func (t *site) events(w http.ResponseWriter, r *http.Request, who *session) {
	if t.passes.stream(1) > maxStreams {
		t.passes.stream(-1)
		http.Error(w, "Too many pages are open; close one.", http.StatusServiceUnavailable)
		return
	}
	defer t.passes.stream(-1)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	defer context.AfterFunc(who.life, cancel)()
	st := &stream{hello{[]string{}, t.s.o.Version}, make(chan []byte, maxQueued), cancel}
	if who.mayChange() {
		st.hello.May = deeds
	}
	rc := http.NewResponseController(w)
	// Whoever ends the stream ends a write that its page does not read, too.
	defer context.AfterFunc(ctx, func() { _ = rc.SetWriteDeadline(time.Unix(1, 0)) })()
	select {
	case t.feed.join <- st:
	case <-ctx.Done():
		return
	}
	defer func() {
		cancel()
		select {
		case t.feed.leave <- st:
		case <-t.life.Done():
		}
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		b := []byte(": \n\n")
		select {
		case <-ctx.Done():
			return
		case <-beat.C:
			if look, _ := who.person.May(); !look {
				return
			}
		case b = <-st.queue:
		}
		_ = rc.SetWriteDeadline(time.Now().Add(readTimeout))
		if ctx.Err() != nil { // the deadline above came after that of the end
			return
		}
		if _, err := w.Write(b); err != nil || rc.Flush() != nil {
			return
		}
	}
}
