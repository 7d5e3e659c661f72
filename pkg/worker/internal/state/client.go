package state

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

const (
	// callTimeout bounds a request whose context has no deadline, with all that it waits
	// for: a master that is not there yet or not there any more, its turn, the answer.
	callTimeout = 10 * time.Second
	// callInterval and callBurst bound how many requests are made: one each callInterval
	// in the long run, so many at once after a rest. A master ends the connection of
	// a worker with more than 256 messages in a second; the rest is for answers.
	callInterval = time.Second / 128
	callBurst    = 64
	// maxInFlight is how many requests wait for their answers at one time.
	maxInFlight = 16
)

// ErrLost is the error of a request whose connection broke before its reply came.
var ErrLost = errors.New("the connection to the master was lost before it answered")

// Client has the master keep blobs. One goroutine, which reads from the connection to the
// master, says which connection there is and brings the replies (Connected, Disconnected,
// Reply, Close); the methods of Store may be called by any other.
type Client struct {
	inFlight chan struct{} // a place for each request that waits for its answer

	mu      sync.Mutex
	link    *ipc.Link // nil: there is no master now
	keeps   bool      // the master at the other end keeps blobs
	ended   bool
	changed chan struct{} // closed and replaced when one of these changes
	seq     uint64        // of the last request, for as long as the process lives
	waiting map[uint64]*pendingCall
	next    time.Time // when the next request may be made, were there no burst
}

// pendingCall waits for its answer.
type pendingCall struct {
	link  *ipc.Link
	reply chan reply // holds the one there will be
}

// reply is a message of the master's, or the end of the connection.
type reply struct {
	msg  ipc.Message
	fds  []int // whoever receives the reply closes them
	lost bool
}

// NewClient returns a client without a connection. Close ends what waits for one.
func NewClient() *Client {
	return &Client{
		inFlight: make(chan struct{}, maxInFlight), changed: make(chan struct{}), waiting: make(map[uint64]*pendingCall),
	}
}

// Connected says that there is a master at the other end of link, and whether it keeps
// blobs. The link stays the caller's; a request that cannot be sent closes it.
func (c *Client) Connected(link *ipc.Link, keeps bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.link, c.keeps = link, keeps
	c.broadcast()
}

// Disconnected says that a connection is over: requests that wait for its replies fail, or
// are made again on the next.
func (c *Client) Disconnected(link *ipc.Link) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.link == link {
		c.link = nil
	}
	c.failAll(link)
}

// Close says that there will be no master any more, and has every request fail.
func (c *Client) Close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ended = true
	c.failAll(c.link)
	c.link = nil
	c.broadcast()
}

// broadcast wakes those who wait for a connection. c.mu is held.
func (c *Client) broadcast() {
	close(c.changed)
	c.changed = make(chan struct{})
}

// failAll answers those who wait for what cannot come. c.mu is held.
func (c *Client) failAll(link *ipc.Link) {
	for seq, r := range c.waiting {
		if r.link == link {
			delete(c.waiting, seq)
			r.reply <- reply{lost: true}
		}
	}
}

// Reply hands a message of the master to the request that waits for it, with its
// descriptors; where none does any more, they are closed.
func (c *Client) Reply(m ipc.Message, fds []int) {
	c.mu.Lock()
	r := c.waiting[m.Seq]
	delete(c.waiting, m.Seq)
	c.mu.Unlock()
	if r == nil {
		fdpass.Close(fds...)
		return
	}
	r.reply <- reply{msg: m, fds: fds}
}

// throttle waits until one more request may be made.
func (c *Client) throttle(ctx context.Context) error {
	c.mu.Lock()
	now := time.Now()
	at := c.next
	if rested := now.Add(-callBurst * callInterval); at.Before(rested) {
		at = rested
	}
	c.next = at.Add(callInterval)
	c.mu.Unlock()
	wait := at.Sub(now)
	if wait <= 0 {
		return nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("too many requests are being made at once: %w", context.Cause(ctx))
	}
}

// call makes a request and waits for its reply: the message that was wanted.
// One that may be made twice is made again when the connection was lost; of
// others it is then not known whether they were followed.
func (c *Client) call(ctx context.Context, m ipc.Message, want ipc.Type, twice bool, fds ...int) (reply, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		cause := fmt.Errorf("gave up after %v: %w", callTimeout, context.DeadlineExceeded)
		ctx, cancel = context.WithTimeoutCause(ctx, callTimeout, cause)
		defer cancel()
	}
	select {
	case c.inFlight <- struct{}{}:
		defer func() { <-c.inFlight }()
	case <-ctx.Done():
		return reply{}, fmt.Errorf("%d requests wait for the master's answers already: %w", maxInFlight, context.Cause(ctx))
	}
	for {
		a, err := c.attempt(ctx, m, fds)
		switch {
		case err != nil:
			return reply{}, err
		case a.lost && twice:
			continue
		case a.lost:
			return reply{}, fmt.Errorf("%w: it is not known whether it was followed", ErrLost)
		case a.msg.Type == ipc.TypeRefused:
			fdpass.Close(a.fds...)
			return reply{}, fmt.Errorf("the master refuses: %s", a.msg.Text)
		case a.msg.Type != want || a.msg.Blob == nil:
			fdpass.Close(a.fds...)
			return reply{}, fmt.Errorf("the master answered %q instead of %q", a.msg.Type, want)
		}
		return a, nil
	}
}

