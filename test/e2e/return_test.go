package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// returnAfter is a client's pause before it comes back.
const returnAfter = 20 * time.Millisecond

// A version that does not understand where members were refuses them. They are
// told to come back, as each protocol does, and miss nothing.
func TestRefusedMembersComeBack(t *testing.T) {
	besideOthers(t)
	s := chatting(t, nil)
	next(t, s, 1, "baked")
	const talkers, listeners = 4, 4
	r := gather(t, s, talkers, listeners)
	refused := 0
	for i, state := range []string{"2", "0", "1", "2"} { // another form, none at all, and back
		r.more(20)
		s.Config.Set("worker.env.CHAT_STATE", state).Set("rollout.bake", "200ms")
		until := "baked"
		if i == 3 { // and both ways between two processes
			s.Config.Set("rollout.bake", "1m")
			until = "serving"
		}
		next(t, s, i+2, until)
		refused++
	}
	r.more(20)
	back(t, s, "")
	refused++
	r.more(20)
	total := r.end()
	if got, want := r.polite.Load(), int64(refused*(talkers+listeners)); got != want || r.abrupt.Load() != 0 {
		t.Errorf("%d connections ended politely, wanted %d; %d in another way", got, want, r.abrupt.Load())
	}
	t.Logf("%d times %d members were refused: all were told, came back, and heard %d messages, each once and in order", refused, talkers+listeners, total)
}

