package worker

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
)

const (
	maxOffers  = 2                      // offers on one route that are not decided yet
	stallAfter = 500 * time.Millisecond // without an answer, what was offered is served here again
)

// route is the way to one other worker. Its connections are in one of two
// hands at any time, and both sides know in whose:
//
//	giver                     taker
//	  ├─ offer [fds] ──────────▶│ has them, serves them not
//	  │◀──────────────── taken ─┤ could serve them
//	  ├─ yours ────────────────▶│ serves them
//
// Until "yours" is sent the giver can change its mind at any moment, says
// "mine" and serves on; so it need not wait for a taker that was stopped. A
// taker that sees the end of the link without "yours" closes what it has, which
// ends nothing. So no connection is ever served by both, and none by nobody
// unless the taker dies with what it had been given.
type route struct {
	handover *handover
	link     *ipc.Link
	to       ipc.Peer
	heard    chan ipc.Message // closed with the link's end
	ending   chan struct{}

	// Of run alone.
	seq    uint64
	offers []*offer // not answered yet, oldest first
	next   *request // pulled, but of another kind than the offer that was being filled
	later  bool     // the other side leaves itself: nothing is offered any more

	// Guarded by the handover's mu.
	ended   bool
	stalled bool            // pulls nothing until what was offered is answered
	refuses map[string]bool // listeners of which it takes nothing
}

// offer is what one message has brought.
type offer struct {
	seq      uint64
	requests []*request
	at       time.Time
	mine     bool // taken back: its answer means nothing
}

func newRoute(h *handover, link *ipc.Link, to ipc.Peer) *route {
	return &route{
		handover: h, link: link, to: to,
		heard: make(chan ipc.Message), ending: make(chan struct{}), refuses: map[string]bool{},
	}
}

// end has run end. The handover's mu is held.
func (r *route) end() {
	if !r.ended {
		r.ended = true
		close(r.ending)
	}
}

func (r *route) run() {
	go r.read()
	why := unlessEnded(r.follow())
	r.takeBack()
	r.handover.left(r)
	r.link.Close()
	for range r.heard { // until the reader has ended
	}
	if why != nil {
		r.handover.log.Warn("worker: no more connections are handed over", "to_worker", r.to.Worker, "to_generation", r.to.Generation, "why", why)
	}
}

func (r *route) read() {
	defer close(r.heard)
	for {
		m, fds, err := r.link.Recv()
		closeAll(fds)
		if err != nil {
			return
		}
		r.heard <- m
	}
}

// follow offers and hears answers until the route ends; nil: because it was
// told to, or the other worker has gone.
func (r *route) follow() error {
	stall := time.NewTimer(stallAfter)
	defer stall.Stop()
	for {
		if len(r.offers) < maxOffers && r.next != nil {
			if err := r.offer(); err != nil {
				return err
			}
			continue
		}
		var pull <-chan *request
		if len(r.offers) < maxOffers && !r.stalled { // only run changes it
			pull = r.handover.queue
		}
		if o := r.oldest(); o != nil {
			stall.Reset(time.Until(o.at.Add(stallAfter)))
		} else {
			stall.Stop()
		}
		select {
		case r.next = <-pull:
		case m, ok := <-r.heard:
			if !ok {
				return nil
			}
			if err := r.answered(m); err != nil {
				return err
			}
		case <-stall.C:
			if err := r.stall(); err != nil {
				return err
			}
		case <-r.ending:
			return nil
		}
	}
}

// oldest is the oldest offer that may still be taken.
func (r *route) oldest() *offer {
	for _, o := range r.offers {
		if !o.mine {
			return o
		}
	}
	return nil
}

