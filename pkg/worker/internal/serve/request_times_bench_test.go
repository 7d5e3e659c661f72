package serve

import "testing"

// What each request pays for it.
func BenchmarkRegister(b *testing.B) {
	r := newRequestTimes()
	var n uint64
	for b.Loop() {
		n++
		r.begin(n)
		r.end(n)
	}
}
