package main

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/gin-gonic/gin"
	"github.com/gobwas/ws"

	"github.com/masterd/masterd/pkg/worker"
)

const (
	kindChat     = "chat"   // a WebSocket of the room
	kindEvents   = "events" // Server-Sent Events of the room
	stateVersion = 1        // of what member.pack makes

	batchSize  = 4 << 10          // bytes that are enough for one write; one message may be more
	readSize   = 4 << 10          // bytes of one read
	writeWait  = 30 * time.Second // for a client that takes nothing
	byeWait    = 2 * time.Second  // for a goodbye to be taken, and again for its answer
	retryAfter = 100              // milliseconds, for a client of events to come again
)

// chat is the room with its doors: what it needs of the worker.
type chat struct {
	w    *worker.Worker
	room *room
	// version of what members bring along; zero: they are not taken
	state   int
	handOff func(context.Context, net.Conn, worker.Parcel) error // the worker's
}

func newChat(w *worker.Worker, k keep, state int) *chat {
	return &chat{w: w, room: newRoom(k, worker.Leaving), state: state, handOff: w.HandOff}
}

// install adds the routes, and takes members that come from other versions.
func (c *chat) install(r *gin.Engine) {
	r.GET("/chat", c.socket)
	r.GET("/events", c.events)
	c.w.OnActive(c.room.run)
	if c.state == 0 {
		return
	}
	for _, kind := range []string{kindChat, kindEvents} {
		c.w.Receive(kind, []int{c.state}, func(ctx context.Context, conn net.Conn, p worker.Parcel) {
			m := &member{chat: c, conn: conn, kind: p.Kind}
			if err := m.unpack(p.State); err != nil {
				slog.Error("chat: a member that was handed off cannot be served", "error", err)
				m.goodbye("the worker does not understand where it was")
				return
			}
			m.serve(ctx)
		})
	}
}

