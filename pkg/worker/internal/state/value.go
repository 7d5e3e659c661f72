// Package state stores what outlives a worker's process, by name: a Client has the master
// keep it, a Local keeps it in this process where there is no master.
package state

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/ipc/fdpass"
)

// Store keeps blobs: the master does, or without one this process. Its methods may
// be called by any goroutine.
type Store interface {
	// Keep reads b.Size bytes from r and stores them as b says. The answer tells the
	// new revision, or that a condition of b did not hold.
	Keep(ctx context.Context, b ipc.Blob, r io.Reader) (ipc.Blob, error)
	// Fetch returns what is stored by the name. The caller closes it.
	Fetch(ctx context.Context, name string) (v Value, found bool, err error)
	// Forget drops what is stored by the name; that nothing is, is no error.
	Forget(ctx context.Context, name string) error
}

// Value is what was stored by a name: memory that is shared with the master, or bytes of
// this process. Close gives the memory back.
type Value struct {
	Blob   ipc.Blob
	memory *os.File // nil: data has it
	data   []byte
}

// Close closes the descriptor of the memory. What Map has returned stays.
func (v Value) Close() {
	if v.memory != nil {
		v.memory.Close()
	}
}

// Read returns a copy.
func (v Value) Read() ([]byte, error) {
	if v.memory == nil {
		return bytes.Clone(v.data), nil
	}
	data := make([]byte, v.Blob.Size)
	// ReadAt: where another process has read to is no business of ours.
	if _, err := v.memory.ReadAt(data, 0); err != nil {
		return nil, fmt.Errorf("reading what is kept by the name %s: %w", v.Blob.Name, err)
	}
	return data, nil
}

// Map returns the bytes for reading only; mapped: the caller ends the mapping with
// unix.Munmap.
func (v Value) Map() (data []byte, mapped bool, err error) {
	if v.memory == nil || v.Blob.Size == 0 { // nothing cannot be mapped
		return v.data, false, nil
	}
	err = fdpass.Control(v.memory, func(fd int) (err error) {
		data, err = unix.Mmap(fd, 0, int(v.Blob.Size), unix.PROT_READ, unix.MAP_SHARED)
		return err
	})
	if err != nil {
		return nil, false, fmt.Errorf("mapping what is kept by the name %s: %w", v.Blob.Name, err)
	}
	return data, true, nil
}
