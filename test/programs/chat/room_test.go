package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/gobwas/ws"

	"github.com/masterd/masterd/pkg/worker"
)

// side is a version of the program as far as the room goes: in one process with
// the other, with what the worker does done by hand.
type side struct {
	*chat
	t       *testing.T
	other   *side
	members *sync.WaitGroup
	refuse  bool

	mu      sync.Mutex
	leave   chan struct{}
	running context.CancelFunc
	ended   chan struct{}
}

func sides(t *testing.T) (a, b *side) {
	store, members := &pocket{}, new(sync.WaitGroup)
	one := func() *side {
		s := &side{t: t, members: members, leave: make(chan struct{})}
		close(s.leave)
		s.chat = &chat{room: newRoom(store, func(context.Context) <-chan struct{} {
			s.mu.Lock()
			defer s.mu.Unlock()
			return s.leave
		})}
		s.handOff = func(_ context.Context, conn net.Conn, p worker.Parcel) error {
			if s.refuse {
				return &worker.RefusedError{Reason: "on purpose"}
			}
			if len(p.State)+len(p.Unread) > worker.MaxParcel {
				t.Errorf("a parcel of %d and %d bytes", len(p.State), len(p.Unread))
			}
			m := &member{chat: s.other.chat, conn: &unread{conn.(halfConn), p.Unread}, kind: p.Kind}
			if u, ok := conn.(*unread); ok {
				m.conn = &unread{u.halfConn, append(p.Unread[:len(p.Unread):len(p.Unread)], u.first...)}
			}
			if err := m.unpack(p.State); err != nil {
				t.Error(err)
			}
			members.Go(func() { m.serve(context.Background()) })
			return nil
		}
		return s
	}
	a, b = one(), one()
	a.other, b.other = b, a
	return a, b
}

type halfConn interface {
	net.Conn
	CloseWrite() error
}

// unread is what a connection is to its receiver.
type unread struct {
	halfConn
	first []byte
}

func (u *unread) Read(p []byte) (int, error) {
	if len(u.first) > 0 {
		n := copy(p, u.first)
		u.first = u.first[n:]
		return n, nil
	}
	return u.halfConn.Read(p)
}

// activate is what happens to a worker that gets the traffic, but for the wait
// for the one before.
func (s *side) activate() {
	s.mu.Lock()
	s.leave = make(chan struct{})
	s.mu.Unlock()
}

func (s *side) work() {
	ctx, cancel := context.WithCancel(context.Background())
	s.running, s.ended = cancel, make(chan struct{})
	go func() { defer close(s.ended); s.room.run(ctx) }()
}

func (s *side) park() {
	close(s.leave)
	s.running()
	<-s.ended
}

// switchOver gives the traffic, and then the room, to the other.
func (s *side) switchOver() *side {
	s.other.activate()
	s.park()
	s.other.work()
	return s.other
}

// join is a client's connection that a side serves.
func (s *side) join(kind string, buffer int) net.Conn {
	s.t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer ln.Close()
	client, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	served, err := ln.Accept()
	if err != nil {
		s.t.Fatal(err)
	}
	if buffer > 0 {
		served.(*net.TCPConn).SetWriteBuffer(buffer)
		client.(*net.TCPConn).SetReadBuffer(buffer)
	}
	client.SetDeadline(time.Now().Add(2 * patience))
	m := &member{chat: s.chat, conn: served, kind: kind}
	s.members.Go(func() { m.serve(context.Background()) })
	s.t.Cleanup(func() { client.Close(); served.Close() })
	return client
}

