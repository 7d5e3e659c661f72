package logs

import "time"

const (
	burstSeconds = 2 // of the rate that may come at once
	// an empty bucket passes lines again when it holds 1/resumeShare of a second's: runs of lines,
	// not shreds
	resumeShare = 4
)

// bucket lets so many bytes a second through.
type bucket struct {
	rate  float64 // zero: everything
	level float64
	at    time.Time
	empty bool // until it has filled a little
}

func newBucket(rate uint64, now time.Time) bucket {
	return bucket{rate: float64(rate), level: burstSeconds * float64(rate), at: now}
}

// fill adds what has come since.
func (b *bucket) fill(now time.Time) {
	if d := now.Sub(b.at); d > 0 {
		b.level = min(b.level+d.Seconds()*b.rate, burstSeconds*b.rate)
		b.at = now
	}
	if b.empty && b.level >= b.rate/resumeShare {
		b.empty = false
	}
}

// take asks for n bytes.
func (b *bucket) take(n int) bool {
	switch {
	case b.rate == 0:
		return true
	case b.empty:
		return false
	case b.level <= 0:
		b.empty = true
		return false
	}
	// The last line may overdraw, else a line longer than the bucket would
	// never pass.
	b.level -= float64(n)
	return true
}