// attempt makes a request once, on the connection that there is.
func (c *Client) attempt(ctx context.Context, m ipc.Message, fds []int) (reply, error) {
	if err := c.throttle(ctx); err != nil {
		return reply{}, err
	}
	seq, r, err := c.register(ctx)
	if err != nil {
		return reply{}, err
	}
	m.Seq = seq
	// Here and not in the connection's own writer, which has no place for descriptors.
	// A failure is the connection's end; the reader says so.
	if r.link.Send(m, fds...) != nil {
		r.link.Close()
	}
	select {
	case a := <-r.reply:
		return a, nil
	case <-ctx.Done():
		c.abandon(seq, r)
		return reply{}, fmt.Errorf("the master has not answered: %w", context.Cause(ctx))
	}
}

// register numbers a request that is about to be made, and notes that it waits for an
// answer. It waits for a connection to a master that keeps blobs.
func (c *Client) register(ctx context.Context) (uint64, *pendingCall, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.link == nil && !c.ended {
		changed := c.changed
		c.mu.Unlock()
		var err error
		select {
		case <-changed:
		case <-ctx.Done():
			err = fmt.Errorf("there is no connection to the master: %w", context.Cause(ctx))
		}
		c.mu.Lock()
		if err != nil {
			return 0, nil, err
		}
	}
	switch {
	case c.ended:
		return 0, nil, errors.New("the worker has ended")
	case !c.keeps:
		return 0, nil, fmt.Errorf("this master is older than the program's SDK and keeps nothing; upgrade masterd: %w",
			errors.ErrUnsupported)
	}
	c.seq++
	r := &pendingCall{link: c.link, reply: make(chan reply, 1)}
	c.waiting[c.seq] = r
	return c.seq, r, nil
}

// abandon stops waiting for an answer; one that has come is thrown away.
func (c *Client) abandon(seq uint64, r *pendingCall) {
	c.mu.Lock()
	_, still := c.waiting[seq]
	delete(c.waiting, seq)
	c.mu.Unlock()
	if !still {
		fdpass.Close((<-r.reply).fds...)
	}
}

func (c *Client) Keep(ctx context.Context, b ipc.Blob, r io.Reader) (ipc.Blob, error) {
	f, err := sealedMemory(b, r)
	if err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: %w", b.Name, err)
	}
	defer f.Close()
	var a reply
	err = fdpass.Control(f, func(fd int) (err error) {
		a, err = c.call(ctx, ipc.Message{Type: ipc.TypeKeep, Blob: &b}, ipc.TypeKept, !b.Conditional(), fd)
		return err
	})
	if err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: %w", b.Name, err)
	}
	return *a.msg.Blob, nil
}

func (c *Client) Fetch(ctx context.Context, name string) (_ Value, found bool, err error) {
	a, err := c.call(ctx, ipc.Message{Type: ipc.TypeFetch, Blob: &ipc.Blob{Name: name}}, ipc.TypeBlob, true)
	if err != nil {
		return Value{}, false, fmt.Errorf("asking for what is kept by the name %s: %w", name, err)
	}
	b := *a.msg.Blob
	if b.None {
		return Value{}, false, nil
	}
	// A mapping of what could shrink would end this process some day.
	if err := ipc.CheckSealed(a.fds[0], b.Size); err != nil {
		fdpass.Close(a.fds...)
		return Value{}, false, fmt.Errorf("what the master keeps by the name %s cannot be used: %w", name, err)
	}
	return Value{Blob: b, memory: os.NewFile(uintptr(a.fds[0]), name)}, true, nil
}

func (c *Client) Forget(ctx context.Context, name string) error {
	m := ipc.Message{Type: ipc.TypeForget, Blob: &ipc.Blob{Name: name}}
	if _, err := c.call(ctx, m, ipc.TypeKept, true); err != nil {
		return fmt.Errorf("forgetting %s: %w", name, err)
	}
	return nil
}

// sealedMemory makes memory with what is read.
func sealedMemory(b ipc.Blob, r io.Reader) (*os.File, error) {
	f, err := ipc.NewMemory(b.Name)
	if err != nil {
		return nil, err
	}
	if err := fill(f, b.Size, r); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// fill writes what is read into the memory and seals it. Bytes that are there
// already are written at once; the rest goes through a small buffer, or is
// copied by the kernel.
func fill(f *os.File, size int64, r io.Reader) error {
	var n int64
	var err error
	if there, ok := r.(*bytes.Reader); ok {
		n, err = there.WriteTo(f)
	} else {
		n, err = io.CopyN(f, r, size)
	}
	if err == nil && n != size {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("after %d of %d bytes: %w", n, size, err)
	}
	return ipc.Seal(f)
}
