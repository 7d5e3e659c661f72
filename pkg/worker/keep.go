package worker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker/internal/state"
)

const (
	// updateTries is how often UpdateKept begins anew because somebody else was
	// quicker.
	updateTries = 64
	// updateBackoff is how long it waits at most after the first time, twice as long
	// each time after, up to updateBackoffMax. Without that, one who is a little
	// slower than several others may never have his turn.
	updateBackoff    = 100 * time.Microsecond
	updateBackoffMax = 50 * time.Millisecond
)

// ErrNotKept: nothing is kept by that name. A program that starts for the first
// time, or whose master was restarted, finds it so.
var ErrNotKept = errors.New("nothing is kept by that name")

// KeepOption changes how something is kept.
type KeepOption func(*ipc.Blob)

// Persist keeps it across a stop of the service: the master writes it to its
// state directory as it ends, and reads it when it starts. Without it, what is
// kept is dropped then. It is written at no other time: after the death of the
// master or of the machine there is what was kept last or nothing, and never
// something older.
func Persist() KeepOption { return func(b *ipc.Blob) { b.Persist = true } }

// Keep has the master keep data by this name, in place of what it kept there:
// the next version, or a replacement of this process after a crash, finds it
// with [Worker.Kept]. Nobody ever sees half of it. When Keep has returned nil,
// the end of this process loses nothing of it.
//
// A name is 1 to 64 of a-z, A-Z, 0-9, ".", "_" and "-". How much is kept is
// limited by the service's configuration (state). The last writer wins, with
// two exceptions that keep a rollback safe, both of which are errors: a version
// that was never active may not replace what another version has kept, and one
// that is parked or drains may not replace what another has kept since it was
// told to park. Where several processes, or two versions, write by the same
// name, use [Worker.UpdateKept].
//
// All of these methods can be called at any time in a worker's life, also in
// BeforeReady functions and while it drains, by several goroutines. They wait
// for the master, and for the next one if it dies meanwhile, until the context's
// deadline, or for at most ten seconds if that has none; a worker makes about a
// hundred such requests a second, and is made to wait beyond that. A master that is too old
// is an error that is [errors.ErrUnsupported].
//
// Without a master they work within this process: a restart finds nothing.
func (w *Worker) Keep(ctx context.Context, name string, data []byte, opts ...KeepOption) error {
	return w.KeepFrom(ctx, name, bytes.NewReader(data), int64(len(data)), opts...)
}

// KeepFrom is Keep for what is large: size bytes are read from r, straight into
// the memory that is kept.
func (w *Worker) KeepFrom(ctx context.Context, name string, r io.Reader, size int64, opts ...KeepOption) error {
	if err := checkBlob(name, size); err != nil {
		return err
	}
	_, err := w.core.Store.Keep(ctx, blobOf(name, size, opts), r)
	return err
}

// Kept is what is kept by this name, or ErrNotKept.
func (w *Worker) Kept(ctx context.Context, name string) ([]byte, error) {
	k, err := w.fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	return k.Read()
}

// MapKept is Kept for what is large and only read: a model, a table. The bytes
// are those that the master keeps, mapped into this process; all processes that
// map them, of two versions too, share one copy.
func (w *Worker) MapKept(ctx context.Context, name string) (*Mapping, error) {
	k, err := w.fetch(ctx, name)
	if err != nil {
		return nil, err
	}
	defer k.Close()
	data, mapped, err := k.Map()
	if err != nil {
		return nil, err
	}
	return &Mapping{data: data, mapped: mapped}, nil
}

// UpdateKept replaces what is kept by what change makes of it, whoever else
// does the same meanwhile: change is called with what is kept (nil: nothing
// is), and again with something newer if another was quicker. An error of
// change's ends it. If the connection to the master breaks at the wrong moment
// it is not known whether the update was made, and the error says so.
func (w *Worker) UpdateKept(ctx context.Context, name string, change func(kept []byte) ([]byte, error), opts ...KeepOption) error {
	backoff := updateBackoff
	for try := range updateTries {
		if try > 0 {
			select {
			case <-time.After(rand.N(backoff)):
			case <-ctx.Done():
				return ctx.Err()
			}
			backoff = min(2*backoff, updateBackoffMax)
		}
		k, err := w.fetch(ctx, name)
		var before []byte
		none := errors.Is(err, ErrNotKept)
		switch {
		case none:
		case err != nil:
			return err
		default:
			before, err = k.Read()
			k.Close()
			if err != nil {
				return err
			}
		}
		after, err := change(before)
		if err != nil {
			return err
		}
		b := blobOf(name, int64(len(after)), opts)
		b.If, b.New = k.Blob.Revision, none
		answer, err := w.core.Store.Keep(ctx, b, bytes.NewReader(after))
		if err != nil || !answer.Changed {
			return err
		}
	}
	return fmt.Errorf("updating %s: others were quicker %d times in a row", name, updateTries)
}

// Forget lets go of what is kept by this name. That nothing is, is no error.
// Who may, is as for [Worker.Keep].
func (w *Worker) Forget(ctx context.Context, name string) error {
	if err := checkBlob(name, 0); err != nil {
		return err
	}
	return w.core.Store.Forget(ctx, name)
}

func (w *Worker) fetch(ctx context.Context, name string) (state.Value, error) {
	if err := checkBlob(name, 0); err != nil {
		return state.Value{}, err
	}
	k, found, err := w.core.Store.Fetch(ctx, name)
	if err == nil && !found {
		err = fmt.Errorf("%s: %w", name, ErrNotKept)
	}
	return k, err
}

func blobOf(name string, size int64, opts []KeepOption) ipc.Blob {
	b := ipc.Blob{Name: name, Size: size}
	for _, opt := range opts {
		opt(&b)
	}
	return b
}

func checkBlob(name string, size int64) error {
	if err := ipc.CheckBlobName(name); err != nil {
		return err
	}
	if size < 0 {
		return fmt.Errorf("keeping %s: a size of %d bytes", name, size)
	}
	return nil
}

// Mapping is kept memory that several processes share. It stays what it is when
// something else is kept by its name.
type Mapping struct {
	data   []byte
	mapped bool
	once   sync.Once
}

// Bytes is the memory. It cannot be written to (the process would end), and not
// be used after Close.
func (m *Mapping) Bytes() []byte { return m.data }

// Close gives the mapping back. It may be called more than once.
func (m *Mapping) Close() error {
	var err error
	m.once.Do(func() {
		data := m.data
		m.data = nil
		if m.mapped {
			err = unix.Munmap(data)
		}
	})
	return err
}
