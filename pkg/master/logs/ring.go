package logs

import "time"

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

// ring holds the last lines of one worker.
type ring struct {
	recs  []record // a ring once it has reached ringLines
	first int
	count int
	bytes int
}

func (r *ring) add(rec record) {
	for r.count > 0 && (r.count == ringLines || r.bytes+len(rec.text) > ringBytes) {
		r.bytes -= len(r.recs[r.first].text)
		r.recs[r.first] = record{}
		r.first = (r.first + 1) % len(r.recs)
		r.count--
	}
	if r.count == len(r.recs) {
		r.grow()
	}
	r.recs[(r.first+r.count)%len(r.recs)] = rec
	r.count++
	r.bytes += len(rec.text)
}

func (r *ring) grow() {
	bigger := make([]record, min(max(16, 2*len(r.recs)), ringLines))
	for i := range r.count {
		bigger[i] = r.recs[(r.first+i)%len(r.recs)]
	}
	r.recs, r.first = bigger, 0
}

// last is a copy of the newest n, oldest first.
func (r *ring) last(n int) []record {
	n = max(0, min(n, r.count))
	out := make([]record, n)
	for i := range n {
		out[i] = r.recs[(r.first+r.count-n+i)%len(r.recs)]
	}
	return out
}
