package migrate

import (
	"context"
	"errors"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
)

// handOffTimeout is how long a connection that is handed off waits for a successor
// that is slow, or for what the master does about one that has died.
const handOffTimeout = 5 * time.Second

var (
	// ErrNoReceiver: there is no worker to give connections to.
	ErrNoReceiver = errors.New("there is no worker that takes connections")
	// ErrStays: the worker is not leaving.
	ErrStays = errors.New("the connection stays: this worker is not leaving")
)

// RefusedError: the other worker does not take the connection, for this reason.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return e.Reason }

// transfer is a request to give one connection away.
type transfer struct {
	conn    *Conn
	payload *ipc.Offer // what the program sends along; nil: it is between two requests
	result  chan error // nil: it is another worker's. Has room for it
}

func (c *Conn) transfer(payload *ipc.Offer) *transfer {
	return &transfer{conn: c, payload: payload, result: make(chan error, 1)}
}

// HandOff gives a connection with what the program sends along to another worker; nil: it is
// that one's, and the caller closes ours. While it runs nothing else may use the
// connection. It waits for a successor that is slow, or that is to follow one that has
// died, no longer than handOffTimeout.
func (s *Sender) HandOff(ctx context.Context, m *Conn, payload ipc.Offer) error {
	ctx, cancel := context.WithTimeoutCause(ctx, handOffTimeout, ErrNoReceiver)
	defer cancel()
	for {
		err := m.handOff(ctx, payload)
		switch {
		case !errors.Is(err, ErrNoReceiver) || ctx.Err() != nil:
			return err
		case !s.leaving():
			return ErrStays
		case s.ShouldClose(m.listener):
			return err
		} // else the traffic has come and gone again, or its receiver was lost: there is another, or soon
	}
}

// handOff tries once.
func (c *Conn) handOff(ctx context.Context, payload ipc.Offer) error {
	c.mu.Lock()
	if c.migrated {
		c.mu.Unlock()
		return net.ErrClosed
	}
	c.offered = true
	payload.Listener, payload.Unread = c.listener, slices.Concat(payload.Unread, c.unread)
	c.mu.Unlock()
	if err := c.sender.submit(ctx, c.transfer(&payload), true); err != nil {
		return err
	}
	c.mu.Lock()
	c.migrated = true
	c.mu.Unlock()
	return nil
}

// Migratable: another worker could have it.
func (c *Conn) Migratable() bool { return c.sender != nil }

// Resume is for a connection that another worker has handed off: what that one has read
// and not used is read first.
func (c *Conn) Resume(unread []byte) {
	c.mu.Lock()
	c.unread, c.neverRead, c.state = unread, false, http.StateHijacked
	c.mu.Unlock()
}
