package worker

import (
	"context"
	"fmt"
	"io"
	"sync"

	"github.com/masterd/masterd/pkg/ipc"
)

// pocket keeps blobs for a worker without a master: as long as the process
// lives, so that the same program works alone.
type pocket struct {
	mu    sync.Mutex
	blobs map[string]kept
	last  uint64 // revision
}

func newPocket() *pocket { return &pocket{blobs: make(map[string]kept)} }

func (p *pocket) keep(ctx context.Context, b ipc.Blob, r io.Reader) (ipc.Blob, error) {
	if err := ctx.Err(); err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: %w", b.Name, err)
	}
	data := make([]byte, b.Size)
	if _, err := io.ReadFull(r, data); err != nil {
		return ipc.Blob{}, fmt.Errorf("keeping %s: reading %d bytes: %w", b.Name, b.Size, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	old, there := p.blobs[b.Name]
	if b.New && there || b.If != 0 && b.If != old.blob.Revision {
		return ipc.Blob{Name: b.Name, Revision: old.blob.Revision, Changed: true}, nil
	}
	p.last++
	b = ipc.Blob{Name: b.Name, Size: b.Size, Revision: p.last}
	p.blobs[b.Name] = kept{blob: b, data: data}
	return b, nil
}

func (p *pocket) fetch(ctx context.Context, name string) (kept, error) {
	if err := ctx.Err(); err != nil {
		return kept{}, fmt.Errorf("asking for what is kept by the name %s: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	k, there := p.blobs[name]
	if !there {
		return kept{}, fmt.Errorf("%s: %w", name, ErrNotKept)
	}
	return k, nil
}

func (p *pocket) forget(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("forgetting %s: %w", name, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.blobs, name)
	return nil
}
