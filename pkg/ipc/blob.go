package ipc

import (
	"fmt"
	"strings"
)

// MaxBlobName is the longest name of a blob, in bytes.
const MaxBlobName = 64

// Blob is state that a worker has its master keep, for the version that comes
// after it or for its own replacement: a name, and sealed memory beside the
// message. Blobs and their revisions are the service's, not a worker's.
type Blob struct {
	Name    string `json:"name"`
	Size    int64  `json:"size,omitempty"`    // bytes; keep, blob
	Persist bool   `json:"persist,omitempty"` // keep: also across a stop of the service
	// Revision grows with everything that is kept; kept, blob.
	Revision uint64 `json:"revision,omitempty"`
	// If and New make a keep or forget conditional: only while the blob's revision is
	// this one; only while there is none.
	If  uint64 `json:"if,omitempty"`
	New bool   `json:"new,omitempty"`
	// Changed, in kept: the condition did not hold, nothing was done. Revision
	// is the one that is kept; zero: none is.
	Changed bool `json:"changed,omitempty"`
	None    bool `json:"none,omitempty"` // blob: nothing is kept by that name
}

// Conditional: what was asked for is to be done only if nobody was quicker.
func (b Blob) Conditional() bool { return b.If != 0 || b.New }

// CheckBlobName says what is wrong with the name of a blob. Names become file
// names and are shown to people, so they are plain.
func CheckBlobName(name string) error {
	plain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r)
	}
	if name == "" || len(name) > MaxBlobName || strings.ContainsFunc(name, func(r rune) bool { return !plain(r) }) {
		return fmt.Errorf(`a blob's name is 1 to %d of a-z, A-Z, 0-9, ".", "_" and "-"; %q is not`, MaxBlobName, name[:min(len(name), MaxBlobName)])
	}
	return nil
}

// blobNeed is Validate for the messages about blobs. What the name may be is
// for the master to refuse with a word: a wrong one is the program's mistake,
// and must not cost the connection.
func (m Message) blobNeed() error {
	b := m.Blob
	return m.need(m.Seq >= 1 && b != nil && b.Name != "" && len(b.Name) <= 4*MaxBlobName && b.Size >= 0 && (b.If == 0 || !b.New),
		"a seq and a blob with a name, a size >= 0 and at most one condition")
}
