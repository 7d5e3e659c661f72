package worker

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
)

const (
	// askTimeout bounds a request for kept state whose context has no deadline, with all that it waits for: a
	// master that is not there yet or not there any more, its turn, the answer.
	askTimeout = 10 * time.Second
	// askEvery and askBurst bound how many requests are made: one each askEvery
	// in the long run, so many at once after a rest. A master ends the connection of
	// a worker with more than 256 messages in a second; the rest is for answers.
	askEvery = time.Second / 128
	askBurst = 64
	// maxAsking is how many requests wait for their answers at one time.
	maxAsking = 16
)

// errLost: the connection broke before the answer came.
var errLost = errors.New("the connection to the master was lost before it answered")

// vault asks the master to keep blobs. The life's goroutine says which
// connection there is and brings the answers; anybody may ask.
type vault struct {
	turns chan struct{} // a place for each request that waits for its answer

	mu      sync.Mutex
	session *session // nil: there is no master now
	keeps   bool     // the master of this session keeps blobs
	ended   bool
	changed chan struct{} // closed and replaced when one of these changes
	seq     uint64        // of the last request, for as long as the process lives
	waiting map[uint64]*question
	next    time.Time // when the next request may be made, were there no burst
}

// question waits for its answer.
type question struct {
	session *session
	answer  chan answer // holds the one there will be
}

// answer is a message of the master's, or the end of the connection.
type answer struct {
	msg  ipc.Message
	fds  []int // the receiver's
	lost bool
}

func newVault() *vault {
	return &vault{turns: make(chan struct{}, maxAsking), changed: make(chan struct{}), waiting: make(map[uint64]*question)}
}

// up says that there is a master.
func (v *vault) up(s *session, keeps bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.session, v.keeps = s, keeps
	v.tellWaiting()
}

// down says that a connection is over.
func (v *vault) down(s *session) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.session == s {
		v.session = nil
	}
	v.lose(s)
}

// end says that there will be no master any more.
func (v *vault) end() {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.ended = true
	v.lose(v.session)
	v.session = nil
	v.tellWaiting()
}

// tellWaiting wakes those who wait for a connection. v.mu is held.
func (v *vault) tellWaiting() {
	close(v.changed)
	v.changed = make(chan struct{})
}

// lose answers those who wait for what cannot come. v.mu is held.
func (v *vault) lose(s *session) {
	for seq, r := range v.waiting {
		if r.session == s {
			delete(v.waiting, seq)
			r.answer <- answer{lost: true}
		}
	}
}

// answered hands an answer to who waits for it; one that nobody waits for any
// more is dropped.
func (v *vault) answered(m ipc.Message, fds []int) {
	v.mu.Lock()
	r := v.waiting[m.Seq]
	delete(v.waiting, m.Seq)
	v.mu.Unlock()
	if r == nil {
		closeAll(fds)
		return
	}
	r.answer <- answer{msg: m, fds: fds}
}

// connected waits for a master that keeps blobs.
func (v *vault) connected(ctx context.Context) (*session, error) {
	for {
		v.mu.Lock()
		s, keeps, ended, changed := v.session, v.keeps, v.ended, v.changed
		v.mu.Unlock()
		switch {
		case ended:
			return nil, errors.New("the worker has ended")
		case s != nil && !keeps:
			return nil, fmt.Errorf("this master is older than the program's SDK and keeps nothing; upgrade masterd: %w", errors.ErrUnsupported)
		case s != nil:
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("there is no connection to the master: %w", context.Cause(ctx))
		}
	}
}

