package migrate

import (
	"fmt"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

const (
	maxOffers  = 2                      // offers on one link that are not decided yet
	stallAfter = 500 * time.Millisecond // without an answer, what was offered is served here again
)

// peerLink is the link to one other worker. Its connections are in one of two
// hands at any time, and both sides know in whose:
//
//	sender                    receiver
//	  ├─ offer [fds] ──────────▶│ has them, serves them not
//	  │◀──────────────── taken ─┤ could serve them
//	  ├─ yours ────────────────▶│ serves them
//
// Until "yours" is sent the sender can change its mind at any moment, says
// "mine" and serves on; so it need not wait for a receiver that was stopped. A
// receiver that sees the end of the link without "yours" closes what it has, which
// ends nothing. So no connection is ever served by both, and none by nobody
// unless the receiver dies with what it had been given.
type peerLink struct {
	sender  *Sender
	link    *ipc.Link
	to      ipc.Peer
	replies chan ipc.Message // closed with the link's end
	ending  chan struct{}

	// Of run alone.
	seq          uint64
	offers       []*offer  // not answered yet, oldest first
	next         *transfer // pulled, but of another kind than the offer that was being filled
	peerDraining bool      // the other side leaves itself: nothing is offered any more

	// Guarded by the sender's mu.
	ended   bool
	stalled bool            // pulls nothing until what was offered is answered
	refuses map[string]bool // listeners of which it takes nothing
}

// offer is what one message has brought.
type offer struct {
	seq       uint64
	transfers []*transfer
	at        time.Time
	withdrawn bool // taken back: its answer means nothing
}

func newPeerLink(h *Sender, link *ipc.Link, to ipc.Peer) *peerLink {
	return &peerLink{
		sender: h, link: link, to: to,
		replies: make(chan ipc.Message), ending: make(chan struct{}), refuses: map[string]bool{},
	}
}

// end has run return. The sender's mu is held.
func (l *peerLink) end() {
	if !l.ended {
		l.ended = true
		close(l.ending)
	}
}

func (l *peerLink) run() {
	go l.read()
	why := ignoreClosed(l.loop())
	l.withdrawAll()
	l.sender.linkEnded(l)
	l.link.Close()
	for range l.replies { // until the reader has ended
	}
	if why != nil {
		l.sender.log.Warn("worker: no more connections are handed over",
			"to_worker", l.to.Worker, "to_generation", l.to.Generation, "why", why)
	}
}

func (l *peerLink) read() {
	defer close(l.replies)
	for {
		m, fds, err := l.link.Recv()
		fdpass.Close(fds...)
		if err != nil {
			return
		}
		l.replies <- m
	}
}

// loop offers and handles replies until the link ends; nil: because it was
// asked to, or the other worker has gone.
func (l *peerLink) loop() error {
	stall := time.NewTimer(stallAfter)
	defer stall.Stop()
	for {
		if len(l.offers) < maxOffers && l.next != nil {
			if err := l.offer(); err != nil {
				return err
			}
			continue
		}
		var pull <-chan *transfer
		if len(l.offers) < maxOffers && !l.stalled { // only run changes it
			pull = l.sender.queue
		}
		if o := l.oldest(); o != nil {
			stall.Reset(time.Until(o.at.Add(stallAfter)))
		} else {
			stall.Stop()
		}
		select {
		case l.next = <-pull:
		case m, ok := <-l.replies:
			if !ok {
				return nil
			}
			if err := l.handleReply(m); err != nil {
				return err
			}
		case <-stall.C:
			if err := l.stall(); err != nil {
				return err
			}
		case <-l.ending:
			return nil
		}
	}
}

// oldest is the oldest offer that may still be taken.
func (l *peerLink) oldest() *offer {
	for _, o := range l.offers {
		if !o.withdrawn {
			return o
		}
	}
	return nil
}

// offer sends what was pulled, with as much as waits and may travel with it.
func (l *peerLink) offer() error {
	first := l.next
	l.next = nil
	o := &offer{seq: l.seq + 1, at: time.Now()}
	body := ipc.Offer{Listener: first.conn.listener}
	if first.payload != nil {
		body = *first.payload
	}
	var fds []int
	defer func() { fdpass.Close(fds...) }()
	for q := first; q != nil; q = l.pullLike(first, len(fds)) {
		if q.payload == nil && l.refuses[q.conn.listener] {
			q.result <- ErrNoReceiver
			continue
		}
		fd, err := fdpass.DuplicateOf(q.conn.stream)
		if err != nil {
			q.result <- fmt.Errorf("its descriptor: %w", err)
			continue
		}
		fds = append(fds, fd)
		o.transfers = append(o.transfers, q)
	}
	if len(fds) == 0 {
		return nil
	}
	l.seq++
	l.offers = append(l.offers, o)
	return l.link.Send(ipc.Message{Type: ipc.TypeOffer, Seq: o.seq, Offer: &body}, fds...)
}

// pullLike pulls another request that fits into the offer with first, if one
// waits; one that does not fit is next.
func (l *peerLink) pullLike(first *transfer, have int) *transfer {
	if first.payload != nil || have >= ipc.MaxFDs {
		return nil
	}
	select {
	case q := <-l.sender.queue:
		if q.payload == nil && q.conn.listener == first.conn.listener {
			return q
		}
		l.next = q
	default:
	}
	return nil
}

// handleReply takes the answer to an offer; they come in order.
func (l *peerLink) handleReply(m ipc.Message) error {
	reply := m.Type == ipc.TypeTaken || m.Type == ipc.TypeRefused || m.Type == ipc.TypeLater
	if !reply || len(l.offers) == 0 || l.offers[0].seq != m.Seq {
		return fmt.Errorf("it answers %q to offer %d, which is not what it was asked", m.Type, m.Seq)
	}
	o := l.offers[0]
	switch {
	case o.withdrawn:
	case m.Type == ipc.TypeTaken:
		if err := l.link.Send(ipc.Message{Type: ipc.TypeYours, Seq: o.seq}); err != nil {
			return err // and what was offered is taken back
		}
		l.sender.count.Add(uint64(len(o.transfers)))
		o.decide(nil)
	case m.Type == ipc.TypeLater:
		o.decide(ErrNoReceiver)
	default:
		o.decide(&RefusedError{m.Text})
		if o.transfers[0].payload == nil {
			l.sender.log.Warn("worker: connections are not taken",
				"by_worker", l.to.Worker, "listener", o.transfers[0].conn.listener, "why", m.Text)
			l.sender.refused(l, o.transfers[0].conn.listener)
		}
	}
	l.offers = l.offers[1:]
	if m.Type == ipc.TypeLater && !l.peerDraining {
		l.peerDraining = true
		l.sender.stalled(l, true) // it is there nevertheless: no client is asked to leave for it
	}
	if len(l.offers) == 0 && l.stalled && !l.peerDraining {
		l.sender.stalled(l, false)
	}
	return nil
}

// stall: the other side does not answer. Clients shall not wait for it.
func (l *peerLink) stall() error {
	for _, o := range l.offers {
		if err := l.withdraw(o); err != nil {
			return err
		}
	}
	l.sender.stalled(l, true)
	return nil
}

func (l *peerLink) withdraw(o *offer) error {
	if o.withdrawn {
		return nil
	}
	o.withdrawn = true
	err := l.link.Send(ipc.Message{Type: ipc.TypeMine, Seq: o.seq})
	o.decide(ErrNoReceiver)
	return err
}

// withdrawAll: whatever is not decided is served here.
func (l *peerLink) withdrawAll() {
	if l.next != nil {
		l.next.result <- ErrNoReceiver
	}
	for _, o := range l.offers {
		_ = l.withdraw(o) // it may have gone; the end of the link means the same
	}
}

func (o *offer) decide(err error) {
	for _, q := range o.transfers {
		q.result <- err
	}
}
