package blob

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/keeper"
)

// Limits bound what is kept.
type Limits struct {
	Blob  uint64 // bytes of one
	Total uint64 // bytes of all
	Count int
}

// Blob is one kept piece of memory.
type Blob struct {
	Name       string
	Size       int64
	FD         int // the set's, sealed: see ipc.CheckSealed
	Persist    bool
	Filed      bool   // the file that Load read it from is there, and says the same
	Generation uint64 // of the worker that kept it
	Since      time.Time
	Revision   uint64 // of all that is kept, the later the greater
}

// Set holds blobs by name. It belongs to one goroutine.
type Set struct {
	blobs  map[string]Blob
	bytes  uint64
	last   uint64 // revision
	keeper keeper.Holder
	disk   Disk
}

// New makes an empty set. Its revisions go on where those of a master that
// ended before now cannot have come: what a worker read from that one is never
// taken for what this one has. (Microseconds: JSON's numbers hold them exactly.)
func New(now time.Time) *Set {
	return &Set{keeper: keeper.Nobody{}, blobs: map[string]Blob{}, last: uint64(max(now.UnixMicro(), 1))}
}

// Revision is that of what was kept or forgotten last.
func (r *Set) Revision() uint64 { return r.last }

// Keep takes a blob over, in place of the one with its name: whoever asks gets
// the old or the new one, whole. On success the descriptor is the set's and
// the revision is returned, with the descriptor of the one that was replaced
// (-1: none), which is the caller's to close; an error leaves everything as it
// was. A worker that still maps the old memory has it until it lets go.
func (r *Set) Keep(b Blob, l Limits) (revision uint64, replaced int, err error) {
	if err := ipc.CheckBlobName(b.Name); err != nil {
		return 0, -1, err
	}
	old, there := r.blobs[b.Name]
	size, before := uint64(max(b.Size, 0)), uint64(old.Size)
	switch {
	case size > l.Blob:
		return 0, -1, fmt.Errorf("keeping %s: it has %s, state.blob allows %s", b.Name, amount(size), amount(l.Blob))
	case r.bytes-before+size > l.Total:
		return 0, -1, fmt.Errorf("keeping %s: with its %s there would be %s in all, state.total allows %s", b.Name,
			amount(size), amount(r.bytes-before+size), amount(l.Total))
	case !there && len(r.blobs) >= l.Count:
		return 0, -1, fmt.Errorf("keeping %s: %d blobs are kept already, state.count allows no more; forget some", b.Name,
			len(r.blobs))
	}
	r.last++
	b.Revision = r.last
	r.blobs[b.Name] = b
	r.bytes += size - before
	r.hold(b)
	replaced = -1
	if there {
		replaced = old.FD
	}
	return b.Revision, replaced, nil
}

// Forget lets a blob go. Its descriptor is the caller's to close; -1: there was
// none.
func (r *Set) Forget(name string) int {
	b, ok := r.blobs[name]
	if !ok {
		return -1
	}
	r.last++
	delete(r.blobs, name)
	r.bytes -= uint64(b.Size)
	r.keeper.Drop(HeldPrefix + name)
	return b.FD
}

// List is what is kept, by name.
func (r *Set) List() []Blob {
	all := make([]Blob, 0, len(r.blobs))
	for _, b := range r.blobs {
		all = append(all, b)
	}
	slices.SortFunc(all, func(a, b Blob) int { return cmp.Compare(a.Name, b.Name) })
	return all
}

// Close lets everything go. Nobody is told: who else holds it is for the next
// master, or ends as well.
func (r *Set) Close() {
	for name, b := range r.blobs {
		Release(b.FD)
		delete(r.blobs, name)
	}
	r.bytes = 0
}

// amount is a size as people read it.
func amount(n uint64) string { return humanize.IBytes(n) }
