package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"syscall"
	"time"
)

// Limits of a client.
const (
	// askTimeout bounds a question that a healthy master answers at once, so
	// that one that hangs is told from one that works.
	askTimeout = 10 * time.Second
	// busyRetries and busyWait: a master whose accept queue is full is asked
	// again so often, with so long between.
	busyRetries = 40
	busyWait    = 50 * time.Millisecond
	// questionTries is how often a question that changes nothing is put when the
	// connection breaks before there is an answer.
	questionTries = 3
	// maxAnswer bounds an answer that is not a stream, in bytes.
	maxAnswer = 16 << 20
)

// Client asks one master over its Unix socket. It may be used by several
// goroutines. Every error is a *[Problem] (the master refused) or a *[Fault]
// (the talk failed), but for those of a caller's own functions.
type Client struct {
	socket string
	sudo   string
	trust  func(net.Conn) error // nil: whoever listens
	http   *http.Client
}

// NewClient is a client of the master behind the socket at path. It connects
// when something is asked. sudoUser is the user behind sudo, empty for none;
// only a client that runs as root is believed.
func NewClient(path, sudoUser string) *Client {
	c := &Client{socket: path, sudo: sudoUser}
	c.http = &http.Client{Transport: &http.Transport{
		// A connection for each question: net/http asks again by itself on a
		// kept one that broke, and no change may be asked for twice in silence.
		DisableKeepAlives:  true,
		DisableCompression: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return c.dial(ctx)
		},
	}}
	return c
}

// Trust has a client believe only those behind the socket that ok has no error
// for. It is asked at each connection, before anything is sent. It is set before
// the client is used.
func (c *Client) Trust(ok func(net.Conn) error) *Client {
	c.trust = ok
	return c
}

// Socket is the path of the master's socket.
func (c *Client) Socket() string { return c.socket }

// Alive tells whether somebody listens on the socket: nil, or a *[Fault] of
// any kind but Broken. Nothing is asked.
func (c *Client) Alive(ctx context.Context) error {
	conn, err := c.dial(ctx)
	if err != nil {
		return err
	}
	return conn.Close()
}

// Status is what an operator asks for first.
func (c *Client) Status(ctx context.Context) (s Status, err error) {
	return s, c.ask(ctx, http.MethodGet, "/v1/status", nil, &s)
}

// Versions lists the pinned versions, newest first.
func (c *Client) Versions(ctx context.Context) ([]Version, error) {
	var v Versions
	err := c.ask(ctx, http.MethodGet, "/v1/versions", nil, &v)
	return v.Versions, err
}

// PinVersion keeps a version from being pruned, or lets it go again. ref is an
// id, a label or the beginning of a digest.
func (c *Client) PinVersion(ctx context.Context, ref string, on bool) (v Version, err error) {
	verb := "unpin"
	if on {
		verb = "pin"
	}
	return v, c.ask(ctx, http.MethodPost, "/v1/versions/"+url.PathEscape(ref)+"/"+verb, nil, &v)
}

// DiffVersions tells how version b differs from a, in lines ready to print.
func (c *Client) DiffVersions(ctx context.Context, a, b string) ([]string, error) {
	var d Diff
	err := c.ask(ctx, http.MethodGet, "/v1/versions/diff?"+url.Values{"a": {a}, "b": {b}}.Encode(), nil, &d)
	return d.Lines, err
}

// History is the last n entries, newest first; zero: as many as the master
// likes. At most [MaxHistory].
func (c *Client) History(ctx context.Context, n int) ([]Entry, error) {
	path := "/v1/history"
	if n > 0 {
		path += "?n=" + strconv.Itoa(n)
	}
	var h History
	err := c.ask(ctx, http.MethodGet, path, nil, &h)
	return h.Entries, err
}

// HistoryEnd says which files the history is in, and what its last line is.
func (c *Client) HistoryEnd(ctx context.Context) (h History, err error) {
	err = c.ask(ctx, http.MethodGet, "/v1/history?n=1", nil, &h)
	return h, err
}

// Events calls entry for what follows the entry of the history with a number (since nil:
// for the last n), oldest first, and goes on with what comes if follow is set, until ctx or
// the master ends. An error of entry ends it and is returned as it is.
func (c *Client) Events(ctx context.Context, since *uint64, n int, follow bool, entry func(Entry) error) error {
	q := url.Values{"n": {strconv.Itoa(n)}}
	if since != nil {
		q.Set("since", strconv.FormatUint(*since, 10))
	}
	if follow {
		q.Set("follow", "true")
	}
	return lines(ctx, c, "/v1/events?"+q.Encode(), entry)
}

// Logs calls line for the last n lines of a worker's output (worker zero: of
// all), and goes on with new ones if follow is set, until ctx or the master
// ends. An error of line ends it and is returned as it is.
func (c *Client) Logs(ctx context.Context, worker uint64, n int, follow bool, line func(LogLine) error) error {
	q := url.Values{"n": {strconv.Itoa(n)}}
	if worker != 0 {
		q.Set("worker", strconv.FormatUint(worker, 10))
	}
	if follow {
		q.Set("follow", "true")
	}
	return lines(ctx, c, "/v1/logs?"+q.Encode(), line)
}

// lines calls each for all values of a stream.
func lines[T any](ctx context.Context, c *Client, path string, each func(T) error) error {
	body, err := c.open(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var v T
		switch err := dec.Decode(&v); {
		case err == io.EOF:
			return nil
		case err != nil:
			return talkFault(ctx, c.socket, err)
		}
		if err := each(v); err != nil {
			return err
		}
	}
}

