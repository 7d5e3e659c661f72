package worker

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
)

// MaxParcel is how many bytes of State and Unread together can be handed off
// with a connection.
const MaxParcel = ipc.MaxParcel

// maxKind is the longest name of a kind, in bytes.
const maxKind = 64

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
		serve := func(ctx context.Context, conn net.Conn, o ipc.Offer) {
			fn(ctx, conn, Parcel{Kind: o.Kind, Version: o.Version, State: o.State})
		}
		w.kinds[name] = &migrate.Kind{Versions: slices.Clone(versions), Serve: serve}
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
	m := migrate.Of(conn)
	switch {
	case p.Kind == "" || len(p.Kind) > maxKind:
		return fmt.Errorf("handing a connection off: its kind needs a name of 1 to %d bytes, not %q", maxKind, p.Kind)
	case len(p.State)+len(p.Unread) > MaxParcel:
		return fmt.Errorf("handing a connection of kind %q off: %d bytes of state and %d unread are more than %d together",
			p.Kind, len(p.State), len(p.Unread), MaxParcel)
	case m == nil || !m.Migratable():
		return ErrNotMovable
	}
	err := w.core.Sender.HandOff(ctx, m, ipc.Offer{Kind: p.Kind, Version: p.Version, State: p.State, Unread: p.Unread})
	var refused *migrate.RefusedError
	switch {
	case err == nil:
		return conn.Close()
	case errors.Is(err, migrate.ErrNoReceiver):
		return ErrNoSuccessor
	case errors.Is(err, migrate.ErrStays):
		return ErrStays
	case errors.As(err, &refused):
		return &RefusedError{Reason: refused.Reason}
	}
	return err
}
