package logs

import (
	"slices"
	"time"
)

const (
	ringLines = 1000    // kept of each worker
	ringBytes = 1 << 20 // of their text
)

// record is one kept line.
type record struct {
	seq    uint64 // order among all workers
	at     time.Time
	stream string
	text   string
}

// ring holds the last lines of one worker, oldest first.
type ring struct {
	recs  []record
	bytes int
}

func (r *ring) add(rec record) {
	for len(r.recs) > 0 && (len(r.recs) == ringLines || r.bytes+len(rec.text) > ringBytes) {
		r.bytes -= len(r.recs[0].text)
		r.recs[0] = record{} // the array holds no text that is gone
		r.recs = r.recs[1:]
	}
	r.recs = append(r.recs, rec)
	r.bytes += len(rec.text)
}

// last is a copy of the newest n.
func (r *ring) last(n int) []record {
	return slices.Clone(r.recs[len(r.recs)-max(0, min(n, len(r.recs))):])
}
