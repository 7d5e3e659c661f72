package blob

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/keeper"
)

const (
	// maxMeta bounds what is told beside a blob's descriptor, in bytes.
	maxMeta = 1 << 10
	// maxRevision: JSON's numbers hold no greater one exactly (PROTOCOL.md).
	maxRevision = 1<<53 - 1
	// maxHeld bounds how many are taken over: beyond any sane state.count.
	maxHeld = 1 << 16
)

// HeldPrefix begins the names by which the keeper holds blobs.
const HeldPrefix = "blob/"

// Adopt takes over what the keeper has held for an earlier master. The descriptors are
// the set's from now on; of those that are not fit an error tells, and they are
// closed; the keeper is told nothing. Of two by one name
// the later is taken, also of one that is there. Revisions go on above all that
// the earlier master had come to.
//
// What has been kept is not measured by the configured limits: as with a reload
// that lowers them, they are asked when something new is to be kept.
func (r *Set) Adopt(held []keeper.Held) (failed []error) {
	for _, h := range held {
		if err := r.adopt(h); err != nil {
			failed = append(failed, fmt.Errorf("blob %.64q of the earlier master is not taken over: %w",
				strings.TrimPrefix(h.Name, HeldPrefix), err))
			if h.FD >= 0 {
				Release(h.FD)
			}
		}
	}
	return failed
}

func (r *Set) adopt(h keeper.Held) error {
	b, last, err := parseMeta(strings.TrimPrefix(h.Name, HeldPrefix), h.Meta)
	if err != nil {
		return err
	}
	r.Above(last)
	if err := ipc.CheckSealed(h.FD, b.Size); err != nil {
		return err
	}
	old, there := r.blobs[b.Name]
	switch {
	case there && old.Revision >= b.Revision:
		return fmt.Errorf("a later one is here: revision %d, not %d", old.Revision, b.Revision)
	case !there && len(r.blobs) >= maxHeld:
		return fmt.Errorf("there are %d already", maxHeld)
	case there:
		Release(old.FD)
	}
	b.FD = h.FD
	r.blobs[b.Name] = b
	r.bytes += uint64(b.Size) - uint64(old.Size)
	return nil
}

// Above has revisions go on above this one, if they are not there already.
func (r *Set) Above(revision uint64) { r.last = max(r.last, revision) }

// meta is the form of what is told beside a descriptor. It is apart from Blob so
// that renaming a field there cannot make it unreadable for another version.
type meta struct {
	Size       int64     `json:"size"`
	Persist    bool      `json:"persist,omitempty"`
	Filed      bool      `json:"filed,omitempty"`
	Generation uint64    `json:"generation"`
	Since      time.Time `json:"since"`
	Revision   uint64    `json:"revision"`
	Last       uint64    `json:"last,omitempty"` // of all that was kept or forgotten by then
}

func (r *Set) metaOf(b Blob) []byte {
	text, err := json.Marshal(meta{
		Size: b.Size, Persist: b.Persist, Filed: b.Filed, Generation: b.Generation, Since: b.Since.UTC().Round(0),
		Revision: b.Revision, Last: r.last,
	})
	if err != nil { // a year beyond 9999
		text, _ = json.Marshal(meta{Size: b.Size, Persist: b.Persist, Filed: b.Filed, Generation: b.Generation,
			Revision: b.Revision, Last: r.last})
	}
	return text
}

func parseMeta(name string, text []byte) (b Blob, last uint64, err error) {
	if err := ipc.CheckBlobName(name); err != nil {
		return Blob{}, 0, err
	}
	if len(text) > maxMeta {
		return Blob{}, 0, fmt.Errorf("what is told of it has %d bytes, at most %d are read", len(text), maxMeta)
	}
	var m meta
	if err := json.Unmarshal(bytes.TrimSpace(text), &m); err != nil {
		return Blob{}, 0, fmt.Errorf("what is told of it is not of the form that is known: %w", err)
	}
	if m.Size < 0 || m.Revision == 0 || m.Revision > maxRevision || m.Last > maxRevision {
		return Blob{}, 0, errors.New("what is told of it cannot be: " + string(text))
	}
	return Blob{
		Name: name, Size: m.Size, FD: -1, Persist: m.Persist, Filed: m.Filed, Generation: m.Generation, Since: m.Since,
		Revision: m.Revision,
	}, max(m.Last, m.Revision), nil
}

// hold has the keeper hold a blob, before anybody is answered that it is kept.
func (r *Set) hold(b Blob) { r.keeper.Put(HeldPrefix+b.Name, r.metaOf(b), b.FD) }