// pace waits until one more request may be made.
func (v *vault) pace(ctx context.Context) error {
	v.mu.Lock()
	now := time.Now()
	at := v.next
	if rested := now.Add(-askBurst * askEvery); at.Before(rested) {
		at = rested
	}
	v.next = at.Add(askEvery)
	v.mu.Unlock()
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

// ask makes a request and waits for its answer: the message that was wanted.
// One that may be made twice is made again when the connection was lost; of
// others it is then not known whether they were followed.
func (v *vault) ask(ctx context.Context, m ipc.Message, want ipc.Type, twice bool, fds ...int) (answer, error) {
	if _, bounded := ctx.Deadline(); !bounded {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeoutCause(ctx, askTimeout, fmt.Errorf("gave up after %v: %w", askTimeout, context.DeadlineExceeded))
		defer cancel()
	}
	select {
	case v.turns <- struct{}{}:
		defer func() { <-v.turns }()
	case <-ctx.Done():
		return answer{}, fmt.Errorf("%d requests wait for the master's answers already: %w", maxAsking, context.Cause(ctx))
	}
	for {
		a, err := v.try(ctx, m, fds)
		switch {
		case err != nil:
			return answer{}, err
		case a.lost && twice:
			continue
		case a.lost:
			return answer{}, fmt.Errorf("%w: it is not known whether it was followed", errLost)
		case a.msg.Type == ipc.TypeRefused:
			closeAll(a.fds)
			return answer{}, fmt.Errorf("the master refuses: %s", a.msg.Text)
		case a.msg.Type != want || a.msg.Blob == nil:
			closeAll(a.fds)
			return answer{}, fmt.Errorf("the master answered %q instead of %q", a.msg.Type, want)
		}
		return a, nil
	}
}

// try makes a request once, on the connection that there is.
func (v *vault) try(ctx context.Context, m ipc.Message, fds []int) (answer, error) {
	if err := v.pace(ctx); err != nil {
		return answer{}, err
	}
	seq, r, err := v.enter(ctx)
	if err != nil {
		return answer{}, err
	}
	m.Seq = seq
	// Here and not in the session's writer, which has no place for descriptors.
	// A failure is the connection's end; the reader says so.
	if r.session.conn.Send(m, fds...) != nil {
		r.session.conn.Close()
	}
	select {
	case a := <-r.answer:
		return a, nil
	case <-ctx.Done():
		v.drop(seq, r)
		return answer{}, fmt.Errorf("the master has not answered: %w", context.Cause(ctx))
	}
}

// enter numbers a request that is about to be made on the connection there is.
func (v *vault) enter(ctx context.Context) (uint64, *question, error) {
	for {
		s, err := v.connected(ctx)
		if err != nil {
			return 0, nil, err
		}
		v.mu.Lock()
		if v.session != s { // it broke just now: nobody would tell us
			v.mu.Unlock()
			continue
		}
		v.seq++
		r := &question{session: s, answer: make(chan answer, 1)}
		v.waiting[v.seq] = r
		seq := v.seq
		v.mu.Unlock()
		return seq, r, nil
	}
}

// drop stops waiting for an answer; one that has come is thrown away.
func (v *vault) drop(seq uint64, r *question) {
	v.mu.Lock()
	_, still := v.waiting[seq]
	delete(v.waiting, seq)
	v.mu.Unlock()
	if !still {
		closeAll((<-r.answer).fds)
	}
}

func (v *vault) keep(ctx context.Context, b ipc.Blob, r io.Reader) (ipc.Blob, error) {
	f, err := sealedMemory(b, r)
	if err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: %w", b.Name, err)
	}
	defer f.Close()
	var a answer
	err = withFD(f, func(fd int) (err error) {
		a, err = v.ask(ctx, ipc.Message{Type: ipc.TypeKeep, Blob: &b}, ipc.TypeKept, !b.Conditional(), fd)
		return err
	})
	if err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: %w", b.Name, err)
	}
	return *a.msg.Blob, nil
}

func (v *vault) fetch(ctx context.Context, name string) (kept, error) {
	a, err := v.ask(ctx, ipc.Message{Type: ipc.TypeFetch, Blob: &ipc.Blob{Name: name}}, ipc.TypeBlob, true)
	if err != nil {
		return kept{}, fmt.Errorf("asking for what is kept by the name %s: %w", name, err)
	}
	b := *a.msg.Blob
	if b.None {
		return kept{}, fmt.Errorf("%s: %w", name, ErrNotKept)
	}
	// A mapping of what could shrink would end this process some day.
	if err := ipc.CheckSealed(a.fds[0], b.Size); err != nil {
		closeAll(a.fds)
		return kept{}, fmt.Errorf("what the master keeps by the name %s cannot be used: %w", name, err)
	}
	return kept{blob: b, memory: os.NewFile(uintptr(a.fds[0]), name)}, nil
}

func (v *vault) forget(ctx context.Context, name string) error {
	if _, err := v.ask(ctx, ipc.Message{Type: ipc.TypeForget, Blob: &ipc.Blob{Name: name}}, ipc.TypeKept, true); err != nil {
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

// withFD calls fn with the file's descriptor, which stays open and as it is
// meanwhile. (Fd would make it blocking.)
func withFD(f *os.File, fn func(fd int) error) error {
	raw, err := f.SyscallConn()
	if err != nil {
		return err
	}
	if cerr := raw.Control(func(fd uintptr) { err = fn(int(fd)) }); cerr != nil {
		return cerr
	}
	return err
}