// offer sends what was pulled, with as much as waits and may travel with it.
func (r *route) offer() error {
	first := r.next
	r.next = nil
	o := &offer{seq: r.seq + 1, at: time.Now()}
	body := ipc.Offer{Listener: first.mover.listener}
	if first.parcel != nil {
		body = *first.parcel
	}
	var fds []int
	defer func() { closeAll(fds) }()
	for q := first; q != nil; q = r.pullLike(first, len(fds)) {
		if q.parcel == nil && r.refuses[q.mover.listener] {
			q.verdict <- errNobody
			continue
		}
		fd, err := duplicate(q.mover.stream)
		if err != nil {
			q.verdict <- fmt.Errorf("its descriptor: %w", err)
			continue
		}
		fds = append(fds, fd)
		o.requests = append(o.requests, q)
	}
	if len(fds) == 0 {
		return nil
	}
	r.seq++
	r.offers = append(r.offers, o)
	return r.link.Send(ipc.Message{Type: ipc.TypeOffer, Seq: o.seq, Offer: &body}, fds...)
}

// pullLike pulls another request that fits into the offer with first, if one
// waits; one that does not fit is next.
func (r *route) pullLike(first *request, have int) *request {
	if first.parcel != nil || have >= ipc.MaxFDs {
		return nil
	}
	select {
	case q := <-r.handover.queue:
		if q.parcel == nil && q.mover.listener == first.mover.listener {
			return q
		}
		r.next = q
	default:
	}
	return nil
}

// answered takes the answer to an offer; they come in order.
func (r *route) answered(m ipc.Message) error {
	if len(r.offers) == 0 || r.offers[0].seq != m.Seq || m.Type != ipc.TypeTaken && m.Type != ipc.TypeRefused && m.Type != ipc.TypeLater {
		return fmt.Errorf("it answers %q to offer %d, which is not what it was asked", m.Type, m.Seq)
	}
	o := r.offers[0]
	switch {
	case o.mine:
	case m.Type == ipc.TypeTaken:
		if err := r.link.Send(ipc.Message{Type: ipc.TypeYours, Seq: o.seq}); err != nil {
			return err // and what was offered is taken back
		}
		r.handover.given.Add(uint64(len(o.requests)))
		o.decide(nil)
	case m.Type == ipc.TypeLater:
		o.decide(errNobody)
	default:
		o.decide(&RefusedError{Reason: m.Text})
		if o.requests[0].parcel == nil {
			r.handover.log.Warn("worker: connections are not taken", "by_worker", r.to.Worker, "listener", o.requests[0].mover.listener, "why", m.Text)
			r.handover.refused(r, o.requests[0].mover.listener)
		}
	}
	r.offers = r.offers[1:]
	if m.Type == ipc.TypeLater && !r.later {
		r.later = true
		r.handover.stalled(r, true) // a way nevertheless: nobody is asked to leave for it
	}
	if len(r.offers) == 0 && r.stalled && !r.later {
		r.handover.stalled(r, false)
	}
	return nil
}

// stall: the other side does not answer. Clients shall not wait for it.
func (r *route) stall() error {
	for _, o := range r.offers {
		if err := r.mine(o); err != nil {
			return err
		}
	}
	r.handover.stalled(r, true)
	return nil
}

func (r *route) mine(o *offer) error {
	if o.mine {
		return nil
	}
	o.mine = true
	err := r.link.Send(ipc.Message{Type: ipc.TypeMine, Seq: o.seq})
	o.decide(errNobody)
	return err
}

// takeBack: whatever is not decided is served here.
func (r *route) takeBack() {
	if r.next != nil {
		r.next.verdict <- errNobody
	}
	for _, o := range r.offers {
		_ = r.mine(o) // it may have gone; the end of the link says the same
	}
}

func (o *offer) decide(err error) {
	for _, q := range o.requests {
		q.verdict <- err
	}
}

// duplicate is a descriptor of our own, which shares everything with the
// connection's.
func duplicate(s stream) (int, error) {
	raw, err := s.SyscallConn()
	if err != nil {
		return -1, err
	}
	fd := -1
	if cerr := raw.Control(func(c uintptr) { fd, err = unix.FcntlInt(c, unix.F_DUPFD_CLOEXEC, 0) }); cerr != nil {
		return -1, cerr
	}
	return fd, err
}
