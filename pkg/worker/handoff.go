package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime/debug"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// MaxParcel is how many bytes of State and Unread together can be handed off
// with a connection.
const MaxParcel = ipc.MaxParcel

// maxKind is the longest name of a kind, in bytes.
const maxKind = 64

// handOffWait is how long a connection that is handed off waits for a successor
// that is slow, or for what the master does about one that has died.
const handOffWait = 5 * time.Second

var (
	// ErrNoSuccessor is HandOff's error when no worker is there that could take
	// the connection: the service stops, the successor is none of masterd's SDK
	// or has died, or this worker has no master.
	ErrNoSuccessor = errors.New("no successor takes connections")
	// ErrStays is HandOff's error when the worker has the traffic itself, perhaps
	// again: a rollback has come meanwhile. The connection is served on here.
	ErrStays = errors.New("the connection stays: this worker is not leaving")
	// ErrNotMovable is HandOff's error for a connection that only this process
	// can serve: with TLS, HTTP/2, or not from one of the worker's listeners.
	ErrNotMovable = errors.New("the connection cannot be moved to another process")
)

// RefusedError is HandOff's error when the successor does not want the
// connection: it knows nothing of this kind, or not this version of its state.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the successor refused the connection: " + e.Reason }

// Parcel is what travels with a connection that is handed off.
type Parcel struct {
	// Kind names what the connection is used for; the successor's function for
	// it is found by this. 1 to 64 bytes.
	Kind string
	// Version is of the form of State, for programs that must understand the
	// state of the versions before and after them.
	Version int
	// State is whatever the successor must know. With Unread it has at most
	// MaxParcel bytes.
	State []byte
	// Unread are bytes that were read from the connection and not used yet: what
	// is left in a bufio.Reader. The successor reads them first.
	Unread []byte
}

// kind is what the program said about one kind of connection.
type kind struct {
	versions []int
	serve    func(context.Context, net.Conn, Parcel)
}

// Receive has fn serve the connections of a kind that workers before this one,
// or after it when it is rolled back to, hand off with these versions of their
// state. (The parcel's Unread is empty: the connection reads it first.) Others
// are refused, and their givers know before they have let go. fn runs in a
// goroutine of its own; when it returns, the connection is closed unless it was
// handed off again. Its context has the notice to leave, see [Leaving], and ends when
// the drain's time is up and the connection is cut: a function that ignores both is
// left behind when Run returns. Call it before Run.
func (w *Worker) Receive(name string, versions []int, fn func(ctx context.Context, conn net.Conn, p Parcel)) {
	switch {
	case name == "" || len(name) > maxKind:
		w.mistake("Receive needs a kind's name of 1 to %d bytes, it was given %q", maxKind, name)
	case fn == nil:
		w.mistake("Receive(%q) needs a function, it was given nil", name)
	case len(versions) == 0:
		w.mistake("Receive(%q) needs the versions of the state that are understood", name)
	case w.kinds[name] != nil:
		w.mistake("Receive(%q) was called twice", name)
	default:
		w.kinds[name] = &kind{versions: slices.Clone(versions), serve: fn}
	}
}

// HandOff gives a connection that a handler has hijacked, or that came by
// Receive, to the worker that has the traffic now. It is for long-lived
// connections (WebSockets, Server-Sent Events), once [Leaving] has told that
// this worker parks or drains. Nothing else may use the connection while
// HandOff runs.
//
// With nil it is the successor's, and closed here. With an error it is still
// the caller's, as it was. ErrStays: the caller serves on. ErrNoSuccessor,
// ErrNotMovable, a *RefusedError or the context's: the caller should end it in
// the protocol's polite way. A successor that does not answer is not waited for
// longer than some seconds; nor is, when it has died, its replacement or the
// traffic's return.
func (w *Worker) HandOff(ctx context.Context, conn net.Conn, p Parcel) error {
	c, ok := conn.(guest)
	switch {
	case p.Kind == "" || len(p.Kind) > maxKind:
		return fmt.Errorf("handing a connection off: its kind needs a name of 1 to %d bytes, not %q", maxKind, p.Kind)
	case len(p.State)+len(p.Unread) > MaxParcel:
		return fmt.Errorf("handing a connection of kind %q off: %d bytes of state and %d unread are more than %d together", p.Kind, len(p.State), len(p.Unread), MaxParcel)
	case !ok || c.move() == nil || c.move().handover == nil:
		return ErrNotMovable
	}
	ctx, cancel := context.WithTimeoutCause(ctx, handOffWait, ErrNoSuccessor)
	defer cancel()
	for {
		err := c.move().handOff(ctx, p)
		switch {
		case err == nil:
			return c.Close()
		case !errors.Is(err, ErrNoSuccessor) || ctx.Err() != nil:
			return err
		case !w.traffic.leaving.given():
			return ErrStays
		case w.handover.parting(w.traffic.leaving, c.move().listener):
			return err
		} // else the traffic has come and gone again, or its way was lost: there is another, or soon
	}
}

// handOff asks for a connection to be moved with its parcel.
func (m *mover) handOff(ctx context.Context, p Parcel) error {
	m.mu.Lock()
	if m.moved {
		m.mu.Unlock()
		return net.ErrClosed
	}
	m.offered = true
	unread := slices.Concat(p.Unread, m.unread)
	m.mu.Unlock()
	err := m.handover.ask(ctx, m.ask(&ipc.Offer{
		Listener: m.listener, Kind: p.Kind, Version: p.Version, State: p.State, Unread: unread,
	}), true)
	switch {
	case errors.Is(err, errNobody):
		return ErrNoSuccessor
	case err != nil:
		return err
	}
	m.mu.Lock()
	m.moved = true
	m.mu.Unlock()
	return nil
}

// receive serves a connection that was handed off.
func (d *door) receive(k *kind, c guest, o ipc.Offer) {
	if m := c.move(); m != nil {
		m.mu.Lock()
		m.unread, m.fresh, m.state = o.Unread, false, http.StateHijacked
		m.mu.Unlock()
	}
	d.traffic.inFlight.Add(1)
	d.serving.Go(func() {
		ctx, cancel := context.WithCancel(context.WithValue(d.traffic.living, noticeKey{}, d.traffic.leaving))
		defer d.traffic.requestEnded()
		defer c.Close()
		defer cancel()
		defer func() {
			// As net/http does: one connection's bug is not the others' end.
			if why := recover(); why != nil && why != http.ErrAbortHandler {
				d.log.Error("worker: panic serving a connection that was handed off", "kind", o.Kind, "panic", why, "stack", string(debug.Stack()))
			}
		}()
		k.serve(ctx, c, Parcel{Kind: o.Kind, Version: o.Version, State: o.State})
	})
}