// socket is GET /chat?after=SEQ: a WebSocket that sends and gets messages.
func (c *chat) socket(g *gin.Context) {
	m, ok := c.enter(g, kindChat, g.Query("after"))
	if !ok {
		return
	}
	conn, rw, _, err := ws.UpgradeHTTP(g.Request, g.Writer)
	if err != nil {
		if conn != nil {
			conn.Close() // it has answered
		}
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	m.conn = conn
	first, _ := rw.Reader.Peek(rw.Reader.Buffered())
	m.in.raw = slices.Clone(first)
	m.serve(g.Request.Context())
}

// events is GET /events: the messages as Server-Sent Events, from the last event
// id on. Browsers come again by themselves, with the last id that they have seen.
func (c *chat) events(g *gin.Context) {
	m, ok := c.enter(g, kindEvents, g.GetHeader("Last-Event-ID"))
	if !ok {
		return
	}
	h := g.Writer.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store")
	if g.Request.ProtoMajor != 1 {
		m.stream(g)
		return
	}
	conn, _, err := http.NewResponseController(g.Writer).Hijack()
	if err != nil {
		g.String(http.StatusInternalServerError, "the connection cannot be taken over: %v", err)
		return
	}
	defer conn.Close()
	conn.SetDeadline(time.Time{})
	// What was hijacked has no head yet. Its end is the connection's.
	h.Set("Connection", "close")
	var head strings.Builder
	head.WriteString("HTTP/1.1 200 OK\r\n")
	h.Write(&head)
	head.WriteString("\r\n")
	m.conn, m.rest = conn, []byte(head.String())
	m.serve(g.Request.Context())
}

// enter finds the place of a member that comes: after a number, else now.
func (c *chat) enter(g *gin.Context, kind, after string) (*member, bool) {
	var seen uint64
	if after != "" {
		var err error
		if seen, err = strconv.ParseUint(after, 10, 64); err != nil {
			g.String(http.StatusBadRequest, "%q is no message's number", after)
			return nil, false
		}
	}
	if c.room.place(g.Request.Context()) == nowhere {
		g.Header("Retry-After", "1")
		g.String(http.StatusServiceUnavailable, "the room is closed")
		return nil, false
	}
	if after == "" {
		seen, _ = c.room.now()
	}
	return &member{chat: c, kind: kind, seen: seen}, true
}

// member is one connection of the room. Its serve owns it, but for in, which is
// the reader's while that runs.
type member struct {
	*chat
	conn net.Conn
	kind string
	in   frames // of a WebSocket
	seen uint64 // the last message that is sent, or is in rest
	rest []byte // what is being sent: a client that is slow may have half of it
}

// pack is the state that travels: seen, then rest. That and what in has left are
// less than worker.MaxParcel: rest is a batch and a message of which JSON has
// made six times as much, and in is a message, its headers, and one read.
func (m *member) pack() []byte {
	return append(binary.BigEndian.AppendUint64(nil, m.seen), m.rest...)
}

func (m *member) unpack(b []byte) error {
	if len(b) < 8 {
		return fmt.Errorf("the state of a %s connection has %d bytes, it must have 8 or more", m.kind, len(b))
	}
	m.seen, m.rest = binary.BigEndian.Uint64(b), slices.Clone(b[8:])
	return nil
}

// serve serves the member wherever the room is: here, else in the worker that
// has it next.
func (m *member) serve(ctx context.Context) {
	for {
		switch m.room.place(ctx) {
		case here:
			err := m.attend(ctx)
			var c *closed
			switch {
			case errors.As(err, &c):
				m.bye(c.code, c.why.Error())
				return
			case !errors.Is(err, errFrozen):
				return
			}
		case away:
			err := m.handOff(context.Background(), m.conn, worker.Parcel{
				Kind: m.kind, Version: m.state, State: m.pack(), Unread: m.in.raw})
			if err == nil {
				return
			}
			if errors.Is(err, worker.ErrStays) {
				continue // the traffic has come back meanwhile, and the room will
			}
			slog.Info("chat: a member has to come back by itself", "kind", m.kind, "why", err)
			m.goodbye("the worker is leaving")
			return
		case nowhere:
			m.goodbye("the room is closed")
			return
		}
	}
}

// attend sends and reads until the room freezes (errFrozen) or the client has
// gone. Then nothing of it runs any more.
func (m *member) attend(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	control := make(chan []byte, 1) // an answer to a control frame: to the last, if there are many
	froze, heard := false, error(nil)
	var helpers sync.WaitGroup
	helpers.Go(func() { // ends waits at the connection
		froze = m.room.frozen(ctx)
		m.conn.SetDeadline(time.Unix(1, 0))
	})
	helpers.Go(func() {
		heard = m.listen(ctx, control)
		cancel(heard)
	})
	cancel(m.tell(ctx, control))
	helpers.Wait()
	m.conn.SetDeadline(time.Time{})
	select {
	case b := <-control:
		m.rest = append(m.rest, b...)
	default:
	}
	var c *closed
	why := context.Cause(ctx)
	switch {
	case errors.As(heard, &c): // it would not be said again to the next version
		return heard
	case froze && (errors.Is(why, errFrozen) || errors.Is(why, os.ErrDeadlineExceeded)):
		return errFrozen
	}
	return why
}

// tell sends what the room has, and answers to control frames.
func (m *member) tell(ctx context.Context, control <-chan []byte) error {
	for {
		for len(m.rest) > 0 {
			m.conn.SetWriteDeadline(time.Now().Add(writeWait))
			// Looked at after the deadline is set: who freezes sets it anew.
			if _, open := m.room.now(); !open {
				return errFrozen
			}
			n, err := m.conn.Write(m.rest)
			m.rest = m.rest[n:]
			if err != nil {
				return err
			}
		}
		posts, missed, more, err := m.room.after(m.seen)
		switch {
		case err != nil:
			return err
		case missed:
			m.skip(posts)
			continue
		}
		for _, p := range posts {
			if m.rest = append(m.rest, m.encode(p)...); len(m.rest) >= batchSize {
				m.seen = p.Seq
				break
			}
			m.seen = p.Seq
		}
		if len(m.rest) > 0 {
			continue
		}
		select {
		case <-more:
		case b := <-control:
			m.rest = append(m.rest, b...)
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// skip tells the client that it has missed messages, and goes on with the oldest.
func (m *member) skip(posts []post) {
	m.seen = 0
	if len(posts) > 0 {
		m.seen = posts[0].Seq - 1
	}
	if m.kind == kindChat {
		m.rest = append(m.rest, frame(ws.OpText, fmt.Appendf(nil, `{"missed":true,"seq":%d}`, m.seen))...)
		return
	}
	m.rest = fmt.Appendf(m.rest, "event: missed\nid: %d\ndata: the room has forgotten some\n\n", m.seen)
}

func (m *member) encode(p post) []byte {
	if m.kind == kindChat {
		b, _ := json.Marshal(p) // a number and a text: it cannot fail
		return frame(ws.OpText, b)
	}
	b := fmt.Appendf(nil, "id: %d\n", p.Seq)
	for _, line := range strings.Split(strings.ReplaceAll(p.Text, "\r", "\n"), "\n") {
		b = fmt.Appendf(b, "data: %s\n", line)
	}
	return append(b, '\n')
}

// listen reads until the client has gone or the room freezes. What it has not
// used stays in m.in.
func (m *member) listen(ctx context.Context, control chan []byte) error {
	chunk := make([]byte, readSize)
	for {
		if m.kind == kindChat {
			if err := m.hear(ctx, control); err != nil {
				return err
			}
		}
		n, err := m.conn.Read(chunk)
		if m.kind == kindChat {
			m.in.raw = append(m.in.raw, chunk[:n]...)
		}
		if err != nil {
			return err
		}
	}
}

// hear takes what is whole.
func (m *member) hear(ctx context.Context, control chan []byte) error {
	for {
		op, payload, used, ok, err := m.in.next()
		switch {
		case err != nil:
			return m.closing(ws.StatusProtocolError, err)
		case !ok:
			return nil
		case op == ws.OpClose:
			return m.closing(ws.StatusNormalClosure, io.EOF)
		case op == ws.OpPing:
			select {
			case <-control:
			default:
			}
			control <- frame(ws.OpPong, payload)
		case op == ws.OpPong:
		case op != ws.OpText || !utf8.Valid(payload):
			return m.closing(ws.StatusUnsupportedData, errors.New("not a text"))
		default:
			if err := m.room.say(ctx, string(payload)); err != nil {
				return err
			}
			used()
		}
	}
}

// closed ends a WebSocket with a code.
type closed struct {
	code ws.StatusCode
	why  error
}

func (c *closed) Error() string { return c.why.Error() }

func (m *member) closing(code ws.StatusCode, why error) error { return &closed{code, why} }

// goodbye ends the connection the protocol's polite way: after what is being
// sent, and so that the client's own bytes do not reset it before it is read.
func (m *member) goodbye(why string) {
	if m.kind == kindChat {
		m.bye(ws.StatusGoingAway, why)
		return
	}
	m.finish(fmt.Appendf(nil, "retry: %d\n\n", retryAfter))
}

func (m *member) bye(code ws.StatusCode, why string) {
	m.finish(frame(ws.OpClose, ws.NewCloseFrameBody(code, why)))
}

func (m *member) finish(last []byte) {
	m.conn.SetDeadline(time.Now().Add(byeWait))
	if _, err := m.conn.Write(append(m.rest, last...)); err != nil {
		return
	}
	if c, ok := m.conn.(interface{ CloseWrite() error }); ok && c.CloseWrite() == nil {
		m.conn.SetReadDeadline(time.Now().Add(byeWait))
		io.Copy(io.Discard, io.LimitReader(m.conn, 1<<20))
	}
}

// stream is events over HTTP/2, whose connection cannot move.
func (m *member) stream(g *gin.Context) {
	leaving := worker.Leaving(g.Request.Context())
	for {
		posts, missed, more, err := m.room.after(m.seen)
		if missed {
			m.skip(posts)
			continue
		}
		for _, p := range posts {
			m.rest = append(m.rest, m.encode(p)...)
			m.seen = p.Seq
		}
		if err != nil {
			m.rest = fmt.Appendf(m.rest, "retry: %d\n\n", retryAfter)
		}
		if _, werr := g.Writer.Write(m.rest); err != nil || werr != nil {
			return
		}
		m.rest = m.rest[:0]
		g.Writer.Flush()
		select {
		case <-more:
		case <-leaving:
			fmt.Fprintf(g.Writer, "retry: %d\n\n", retryAfter)
			return
		case <-g.Request.Context().Done():
			return
		}
	}
}