// TestMembersLiveThroughSwitches has members that send in pieces, fragments and
// pings between them, while the room goes to and fro.
func TestMembersLiveThroughSwitches(t *testing.T) {
	const senders, watchers, each, switches = 6, 3, 150, 100
	a, _ := sides(t)
	a.activate()
	a.work()
	var all sync.WaitGroup
	for i := range senders {
		c := a.join(kindChat, 0)
		all.Go(func() { send(t, c, fmt.Sprint("s", i), each, rand.New(rand.NewPCG(1, uint64(i)))) })
		all.Go(func() { wantAll(t, fmt.Sprint("s", i), posts(c), senders, each) })
	}
	for i := range watchers {
		c := a.join(kindEvents, 0)
		all.Go(func() { wantAll(t, fmt.Sprint("e", i), events(c), senders, each) })
	}
	now := a
	for range switches {
		time.Sleep(time.Duration(rand.IntN(4)) * time.Millisecond) // any moment will do
		now = now.switchOver()
	}
	all.Wait()
	now.park()
}

func send(t *testing.T, c net.Conn, name string, each int, r *rand.Rand) {
	for n := range each {
		text := []byte(fmt.Sprint(name, " ", n, " ", strings.Repeat("x", r.IntN(300))))
		cut := r.IntN(len(text))
		f := ws.NewFrame(ws.OpText, false, text[:cut:cut])
		end := ws.NewFrame(ws.OpContinuation, true, text[cut:])
		var out []byte
		for _, f := range []ws.Frame{f, ws.NewPingFrame([]byte("still there?")), end} {
			b, err := ws.CompileFrame(ws.MaskFrame(f))
			if err != nil {
				t.Error(err)
				return
			}
			out = append(out, b...)
		}
		for len(out) > 0 {
			k := 1 + r.IntN(len(out))
			if _, err := c.Write(out[:k]); err != nil {
				t.Errorf("%s: sending: %v", name, err)
				return
			}
			out = out[k:]
			if r.IntN(4) == 0 {
				time.Sleep(time.Millisecond)
			}
		}
	}
}

// posts are the texts that a WebSocket gets; the end of them is an error's text.
func posts(c net.Conn) func() (post, error) {
	in := bufio.NewReader(c)
	return func() (post, error) {
		for {
			head, err := ws.ReadHeader(in)
			if err != nil {
				return post{}, err
			}
			payload := make([]byte, head.Length)
			if _, err := io.ReadFull(in, payload); err != nil {
				return post{}, err
			}
			switch head.OpCode {
			case ws.OpText:
				var p post
				return p, json.Unmarshal(payload, &p)
			case ws.OpClose:
				code, why := ws.ParseCloseFrameData(payload)
				return post{}, fmt.Errorf("closed %d %s", code, why)
			}
		}
	}
}

func events(c net.Conn) func() (post, error) {
	in := bufio.NewReader(c)
	return func() (p post, err error) {
		for {
			line, err := in.ReadString('\n')
			if err != nil {
				return p, err
			}
			switch {
			case strings.HasPrefix(line, "id: "):
				fmt.Sscan(line[4:], &p.Seq)
			case strings.HasPrefix(line, "data: "):
				p.Text = strings.TrimSuffix(line[6:], "\n")
			case strings.HasPrefix(line, "retry: "), strings.HasPrefix(line, "event: "):
				return p, fmt.Errorf("%q", line)
			case line == "\n" && p.Seq > 0:
				return p, nil
			}
		}
	}
}

// wantAll wants every message once, in its sender's order.
func wantAll(t *testing.T, name string, next func() (post, error), senders, each int) {
	seen := map[string]int{}
	for n := range senders * each {
		p, err := next()
		if err != nil {
			t.Errorf("%s: after %d messages: %v", name, n, err)
			return
		}
		var from string
		var number int
		fmt.Sscan(p.Text, &from, &number)
		if p.Seq != uint64(n)+1 || number != seen[from] {
			t.Errorf("%s: message %d has number %d and is %s's %d, want %d", name, n+1, p.Seq, from, number, seen[from])
			return
		}
		seen[from]++
	}
}