// A worker that dies takes its members' connections with it. They come back and
// miss nothing that anybody has heard, and what they say is heard once.
func TestMembersOfKilledWorkerComeBack(t *testing.T) {
	besideOthers(t)
	s := chatting(t, func(c service.Config) { c.Set("restart.loop", 100).Set("restart.max", "100ms") })
	const talkers, listeners = 4, 4
	r := gather(t, s, talkers, listeners)
	n := times(20, 2)
	for range n {
		r.more(20)
		pid, err := s.Worker(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		wait(t, s, "another worker", func(st api.Status) bool {
			team := team(st)
			return manned(1)(st) && team[0].PID != pid
		})
	}
	r.more(20)
	total := r.end()
	if got, want := r.abrupt.Load(), int64(n*(talkers+listeners)); got < want {
		t.Errorf("only %d connections broke, with %d members and %d workers killed", got, talkers+listeners, n)
	}
	t.Logf("%d workers killed under %d members: all came back and heard %d messages, each once and in order; %d connections broke, %d ended politely",
		n, talkers+listeners, total, r.abrupt.Load(), r.polite.Load())
}

// A version that dies while members are handed to it takes with it those that it
// has. They come back to the version before, the others have never left it.
func TestMembersOutliveKilledSuccessor(t *testing.T) {
	besideOthers(t)
	s := chatting(t, func(c service.Config) { c.Set("rollout.bake", "5m") })
	const talkers = 4
	listeners := times(400, 100)
	r := gather(t, s, talkers, listeners)
	n := times(20, 2)
	for i := 2; i <= n+1; i++ {
		r.more(20)
		s.Config.Set("worker.env.RELEASE", label(i))
		if err := s.Write(); err != nil {
			t.Fatal(err)
		}
		reloaded := make(chan error, 1)
		go func() {
			_, err := s.API.Reload(t.Context(), api.ReloadRequest{Label: label(i), Until: "baked"}, nil)
			reloaded <- err
		}()
		taker := candidate(t, s, label(i))
		for part := 20 + i*listeners/(n+4); ; { // it is in the middle once it has a part of them
			held, err := descriptors(taker)
			if err != nil {
				t.Fatal(err)
			}
			if held >= part {
				break
			}
			time.Sleep(moment)
		}
		if err := syscall.Kill(taker, syscall.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := <-reloaded; err != nil {
			t.Fatal(err)
		}
		wait(t, s, "the version before to serve", func(st api.Status) bool {
			return st.State == "serving" && working(st) == 1 && st.Active.Version.Label != label(i)
		})
		r.more(5)
	}
	r.more(20)
	total := r.end()
	if r.abrupt.Load() == 0 {
		t.Error("no connection broke: none was killed in the middle")
	}
	if n := r.polite.Load(); n != 0 {
		t.Errorf("%d connections were ended by the version that had the traffic again", n)
	}
	t.Logf("%d successors killed among %d members: all heard %d messages, each once and in order; %d connections broke, no other ended",
		n, talkers+listeners, total, r.abrupt.Load())
}

// regulars are clients that come back to the room whenever their connection
// ends. Each must hear the room's messages by their numbers, without a gap.
type regulars struct {
	t      *testing.T
	addr   string
	ctx    context.Context
	cancel context.CancelFunc
	tasks  sync.WaitGroup
	crowd  []*regular
	quiet  chan struct{} // closed when the talkers shall say no more
	talk   sync.WaitGroup

	polite, abrupt atomic.Int64 // ends of connections; those that could not be made are abrupt
}

// regular is one of them. Its listen owns last and wanted.
type regular struct {
	*regulars
	name   string
	number int // of a talker; -1: it only listens
	enter  func(ctx context.Context, addr string, after uint64) (*guest, error)
	last   uint64
	wanted map[int]int  // the next number of each talker
	heard  atomic.Int64 // talkers' messages
	came   chan *visit  // its connections
	own    chan string  // what it hears of itself
	said   atomic.Int64 // messages that it has heard itself
	at     *visit       // of speak
	asked  int          // of speak
}

// visit is one connection of a regular.
type visit struct {
	*guest
	ended chan struct{}
}

func gather(t *testing.T, s *service.Service, talkers, listeners int) *regulars {
	t.Helper()
	r := &regulars{t: t, addr: s.Addr, quiet: make(chan struct{})}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	t.Cleanup(func() { r.cancel(); r.tasks.Wait() })
	for i := range talkers + listeners {
		g := &regular{regulars: r, name: fmt.Sprintf("talker %d", i), number: i, enter: enterSocket,
			wanted: map[int]int{}, came: make(chan *visit, 1), own: make(chan string, 1024)}
		if i >= talkers {
			g.name, g.number, g.enter = fmt.Sprintf("listener %d", i-talkers), -1, enterEvents
		}
		r.crowd = append(r.crowd, g)
		r.tasks.Go(g.attend)
		if i < talkers {
			r.talk.Go(g.speak)
		}
	}
	return r
}

// more waits until every talker has said so many more and all have heard them.
func (r *regulars) more(n int64) {
	r.t.Helper()
	goals := map[*regular]int64{}
	for _, g := range r.crowd {
		if g.number >= 0 {
			goals[g] = g.said.Load() + n
		}
	}
	for g, goal := range goals {
		eventually(r.t, fmt.Sprintf("%s to say %d messages", g.name, goal), func() bool { return g.said.Load() >= goal })
	}
	r.listened()
}

// listened waits until all have heard what the talkers know to be said.
func (r *regulars) listened() (said int64) {
	r.t.Helper()
	for _, g := range r.crowd {
		said += g.said.Load()
	}
	for _, g := range r.crowd {
		eventually(r.t, fmt.Sprintf("%s to hear %d messages", g.name, said), func() bool { return g.heard.Load() >= said })
	}
	return said
}

// end has the talkers finish and everybody hear all that was said.
func (r *regulars) end() (said int64) {
	r.t.Helper()
	close(r.quiet)
	r.talk.Wait()
	said = r.listened()
	r.cancel()
	r.tasks.Wait()
	for _, g := range r.crowd {
		if n := g.heard.Load(); n != said {
			r.t.Errorf("%s has heard %d messages, %d were said", g.name, n, said)
		}
	}
	return said
}

// attend comes again and again.
func (g *regular) attend() {
	for g.ctx.Err() == nil {
		conn, err := g.enter(g.ctx, g.addr, g.last)
		if err != nil {
			if g.ctx.Err() == nil {
				g.abrupt.Add(1)
				time.Sleep(returnAfter)
			}
			continue
		}
		v := &visit{guest: conn, ended: make(chan struct{})}
		stop := context.AfterFunc(g.ctx, func() { conn.conn.Close() })
		if g.number >= 0 {
			select {
			case <-g.came: // one that nobody has looked at
			default:
			}
			g.came <- v
		}
		err = g.hear(v)
		stop()
		conn.conn.Close()
		close(v.ended)
		switch {
		case g.ctx.Err() != nil:
		case errors.Is(err, errGoodbye):
			g.polite.Add(1)
		case broken(err):
			g.abrupt.Add(1)
		default:
			g.t.Errorf("%s, after message %d: %v", g.name, g.last, err)
			g.cancel()
		}
		time.Sleep(returnAfter)
	}
}

// broken is the end of a connection without a word.
func broken(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, net.ErrClosed)
}

// hear wants one message after the other, and each talker's in order.
func (g *regular) hear(v *visit) error {
	for {
		p, err := v.next()
		switch {
		case err != nil:
			return err
		case p.Seq != g.last+1:
			return fmt.Errorf("heard message %d, %q", p.Seq, p.Text)
		}
		g.last++
		var from, n int
		if _, err := fmt.Sscanf(p.Text, "%d says %d", &from, &n); err == nil {
			if n != g.wanted[from] {
				return fmt.Errorf("heard %q, wanted number %d of %d", p.Text, g.wanted[from], from)
			}
			g.wanted[from]++
			g.heard.Add(1)
		} else if _, err := fmt.Sscanf(p.Text, "%d asks %d", &from, &n); err != nil {
			return fmt.Errorf("heard %q: %w", p.Text, err)
		}
		if from == g.number {
			g.own <- p.Text
		}
	}
}

// speak says one message after the other, each once it has heard the one before.
func (g *regular) speak() {
	if !g.renew() {
		return
	}
	for n := 0; ; n++ {
		select {
		case <-g.quiet:
			return
		default:
		}
		if !g.say(fmt.Sprintf("%d says %d", g.number, n)) {
			return
		}
		g.said.Add(1)
	}
}

// say has the room hear a text once. When the connection ends meanwhile nobody
// tells whether the room has it. Then the talker asks something on its next one:
// what the room had before, it hears before that.
func (g *regular) say(text string) bool {
	for {
		if whole, _ := g.until(text, text); whole {
			return true
		}
		for again := false; !again; {
			if !g.renew() {
				return false
			}
			g.asked++
			var heard bool
			if again, heard = g.until(fmt.Sprintf("%d asks %d", g.number, g.asked), text); heard {
				return true
			}
		}
	}
}

// renew waits for the talker's next connection; false: the test is over.
func (g *regular) renew() bool {
	select {
	case g.at = <-g.came:
		return true
	case <-g.ctx.Done():
		return false
	}
}

// until says a text and waits for it to come back; whole: it has. heard is told
// of the other text, which may come meanwhile.
func (g *regular) until(text, other string) (whole, heard bool) {
	_ = g.at.say(text) // its failure is the connection's end
	for {
		ended := g.at.ended
		if len(g.own) > 0 {
			ended = nil // what was heard on it comes first
		}
		select {
		case own := <-g.own:
			heard = heard || own == other
			if own == text {
				return true, heard
			}
		case <-ended:
			if len(g.own) == 0 {
				return false, heard
			}
		case <-g.ctx.Done():
			return false, heard
		}
	}
}
