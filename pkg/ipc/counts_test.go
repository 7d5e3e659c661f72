package ipc

import (
	"math"
	"math/big"
	"math/rand/v2"
	"testing"
)

// seconds is a time in nanoseconds, exactly.
func seconds(ns uint64) *big.Rat {
	return new(big.Rat).SetFrac(new(big.Int).SetUint64(ns), big.NewInt(1e9))
}

// belongs tells whether a time is in the bucket by what LatencyBound says: above the bound below,
// and at most its own.
func belongs(ns uint64, bucket int) bool {
	s := seconds(ns)
	over := func(b int) bool { return s.Cmp(new(big.Rat).SetFloat64(LatencyBound(b))) > 0 }
	return (bucket == 0 || over(bucket-1)) && (bucket == LatencyBuckets-1 || !over(bucket))
}

func TestALatencyIsWithinItsBounds(t *testing.T) {
	check := func(ns uint64) {
		t.Helper()
		if b := LatencyBucket(ns); b < 0 || b >= LatencyBuckets {
			t.Errorf("%d ns are in bucket %d", ns, b)
		} else if !belongs(ns, b) {
			t.Errorf("%d ns are in bucket %d, up to %g s", ns, b, LatencyBound(b))
		}
	}
	for ns := range uint64(20_000) {
		check(ns)
	}
	r := rand.New(rand.NewPCG(1, 2))
	for range 200_000 {
		check(r.Uint64() >> r.IntN(64))
	}
	for b := range LatencyBuckets - 1 { // around each bound
		at := uint64(LatencyBound(b) * 1e9)
		for ns := at - 2; ns <= at+2; ns++ {
			check(ns)
		}
	}
}

// A bound belongs to the bucket below it, as in Prometheus' histograms (le). Those that are whole
// nanoseconds are the powers of two from 2^-9 s on.
func TestABoundBelongsBelow(t *testing.T) {
	for exp := -9; exp <= 7; exp++ {
		ns, bucket := uint64(math.Exp2(float64(exp+9)))*1_953_125, (exp-latencyFrom)*perDoubling
		if LatencyBound(bucket) != math.Exp2(float64(exp)) {
			t.Fatalf("bucket %d ends at %g", bucket, LatencyBound(bucket))
		}
		if got, next := LatencyBucket(ns), LatencyBucket(ns+1); got != bucket || next != bucket+1 {
			t.Errorf("2^%d s are in bucket %d and a nanosecond more in %d, wanted %d and the next", exp, got, next, bucket)
		}
	}
}

func TestLatencyBuckets(t *testing.T) {
	for ns, want := range map[uint64]int{
		0: 0, 1: 0, 7629: 0, 7630: 1,
		128_000_000_000: LatencyBuckets - 2, 128_000_000_001: LatencyBuckets - 1,
		1 << 50: LatencyBuckets - 1, math.MaxInt64: LatencyBuckets - 1, math.MaxUint64: LatencyBuckets - 1,
	} {
		if got := LatencyBucket(ns); got != want {
			t.Errorf("%d ns are in bucket %d, wanted %d", ns, got, want)
		}
	}
	if !math.IsInf(LatencyBound(LatencyBuckets-1), 1) {
		t.Error("the last bucket ends")
	}
	for b := 1; b < LatencyBuckets-1; b++ {
		if ratio := LatencyBound(b) / LatencyBound(b-1); math.Abs(ratio-math.Exp2(1.0/8)) > 1e-9 {
			t.Errorf("bucket %d is %g times as far as the one before", b, ratio)
		}
	}
	ns := uint64(0)
	if n := testing.AllocsPerRun(1000, func() { LatencyBucket(ns); ns += 1234567 }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkLatencyBucket(b *testing.B) {
	ns := uint64(0)
	for b.Loop() {
		LatencyBucket(ns)
		ns += 1234567
	}
}
