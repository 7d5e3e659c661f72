package migrate

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
	"github.com/masterd/masterd/pkg/worker/internal/tasks"
)

const (
	maxIncoming = 256 // workers that give to one worker at one time
	maxPending  = 8   // offers of one sender that are taken and not decided yet
)

// Target is a listener of this worker, for connections that another worker gives it.
// None of its methods waits.
type Target interface {
	// Movable: connections can come here from other workers, and go to them.
	Movable() bool
	// TakeIdle serves a connection that came between two requests.
	TakeIdle(net.Conn)
	// TakeHandedOff serves one that the other program's handler has handed off.
	TakeHandedOff(*Kind, net.Conn, ipc.Offer)
}

// Kind is one kind of connection that the program receives from other workers.
type Kind struct {
	Versions []int
	Serve    func(context.Context, net.Conn, ipc.Offer)
}

// ReceiverConfig is what a Receiver knows of its worker. Its functions may be called by any
// goroutine, and must not wait.
type ReceiverConfig struct {
	Log      *slog.Logger
	Targets  func(name string) Target // nil: there is no such listener
	Draining func() bool              // nothing is taken any more
	Kinds    map[string]*Kind         // what the program takes itself
	Settled  func()                   // called when no offer is pending any more
}

// Receiver takes what other workers give, over one link each. Its methods may be called by
// any goroutine. Close ends its own goroutines and waits.
type Receiver struct {
	ReceiverConfig
	taken atomic.Uint64
	// pending are the offers that this worker has taken or is about to, and that
	// are not decided yet: it must not leave before.
	pending atomic.Int64

	tasks tasks.Group
	mu    sync.Mutex
	links map[*ipc.Link]struct{} // nil once closed
}

// NewReceiver returns a receiver that takes from nobody yet.
func NewReceiver(c ReceiverConfig) *Receiver {
	return &Receiver{ReceiverConfig: c, links: make(map[*ipc.Link]struct{})}
}

// Add takes from one more worker. The link is the receiver's, whatever Add returns.
func (r *Receiver) Add(link *ipc.Link, from ipc.Peer) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.links == nil || len(r.links) >= maxIncoming {
		link.Close()
		return errors.New("it takes from as many workers as it can already")
	}
	r.links[link] = struct{}{}
	r.tasks.Go(func() {
		k := &incomingLink{Receiver: r, link: link, from: from, held: make(map[uint64]pendingOffer)}
		if err := k.run(); err != nil {
			r.Log.Warn("worker: no more connections are taken over",
				"from_worker", from.Worker, "from_generation", from.Generation, "why", err)
		}
		r.mu.Lock()
		delete(r.links, link)
		r.mu.Unlock()
		link.Close()
	})
	return nil
}

// Pending tells whether an offer is taken and not decided yet: this worker must not leave
// before.
func (r *Receiver) Pending() bool { return r.pending.Load() > 0 }

// Close ends all links and waits for their goroutines. What they have taken is their
// targets'.
func (r *Receiver) Close() {
	r.mu.Lock()
	for link := range r.links {
		link.Close()
	}
	r.links = nil
	r.mu.Unlock()
	r.tasks.Wait()
}

// incomingLink is the other end of a peerLink; see there.
type incomingLink struct {
	*Receiver
	link *ipc.Link
	from ipc.Peer
	held map[uint64]pendingOffer // taken and not decided yet, by the offer's seq
}

// pendingOffer is what an offer brought.
type pendingOffer struct {
	offer ipc.Offer
	fds   []int
}

// run ends with the link; nil: the sender has closed it.
func (l *incomingLink) run() error {
	defer func() {
		for seq := range l.held { // not ours: the sender serves on, or has died with them
			fdpass.Close(l.forget(seq).fds...)
		}
	}()
	for {
		m, fds, err := l.link.Recv()
		var garbage *ipc.ProtocolError
		switch {
		case errors.As(err, &garbage):
			return err
		case err != nil:
			return nil
		}
		if err := l.handle(m, fds); err != nil {
			return err
		}
	}
}

