package metrics

import (
	"math"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
)

// Classic buckets end at powers of two seconds, which are bounds of [ipc.LatencyBucket] too: so
// their counts are exact.
const (
	classicFrom = -10 // 2^-10 s: 0.98 ms
	classicTo   = 6   // 64 s
	perDoubling = 1 << ipc.LatencySchema
	// maxCount bounds a bucket: no honest worker comes there, and one whose differences overflow
	// has Prometheus refuse all metrics of the scrape.
	maxCount = 1 << 53
)

// doublings is the exponent of the first bucket's bound.
var doublings = int(math.Log2(ipc.LatencyBound(0)))

// histogram is of times, in both forms: classic buckets and a native histogram. client_golang's
// own constant ones are either.
type histogram struct {
	desc    *prometheus.Desc
	labels  []*dto.LabelPair
	buckets [ipc.LatencyBuckets]uint64
	seconds float64
}

// latency sends the times of requests.
func (s sink) latency(m *metric, r *counters.Route, labels ...string) {
	s.put(m, func(labels []string) (prometheus.Metric, error) {
		h := &histogram{m.desc, prometheus.MakeLabelPairs(m.desc, labels), r.Latency, float64(r.NS) / 1e9}
		for i, n := range h.buckets {
			h.buckets[i] = min(n, maxCount)
		}
		return h, nil
	}, labels)
}

// Desc is the metric's.
func (h *histogram) Desc() *prometheus.Desc { return h.desc }

// Write fills in both forms. What took longer than the last bound has the native bucket after it.
func (h *histogram) Write(out *dto.Metric) error {
	var (
		schema    = int32(ipc.LatencySchema)
		threshold = ipc.LatencyBound(0)
		sum       uint64
		upTo      [ipc.LatencyBuckets]uint64 // the sum of a bucket and all below
		d         = &dto.Histogram{Schema: &schema, ZeroThreshold: &threshold, ZeroCount: &h.buckets[0]}
	)
	for i, n := range h.buckets {
		sum += n
		upTo[i] = sum
	}
	for e := classicFrom; e <= classicTo; e++ {
		i := (e - doublings) * perDoubling
		bound, n := ipc.LatencyBound(i), upTo[i]
		d.Bucket = append(d.Bucket, &dto.Bucket{UpperBound: &bound, CumulativeCount: &n})
	}
	d.PositiveSpan, d.PositiveDelta = native(&h.buckets)
	d.SampleCount, d.SampleSum = &sum, &h.seconds
	out.Label, out.Histogram = h.labels, d
	return nil
}

// native are the buckets but the first in the form of native histograms: spans of those that
// follow one on the other, and of each the difference to the one before. One without any has an
// empty span, by which it is known.
func native(buckets *[ipc.LatencyBuckets]uint64) (spans []*dto.BucketSpan, deltas []int64) {
	next, before := int32(0), int64(0) // the index that would follow on the last; its count
	for i, n := range buckets[1:] {
		if n == 0 {
			continue
		}
		index := int32(doublings*perDoubling + i + 1)
		if len(spans) == 0 || index != next {
			offset, length := index-next, uint32(0)
			spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: &length})
		}
		*spans[len(spans)-1].Length++
		deltas = append(deltas, int64(n)-before)
		next, before = index+1, int64(n)
	}
	if len(spans) == 0 {
		offset, length := int32(0), uint32(0)
		spans = append(spans, &dto.BucketSpan{Offset: &offset, Length: &length})
	}
	return spans, deltas
}
