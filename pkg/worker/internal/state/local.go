package state

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/masterd/masterd/pkg/ipc"
)

// Local keeps blobs for a worker without a master: as long as the process
// lives, so that the same program works alone.
type Local struct {
	mu    sync.Mutex
	blobs map[string]Value
	last  uint64 // revision
}

// NewLocal returns a store that is empty.
func NewLocal() *Local { return &Local{blobs: make(map[string]Value)} }

func (l *Local) Keep(ctx context.Context, b ipc.Blob, r io.Reader) (ipc.Blob, error) {
	if err := ctx.Err(); err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: %w", b.Name, err)
	}
	data := make([]byte, b.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: reading %d bytes: %w", b.Name, b.Size, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	old, there := l.blobs[b.Name]
	if b.New && there || b.If != 0 && b.If != old.Blob.Revision {
		return ipc.Blob{Name: b.Name, Revision: old.Blob.Revision, Changed: true}, nil
	}
	l.last++
	b = ipc.Blob{Name: b.Name, Size: b.Size, Revision: l.last}
	l.blobs[b.Name] = Value{Blob: b, data: data}
	return b, nil
}

func (l *Local) Fetch(ctx context.Context, name string) (v Value, found bool, err error) {
	if err := ctx.Err(); err != nil {
		return Value{}, false, fmt.Errorf("asking for what is kept by the name %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v, found = l.blobs[name]
	return v, found, nil
}

func (l *Local) Forget(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("forgetting %s: %w", name, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.blobs, name)
	return nil
}