// Reload asks for a rollout, calls stage (which may be nil) as it moves, and
// returns how it ended. So do its siblings below.
func (c *Client) Reload(ctx context.Context, r ReloadRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/reload", r, stage)
}

// Rollback asks to go back.
func (c *Client) Rollback(ctx context.Context, r RollbackRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/rollback", r, stage)
}

// Promote ends a step of a canary, or a bake or a confirmation, now, as passed.
func (c *Client) Promote(ctx context.Context, r PromoteRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/promote", r, stage)
}

// Pause stops the clock of a canary's steps until Resume.
func (c *Client) Pause(ctx context.Context, r ReasonRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/pause", r, stage)
}

// Resume has the clock of a canary's steps go on, from the beginning of its step.
func (c *Client) Resume(ctx context.Context, r ReasonRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/resume", r, stage)
}

// Abort ends the running rollout.
func (c *Client) Abort(ctx context.Context, r ReasonRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/abort", r, stage)
}

// Hold refuses reloads until Unhold.
func (c *Client) Hold(ctx context.Context, r ReasonRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/hold", r, stage)
}

// Unhold ends a hold.
func (c *Client) Unhold(ctx context.Context, r ReasonRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/unhold", r, stage)
}

// Scale changes the number of processes.
func (c *Client) Scale(ctx context.Context, r ScaleRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/scale", r, stage)
}

// Stop ends the service.
func (c *Client) Stop(ctx context.Context, r StopRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/stop", r, stage)
}

// Upgrade asks for another masterd in this one's place. The outcome comes before
// that: the new one answers soon after, with another time in Status.Master.Since.
func (c *Client) Upgrade(ctx context.Context, r UpgradeRequest, stage func(Stage)) (Outcome, error) {
	return c.follow(ctx, "/v1/upgrade", r, stage)
}

// follow asks for something that takes its time and reads the stream of its
// stages up to the outcome. A stream that ends without one is Broken.
func (c *Client) follow(ctx context.Context, path string, ask any, stage func(Stage)) (Outcome, error) {
	body, err := c.open(ctx, http.MethodPost, path, ask)
	if err != nil {
		return Outcome{}, err
	}
	defer body.Close()
	for dec := json.NewDecoder(body); ; {
		var ev Event
		if err := dec.Decode(&ev); err != nil {
			return Outcome{}, talkFault(ctx, c.socket, err)
		}
		if ev.Stage != nil && stage != nil {
			stage(*ev.Stage)
		}
		if ev.Outcome != nil {
			return *ev.Outcome, nil
		}
	}
}

// ask asks for something that is answered at once, and reads the answer.
func (c *Client) ask(ctx context.Context, method, path string, ask, answer any) error {
	ctx, cancel := context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("no answer within %s", askTimeout))
	defer cancel()
	body, err := c.open(ctx, method, path, ask)
	for try := 1; try < questionTries && method == http.MethodGet && isBroken(err); try++ {
		body, err = c.open(ctx, method, path, ask)
	}
	if err != nil {
		return err
	}
	defer body.Close()
	if err := json.NewDecoder(io.LimitReader(body, maxAnswer)).Decode(answer); err != nil {
		return talkFault(ctx, c.socket, err)
	}
	return nil
}

// open sends a request and returns the body of a 2xx answer.
func (c *Client) open(ctx context.Context, method, path string, ask any) (io.ReadCloser, error) {
	var body io.Reader
	if ask != nil {
		b, err := json.Marshal(ask)
		if err != nil {
			return nil, fmt.Errorf("writing the request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://masterd"+path, body)
	if err != nil {
		return nil, fmt.Errorf("making the request: %w", err)
	}
	if ask != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if c.sudo != "" {
		req.Header.Set(SudoHeader, c.sudo)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if u := (*url.Error)(nil); errors.As(err, &u) {
			err = u.Err // its address is made up
		}
		return nil, talkFault(ctx, c.socket, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp.Body, nil
	}
	defer resp.Body.Close()
	p := &Problem{Status: resp.StatusCode}
	var e Error
	if err := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&e); err == nil {
		p.Message, p.Result = e.Error, e.Result
	}
	if p.Message == "" {
		p.Message = fmt.Sprintf("What listens on %s answered %s and gave no reason; is it a masterd?", c.socket, resp.Status)
	}
	return nil, p
}

// dial connects, and waits a little for a master that is merely busy: on a
// Unix socket a full accept queue is an error, not a delay.
func (c *Client) dial(ctx context.Context) (net.Conn, error) {
	for try := 0; ; try++ {
		var d net.Dialer
		conn, err := d.DialContext(ctx, "unix", c.socket)
		if err == nil {
			return c.believe(conn)
		}
		if !errors.Is(err, syscall.EAGAIN) || try == busyRetries {
			return nil, dialFault(ctx, c.socket, err)
		}
		select {
		case <-ctx.Done():
			return nil, dialFault(ctx, c.socket, ctx.Err())
		case <-time.After(busyWait):
		}
	}
}

// believe closes a connection to somebody who is not trusted.
func (c *Client) believe(conn net.Conn) (net.Conn, error) {
	if c.trust == nil {
		return conn, nil
	}
	if err := c.trust(conn); err != nil {
		_ = conn.Close()
		return nil, &Fault{Kind: Untrusted, Socket: c.socket, Err: err}
	}
	return conn, nil
}
