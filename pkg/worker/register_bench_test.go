package worker

import "testing"

// What each request pays for it.
func BenchmarkRegister(b *testing.B) {
	r := newRegister()
	var n uint64
	for b.Loop() {
		n++
		r.end(r.begin(n))
	}
}
