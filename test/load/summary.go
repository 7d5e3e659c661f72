package load

import "github.com/HdrHistogram/hdrhistogram-go"

// Summary is a Result without histograms, for JSON.
type Summary struct {
	Seconds        float64          `json:"seconds"`
	Requests       uint64           `json:"requests"`
	Kept           uint64           `json:"kept"`
	Fresh          uint64           `json:"new"`
	FailedKept     uint64           `json:"failed_kept"`
	FailedFresh    uint64           `json:"failed_new"`
	Unsent         uint64           `json:"unsent"`
	Connections    uint64           `json:"connections"`
	ClosedPolitely uint64           `json:"closed_politely"`
	ClosedIdle     uint64           `json:"closed_idle"`
	ResetAfter     uint64           `json:"reset_after"`
	LeftOpen       uint64           `json:"left_open"`
	Failures       map[Kind]Failure `json:"failures"`
	Versions       map[string]Seen  `json:"versions"`
	LatencyKept    Latency          `json:"latency_kept"`
	LatencyFresh   Latency          `json:"latency_new"`
}

// Latency is a histogram's usual points, in microseconds.
type Latency struct {
	P50  int64 `json:"p50_us"`
	P90  int64 `json:"p90_us"`
	P99  int64 `json:"p99_us"`
	P999 int64 `json:"p999_us"`
	Max  int64 `json:"max_us"`
}

// Summary returns the result in numbers.
func (r *Result) Summary() Summary {
	return Summary{
		Seconds: r.Elapsed.Seconds(), Requests: r.Requests, Kept: r.Kept, Fresh: r.Fresh,
		FailedKept: r.FailedKept, FailedFresh: r.FailedFresh, Unsent: r.Unsent, Connections: r.Connections,
		ClosedPolitely: r.ClosedPolitely, ClosedIdle: r.ClosedIdle, ResetAfter: r.ResetAfter, LeftOpen: r.LeftOpen,
		Failures: r.Failures, Versions: r.Versions,
		LatencyKept: latencyOf(r.LatencyKept), LatencyFresh: latencyOf(r.LatencyFresh),
	}
}

func latencyOf(h *hdrhistogram.Histogram) Latency {
	return Latency{
		P50: h.ValueAtQuantile(50), P90: h.ValueAtQuantile(90), P99: h.ValueAtQuantile(99),
		P999: h.ValueAtQuantile(99.9), Max: h.Max(),
	}
}