// A client that takes nothing has half of a message when the room goes.
func TestASlowMemberGetsTheOtherHalf(t *testing.T) {
	a, _ := sides(t)
	a.activate()
	a.work()
	const messages = 200
	c := a.join(kindChat, 4<<10)
	eventually(t, "the room is open", func() bool { _, open := a.room.now(); return open })
	for i := range messages {
		if err := a.room.say(t.Context(), fmt.Sprint("s0 ", i, " ", strings.Repeat("y", 1800))); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are kept", func() bool { last, _ := a.room.now(); return last == messages })
	now := a
	next := posts(c)
	for i := range messages {
		if i%10 == 0 {
			now = now.switchOver()
		}
		if p, err := next(); err != nil || p.Seq != uint64(i)+1 {
			t.Fatalf("message %d: %d, %v", i+1, p.Seq, err)
		}
	}
	now.park()
}

// What is refused is told so politely, and misses nothing when it comes again.
func TestRefusedMembersComeBack(t *testing.T) {
	a, b := sides(t)
	a.activate()
	a.work()
	chat, ev := a.join(kindChat, 0), a.join(kindEvents, 0)
	eventually(t, "the room is open", func() bool { _, open := a.room.now(); return open })
	a.room.say(t.Context(), "s0 0")
	nextPost, nextEvent := posts(chat), events(ev)
	for _, next := range []func() (post, error){nextPost, nextEvent} {
		if p, err := next(); err != nil || p.Text != "s0 0" {
			t.Fatal(p, err)
		}
	}
	a.refuse = true
	a.switchOver()
	if _, err := nextPost(); err == nil || !strings.HasPrefix(err.Error(), "closed 1001") {
		t.Error(err)
	}
	if _, err := nextEvent(); err == nil || !strings.Contains(err.Error(), "retry: ") {
		t.Error(err)
	}
	chat.Close()
	ev.Close()
	eventually(t, "the room is open", func() bool { _, open := b.room.now(); return open })
	b.room.say(t.Context(), "s0 1")
	again := b.join(kindEvents, 0) // from the beginning: its number is 0
	next := events(again)
	for i := range 2 {
		if p, err := next(); err != nil || p.Seq != uint64(i)+1 {
			t.Fatal(p, err)
		}
	}
	b.park()
}

// The log forgets its oldest, and who would have needed them is told.
func TestTheLogForgets(t *testing.T) {
	a, _ := sides(t)
	a.activate()
	a.work()
	eventually(t, "the room is open", func() bool { _, open := a.room.now(); return open })
	for range maxLog + 100 {
		if err := a.room.say(t.Context(), "s0 0"); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "all are kept", func() bool { last, _ := a.room.now(); return last == maxLog+100 })
	in := bufio.NewReader(a.join(kindEvents, 0))
	got, err := in.ReadString('\n')
	if err != nil || got != "event: missed\n" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err = in.ReadString('\n'); got != "id: 100\n" {
		t.Errorf("%q, %v", got, err)
	}
	a.park()
}

// A hostile client costs itself its connection.
func TestBadFrames(t *testing.T) {
	for name, bytes := range map[string][]byte{
		"not masked": ws.MustCompileFrame(ws.NewTextFrame([]byte("x"))),
		"too large":  ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame(make([]byte, maxMessage+1)))),
		"huge":       {0x81, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0},
		"no start":   ws.MustCompileFrame(ws.MaskFrame(ws.NewFrame(ws.OpContinuation, true, nil))),
		"not a text": ws.MustCompileFrame(ws.MaskFrame(ws.NewTextFrame([]byte{0xff}))),
	} {
		a, _ := sides(t)
		a.activate()
		a.work()
		c := a.join(kindChat, 0)
		c.Write(bytes)
		if _, err := posts(c)(); err == nil || !strings.HasPrefix(err.Error(), "closed 100") {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
		a.members.Wait()
		a.park()
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("waiting for %s: not within %v", what, patience)
		}
	}
}

// pocket keeps the log in this process.
type pocket struct{ log []byte }

func (p *pocket) save(_ context.Context, log []byte) error { p.log = log; return nil }
func (p *pocket) load(context.Context) ([]byte, error)     { return p.log, nil }