func (l *incomingLink) handle(m ipc.Message, fds []int) error {
	switch m.Type {
	case ipc.TypeOffer:
		// Counted before the state is looked at: a life that begins to drain
		// either is seen here, or sees that it has to wait.
		l.pending.Add(1)
		if l.Draining() {
			l.decided()
			fdpass.Close(fds...)
			l.reply(ipc.Message{Type: ipc.TypeLater, Seq: m.Seq})
			return nil
		}
		if why := l.check(m); why != nil {
			l.decided()
			fdpass.Close(fds...)
			l.reply(ipc.Message{Type: ipc.TypeRefused, Seq: m.Seq, Text: why.Error()})
			return nil
		}
		l.held[m.Seq] = pendingOffer{*m.Offer, fds}
		l.reply(ipc.Message{Type: ipc.TypeTaken, Seq: m.Seq})
	case ipc.TypeYours:
		if l.held[m.Seq].fds == nil {
			return fmt.Errorf("it gives offer %d, which is not held", m.Seq)
		}
		l.serve(l.held[m.Seq])
		l.forget(m.Seq)
	case ipc.TypeMine: // also of one that was refused
		fdpass.Close(l.forget(m.Seq).fds...)
	default:
		fdpass.Close(fds...)
		return fmt.Errorf("it sent %q, which is not said on a handover link", m.Type)
	}
	return nil
}

// reply ends nothing when it fails: the sender may have closed the link, and what
// it sent before, about earlier offers, is still to be read.
func (l *incomingLink) reply(m ipc.Message) { _ = l.link.Send(m) }

// ignoreClosed returns nil for the errors of a link whose other end is closed.
func ignoreClosed(err error) error {
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// forget forgets an offer, once it is decided.
func (l *incomingLink) forget(seq uint64) pendingOffer {
	h, ok := l.held[seq]
	if ok {
		delete(l.held, seq)
		l.decided()
	}
	return h
}

func (r *Receiver) decided() {
	if r.pending.Add(-1) == 0 {
		r.Settled()
	}
}

// check returns why an offer cannot be taken; nil: it can.
func (l *incomingLink) check(m ipc.Message) error {
	o := m.Offer
	d := l.target(o.Listener)
	switch k := l.Kinds[o.Kind]; {
	case len(l.held) >= maxPending:
		return fmt.Errorf("%d offers are not decided yet", len(l.held))
	case l.held[m.Seq].fds != nil:
		return fmt.Errorf("offer %d was made already", m.Seq)
	case d == nil:
		return fmt.Errorf("this program does not serve a listener %q", o.Listener)
	case !d.Movable():
		return fmt.Errorf("connections of listener %q cannot be taken over here: TLS, or a server of its own", o.Listener)
	case o.Kind == "":
	case k == nil:
		return fmt.Errorf("this program receives no connections of kind %q", o.Kind)
	case !slices.Contains(k.Versions, o.Version):
		return fmt.Errorf("this program does not understand version %d of what %q connections bring, only %v",
			o.Version, o.Kind, k.Versions)
	}
	return nil
}

// target is the listener, which the sender may call otherwise.
func (l *incomingLink) target(name string) Target { return l.Targets(cmp.Or(l.from.Names[name], name)) }

// serve makes the connections the worker's own.
func (l *incomingLink) serve(h pendingOffer) {
	l.taken.Add(uint64(len(h.fds)))
	to := l.target(h.offer.Listener)
	for _, fd := range h.fds {
		c, err := fdpass.ConnOf(fd)
		if err != nil {
			l.Log.Error("worker: a connection that was handed over cannot be served", "from_worker", l.from.Worker,
				"error", fmt.Errorf("descriptor %d is no connection: %w", fd, err))
			continue
		}
		if h.offer.Kind == "" {
			to.TakeIdle(c)
		} else {
			to.TakeHandedOff(l.Kinds[h.offer.Kind], c, h.offer)
		}
	}
}
