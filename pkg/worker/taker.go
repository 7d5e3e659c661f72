package worker

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/masterd/masterd/pkg/ipc"
)

const (
	maxTakers = 256 // workers that give to one worker at one time
	maxHeld   = 8   // offers of one giver that are taken and not decided yet
)

// takers serve what other workers give: one for each link.
type takers struct {
	log   *slog.Logger
	doors func(name string) *door
	state func() State
	kinds map[string]*kind // what the program takes itself
	taken atomic.Uint64
	// pending are the offers that this worker has taken or is about to, and that
	// are not decided yet: it must not leave before.
	pending atomic.Int64
	settled func() // called when pending may have become zero

	tasks sync.WaitGroup
	mu    sync.Mutex
	links map[*ipc.Link]struct{} // nil once closed
}

func newTakers(w *Worker, doors func(string) *door) *takers {
	return &takers{
		log: w.log, doors: doors, state: w.State, kinds: w.kinds, settled: w.traffic.look,
		links: make(map[*ipc.Link]struct{}),
	}
}

// add takes from one more worker.
func (t *takers) add(link *ipc.Link, from ipc.Peer) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.links == nil || len(t.links) >= maxTakers {
		link.Close()
		return errors.New("it takes from as many workers as it can already")
	}
	t.links[link] = struct{}{}
	t.tasks.Go(func() {
		k := &taker{takers: t, link: link, from: from, held: make(map[uint64]held)}
		if err := k.run(); err != nil {
			t.log.Warn("worker: no more connections are taken over", "from_worker", from.Worker, "from_generation", from.Generation, "why", err)
		}
		t.mu.Lock()
		delete(t.links, link)
		t.mu.Unlock()
		link.Close()
	})
	return nil
}

// close ends all links and waits for the takers; what they serve is the doors'.
func (t *takers) close() {
	t.mu.Lock()
	for link := range t.links {
		link.Close()
	}
	t.links = nil
	t.mu.Unlock()
	t.tasks.Wait()
}

// taker is the other end of a route; see there.
type taker struct {
	*takers
	link *ipc.Link
	from ipc.Peer
	held map[uint64]held // taken and not decided yet, by the offer's seq
}

// held is what an offer brought.
type held struct {
	offer ipc.Offer
	fds   []int
}

// run ends with the link; nil: the giver has closed it.
func (t *taker) run() error {
	defer func() {
		for seq := range t.held { // not ours: the giver serves on, or has died with them
			closeAll(t.drop(seq).fds)
		}
	}()
	for {
		m, fds, err := t.link.Recv()
		var garbage *ipc.ProtocolError
		switch {
		case errors.As(err, &garbage):
			return err
		case err != nil:
			return nil
		}
		if err := t.follow(m, fds); err != nil {
			return err
		}
	}
}

func (t *taker) follow(m ipc.Message, fds []int) error {
	switch m.Type {
	case ipc.TypeOffer:
		// Counted before the state is looked at: a life that begins to drain
		// either is seen here, or sees that it has to wait.
		t.pending.Add(1)
		if t.state() == StateDraining {
			t.decided()
			closeAll(fds)
			t.answer(ipc.Message{Type: ipc.TypeLater, Seq: m.Seq})
			return nil
		}
		if why := t.look(m); why != nil {
			t.decided()
			closeAll(fds)
			t.answer(ipc.Message{Type: ipc.TypeRefused, Seq: m.Seq, Text: why.Error()})
			return nil
		}
		t.held[m.Seq] = held{*m.Offer, fds}
		t.answer(ipc.Message{Type: ipc.TypeTaken, Seq: m.Seq})
	case ipc.TypeYours:
		if t.held[m.Seq].fds == nil {
			return fmt.Errorf("it gives offer %d, which is not held", m.Seq)
		}
		t.serve(t.held[m.Seq])
		t.drop(m.Seq)
	case ipc.TypeMine: // also of one that was refused
		closeAll(t.drop(m.Seq).fds)
	default:
		closeAll(fds)
		return fmt.Errorf("it sent %q, which is not said on a handover link", m.Type)
	}
	return nil
}

// answer ends nothing when it fails: the giver may have closed the link, and what
// it said before, of earlier offers, is still to be read.
func (t *taker) answer(m ipc.Message) { _ = t.link.Send(m) }

// unlessEnded is nil for what a link says once its other end is closed.
func unlessEnded(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// drop forgets an offer, once it is decided.
func (t *taker) drop(seq uint64) held {
	h, ok := t.held[seq]
	if ok {
		delete(t.held, seq)
		t.decided()
	}
	return h
}

func (t *takers) decided() {
	if t.pending.Add(-1) == 0 {
		t.settled()
	}
}

// look says why an offer cannot be taken; nil: it can.
func (t *taker) look(m ipc.Message) error {
	o := m.Offer
	d := t.door(o.Listener)
	switch k := t.kinds[o.Kind]; {
	case len(t.held) >= maxHeld:
		return fmt.Errorf("%d offers are not decided yet", len(t.held))
	case t.held[m.Seq].fds != nil:
		return fmt.Errorf("offer %d was made already", m.Seq)
	case d == nil:
		return fmt.Errorf("this program does not serve a listener %q", o.Listener)
	case !d.moves():
		return fmt.Errorf("connections of listener %q cannot be taken over here: TLS, or a server of its own", o.Listener)
	case o.Kind == "":
	case k == nil:
		return fmt.Errorf("this program receives no connections of kind %q", o.Kind)
	case !slices.Contains(k.versions, o.Version):
		return fmt.Errorf("this program does not understand version %d of what %q connections bring, only %v", o.Version, o.Kind, k.versions)
	}
	return nil
}

// door is the one of a listener that the giver may call otherwise.
func (t *taker) door(name string) *door { return t.doors(cmp.Or(t.from.Names[name], name)) }

// serve makes the connections the worker's own.
func (t *taker) serve(h held) {
	t.taken.Add(uint64(len(h.fds)))
	d := t.door(h.offer.Listener)
	for _, fd := range h.fds {
		c, err := connOf(fd)
		if err != nil {
			t.log.Error("worker: a connection that was handed over cannot be served", "from_worker", t.from.Worker, "error", err)
			continue
		}
		if h.offer.Kind == "" {
			d.linger(d.adopt(c))
		} else {
			d.receive(t.kinds[h.offer.Kind], d.adopt(c), h.offer)
		}
	}
}
