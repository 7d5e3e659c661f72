// Package probe checks one worker by itself.
//
// A check is one request, on one fresh connection that leads to exactly this
// worker: through a socket that is shared, a broken worker passes when a
// sibling answers. Nothing is kept between checks, no goroutine outlives one,
// and one costs little enough to be made every second or two for as long as a
// service lives.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/masterd/masterd/pkg/master/config"
)

// Limits of a check.
const (
	maxCheck   = time.Minute            // longest check, whatever the context allows
	maxAnswer  = 1 << 20                // bytes read of an answer, headers and body
	maxShown   = 200                    // bytes of a body or an output that go into an error
	maxInterim = 10                     // 1xx answers before the real one
	bodyTime   = 100 * time.Millisecond // wait for the rest of a body once the status is known
	closedSoon = 5 * time.Millisecond   // a connection closed within it was not taken
	// bytes of a body that are read so that a worker is not cut off while it writes
	maxBodyRead = 64 << 10
)

// Dialer opens a fresh connection to exactly the worker that is checked.
type Dialer func(ctx context.Context) (net.Conn, error)

// Worker says which worker is checked; command checks find it in their
// environment as MASTERD_WORKER_ID, MASTERD_WORKER_GENERATION,
// MASTERD_WORKER_PID and MASTERD_WORKER_VERSION.
type Worker struct {
	ID, Generation uint64
	PID            int
	Version        string
}

// Checker makes the checks of one configuration. It never changes and may be
// used by many goroutines.
type Checker struct {
	health  config.Health
	check   *request // of an http check
	warmup  *request
	environ []string // of command checks
}

// New is a checker for h, which must be valid. Without http, tcp or command
// each check passes. Command checks get a PATH and nothing else of an
// environment.
func New(h config.Health) *Checker {
	c := &Checker{health: h, environ: []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}}
	if h.HTTP != nil {
		c.check = newRequest(h.HTTP, h.HTTP.Method, h.HTTP.Path)
		if h.Warmup.Requests > 0 {
			c.warmup = newRequest(h.HTTP, "GET", h.Warmup.Path)
		}
	}
	return c
}

// Listener is the name of the listener that connections for this check belong
// to; empty when none is made.
func (c *Checker) Listener() string {
	switch {
	case c.health.HTTP != nil:
		return c.health.HTTP.Listener
	case c.health.TCP != nil:
		return c.health.TCP.Listener
	}
	return ""
}

// Check checks w once. nil: it passed. An error is one line that says what was
// done and what came of it. ctx should have a deadline, and ends the check.
func (c *Checker) Check(ctx context.Context, w Worker, dial Dialer) error {
	ctx, cancel := context.WithTimeout(ctx, maxCheck)
	defer cancel()
	switch {
	case c.check != nil:
		return c.checkHTTP(ctx, dial)
	case c.health.TCP != nil:
		return checkTCP(ctx, dial)
	case len(c.health.Command) > 0:
		return c.checkCommand(ctx, w)
	}
	return nil
}

// Reach makes a check's request once, and wants an answer, whatever it says: the checks
// have judged that. Where they make none it makes a connection and closes it.
func (c *Checker) Reach(ctx context.Context, dial Dialer) error {
	switch {
	case c.check != nil:
		if _, err := c.check.do(ctx, dial); err != nil {
			return fmt.Errorf("%s %s: %w", c.check.method, c.check.path, err)
		}
		return nil
	case c.health.TCP != nil:
		return checkTCP(ctx, dial)
	}
	conn, err := dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// guard bounds all reads and writes of conn by ctx until release is called.
func guard(ctx context.Context, conn net.Conn) (release func()) {
	if d, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(d)
	}
	done := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(done)
		_ = conn.SetDeadline(time.Unix(1, 0))
	})
	return func() {
		if !stop() {
			<-done // or a deadline would be set on a connection that is somebody else's by then
		}
	}
}

// explain says what an error of a connection means to people. what was being
// waited for goes into it.
func explain(ctx context.Context, started time.Time, what string, err error) error {
	switch {
	case errors.Is(ctx.Err(), context.Canceled):
		return errors.New("the check was called off")
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("no %s within %s", what, time.Since(started).Round(time.Millisecond))
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the worker closed the connection, no %s", what)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the worker reset the connection, no %s", what)
	}
	return errors.New(oneLine(err.Error()))
}

// oneLine makes a short line of what a worker or a library said.
func oneLine(s string) string {
	s = strings.ToValidUTF8(s, "?")
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, s)
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= maxShown {
		return s
	}
	cut := maxShown
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "..."
}
