package metrics

import (
	"bytes"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/counters"
)

// fake is a service with so many workers in each of two generations, and so many routes.
func fake(workers, routes int) Source {
	now := time.Unix(1_800_000_000, 0)
	st := api.Status{
		Service: "shop", Environment: "production", State: "serving", Master: api.Master{Since: now},
		Listeners: []api.Listener{{Name: "http", Queue: 3, QueueLimit: 4096}},
		Rollout: &api.Rollout{What: "reload", Stage: "bake", Since: now, Deadline: now.Add(time.Minute),
			Analysis: &api.Analysis{Evidence: 12, Wanted: 100, Candidate: api.Compared{Connections: 52, WithError: 6}}},
		Hold: &api.Hold{Reason: "a fair", By: "alice"},
	}
	c := counters.Snapshot{
		Generations: map[uint64]counters.Totals{}, Workers: map[uint64]counters.Worker{},
		Rollouts: map[counters.Outcome]uint64{{What: "reload", Outcome: "done"}: 4},
		Stages:   map[string]counters.Duration{"bake": {Count: 4, Seconds: 40}}, Restarts: 2,
	}
	for g := uint64(1); g <= 2; g++ {
		gen := api.Generation{ID: g, Phase: "active", Share: 50, Version: api.Version{Label: fmt.Sprint("v", g)}}
		for w := range workers {
			id := g*1000 + uint64(w)
			gen.Workers = append(gen.Workers, api.Worker{ID: id, PID: 7, Phase: "active", RSS: 1 << 20, FDs: 9, FDLimit: 1024,
				CPUSeconds: 1.5, ProbeMS: 2, InFlight: 2, LongestMS: 1500, Deadline: now})
			c.Workers[id] = counters.Worker{Generation: g, MaxInFlight: 10, Goroutines: 12,
				Listeners: []ipc.ListenerCounts{{Listener: "http", InFlight: 2, Open: 5}},
				Go:        &ipc.GoCounts{Heap: 1 << 20, GCs: 3, PauseNS: 3e6, PauseMaxNS: 2e6},
				Last:      map[string]float64{"pool_ratio": 0.5}}
		}
		st.Generations = append(st.Generations, gen)
		c.Generations[g] = totals(routes)
	}
	c.Service = totals(routes)
	return Source{
		Status: func() api.Status { return st }, Counts: func() counters.Snapshot { return c },
		Memory: func() (uint64, bool) { return 1 << 30, true }, Low: func() (bool, string) { return true, "" }, Version: "1.2.3",
	}
}

func totals(routes int) counters.Totals {
	t := counters.Totals{
		Routes: map[counters.RouteKey]*counters.Route{}, Accepted: map[string]uint64{"http": 5},
		Measures: map[string]*counters.Measure{"orders_failed": {Total: 3}, "pool_ratio": {Observed: 2, Sum: 1.5}},
		Lost:     1, Cut: 2, HandedOver: 3, Refused: 4, SlowBodies: 5,
	}
	for i := range routes {
		r := &counters.Route{Status: [5]uint64{0, 90, 0, 6, 4}, NS: 100 * 5e6, BytesIn: 10, BytesOut: 1000}
		for _, ns := range []uint64{1000, 3e6, 5e6, 5e6, 200e6, 300e9} {
			r.Latency[ipc.LatencyBucket(ns)] += 10
		}
		t.Routes[counters.RouteKey{Listener: "http", Route: fmt.Sprint("GET /", i)}] = r
	}
	return t
}

// scrape asks as Prometheus does.
func scrape(t testing.TB, s Source, accept string) (string, []byte) {
	t.Helper()
	r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
	r.Header.Set("Accept", accept)
	w := httptest.NewRecorder()
	Handler(s).ServeHTTP(w, r)
	if w.Code != http.StatusOK {
		t.Fatalf("%d: %s", w.Code, w.Body)
	}
	return w.Header().Get("Content-Type"), w.Body.Bytes()
}

const protobuf = "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited"

// families are what a scrape brings, by name, in the form that has native histograms too.
func families(t testing.TB, s Source) map[string]*dto.MetricFamily {
	t.Helper()
	_, body := scrape(t, s, protobuf)
	all := map[string]*dto.MetricFamily{}
	for r := bytes.NewReader(body); r.Len() > 0; {
		f := &dto.MetricFamily{}
		if err := protodelim.UnmarshalFrom(r, f); err != nil {
			t.Fatal(err)
		}
		all[f.GetName()] = f
	}
	return all
}

// labelled is the metric of a family with these labels, given as name and value in turn.
func labelled(t testing.TB, f *dto.MetricFamily, want ...string) *dto.Metric {
	t.Helper()
	for _, m := range f.GetMetric() {
		n := 0
		for _, l := range m.GetLabel() {
			for i := 0; i < len(want); i += 2 {
				if l.GetName() == want[i] && l.GetValue() == want[i+1] {
					n++
				}
			}
		}
		if n == len(want)/2 {
			return m
		}
	}
	t.Fatalf("%s has none with %q", f.GetName(), want)
	return nil
}

func TestNamesAreThoseOfPrometheus(t *testing.T) {
	_, body := scrape(t, fake(1, 2), "text/plain")
	problems, err := promlint.New(bytes.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// Everything that is defined is sent by a service that has everything, or nobody knows that it is wrong.
func TestEveryMetricIsSent(t *testing.T) {
	sent := map[string]bool{}
	out := make(chan prometheus.Metric)
	go func() { (&collector{fake(1, 1)}).Collect(out); close(out) }()
	for m := range out {
		sent[m.Desc().String()] = true
	}
	for _, m := range all {
		if !sent[m.desc.String()] {
			t.Errorf("never sent: %s", m.desc)
		}
	}
}

func TestRequestsAreTheService(t *testing.T) {
	f := families(t, fake(2, 2))
	m := labelled(t, f["http_requests_total"], "listener", "http", "route", "GET /1", "status", "5xx")
	if m.GetCounter().GetValue() != 4 || len(m.GetLabel()) != 3 {
		t.Errorf("%v", m)
	}
	g := labelled(t, f["masterd_generation_requests_total"], "generation", "2", "version", "v2", "status", "2xx")
	if g.GetCounter().GetValue() != 180 {
		t.Errorf("%v", g)
	}
	if n := labelled(t, f["masterd_generation_connections"], "generation", "1").GetGauge().GetValue(); n != 10 {
		t.Errorf("%v connections", n)
	}
}

// Classic buckets and the native histogram have the same requests.
func TestHistogramHasBothForms(t *testing.T) {
	h := labelled(t, families(t, fake(1, 1))["http_request_duration_seconds"]).GetHistogram()
	if h.GetSampleCount() != 60 || h.GetSampleSum() != 0.5 {
		t.Errorf("%d requests, %v s", h.GetSampleCount(), h.GetSampleSum())
	}
	at := map[float64]uint64{}
	for _, b := range h.GetBucket() {
		at[b.GetUpperBound()] = b.GetCumulativeCount()
	}
	// 1 µs, 3 ms, 5 ms twice, 200 ms and 300 s, ten of each.
	for bound, want := range map[float64]uint64{1. / 1024: 10, 1. / 256: 20, 1. / 128: 40, 1. / 8: 40, 1. / 4: 50, 64: 50} {
		if at[bound] != want {
			t.Errorf("up to %v s: %d, not %d", bound, at[bound], want)
		}
	}
	if h.GetSchema() != 3 || h.GetZeroThreshold() != math.Exp2(-17) || h.GetZeroCount() != 10 {
		t.Errorf("schema %d, at most %v s: %d", h.GetSchema(), h.GetZeroThreshold(), h.GetZeroCount())
	}
	// The native ones, as its specification has them: each bucket ends at 2^(index/8).
	sum, n, i, index := int64(0), int64(0), 0, int32(0)
	for _, span := range h.GetPositiveSpan() {
		index += span.GetOffset()
		for range span.GetLength() {
			n += h.GetPositiveDelta()[i]
			sum += n
			end := math.Exp2(float64(index) / 8)
			within := false
			for _, s := range []float64{0.003, 0.005, 0.2, 128.1} { // what is longer has the last
				within = within || s <= end && s > end/math.Exp2(1./8)
			}
			if n > 0 && !within {
				t.Errorf("%d requests took up to %v s", n, end)
			}
			i, index = i+1, index+1
		}
	}
	if sum != 50 || i != len(h.GetPositiveDelta()) {
		t.Errorf("%d requests in %d of %d buckets", sum, i, len(h.GetPositiveDelta()))
	}
}

// Whatever a worker has said, spans and deltas are the counts again when they are read as Prometheus
// does, which refuses a scrape where they are not.
func TestNativeBucketsCanBeRead(t *testing.T) {
	const most = math.MaxUint64
	for _, set := range []map[int]uint64{
		{0: 5}, {1: 1, 2: 9, 3: 2}, {1: 1, 5: 1, 6: 7, 100: 3, 193: 2}, {0: most, 50: most, 51: 1, 52: most, 193: most},
	} {
		r := &counters.Route{}
		for i, n := range set {
			r.Latency[i] = n
		}
		out := make(chan prometheus.Metric, 1)
		sink{out}.latency(durations, r, "http", "/")
		var m dto.Metric
		if err := (<-out).Write(&m); err != nil {
			t.Fatal(err)
		}
		h := m.GetHistogram()
		total, n, i, index := h.GetZeroCount(), int64(0), 0, int32(0)
		for _, span := range h.GetPositiveSpan() {
			index += span.GetOffset()
			for range span.GetLength() {
				n += h.GetPositiveDelta()[i]
				if want := min(set[int(index)+136], 1<<53); n <= 0 || uint64(n) != want {
					t.Errorf("%v: bucket %d has %d, want %d", set, index+136, n, want)
				}
				total += uint64(n)
				i, index = i+1, index+1
			}
		}
		if total != h.GetSampleCount() {
			t.Errorf("%v: %d in the buckets of %d", set, total, h.GetSampleCount())
		}
	}
}

// The first rollout that fails is an increase.
func TestFirstFailureIsAnIncrease(t *testing.T) {
	s := fake(1, 1)
	s.Counts = func() counters.Snapshot { return counters.Snapshot{} }
	m := labelled(t, families(t, s)["masterd_rollouts_total"], "what", "reload", "outcome", "rolled-back")
	if m == nil || m.GetCounter().GetValue() != 0 {
		t.Errorf("%v", m)
	}
}

func TestOpenMetrics(t *testing.T) {
	kind, body := scrape(t, fake(1, 1), "application/openmetrics-text; version=1.0.0")
	if !strings.HasPrefix(kind, "application/openmetrics-text") || !bytes.HasSuffix(body, []byte("# EOF\n")) {
		t.Errorf("%s: %s", kind, body)
	}
}

func TestEmptyHistogramIsNativeToo(t *testing.T) {
	spans, deltas := native(&[ipc.LatencyBuckets]uint64{})
	if len(spans) != 1 || spans[0].GetLength() != 0 || len(deltas) != 0 {
		t.Errorf("%v %v", spans, deltas)
	}
}

// Odd names of others cost no scrape.
func TestOddLabels(t *testing.T) {
	s := fake(1, 1)
	st, c := s.Status(), s.Counts()
	st.Generations[0].Version.Label = "v\xff\n\"1"
	c.Service.Routes[counters.RouteKey{Listener: "http", Route: "GET /\"\\\n\xc3"}] = &counters.Route{}
	s.Status, s.Counts = func() api.Status { return st }, func() counters.Snapshot { return c }
	_, body := scrape(t, s, "text/plain")
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(bytes.NewReader(body)); err != nil {
		t.Error(err)
	}
}

func TestNothingYet(t *testing.T) {
	s := Source{Status: func() api.Status { return api.Status{State: "stopping"} },
		Counts: func() counters.Snapshot { return counters.Snapshot{} }}
	if f := families(t, s); f["masterd_service_state"] == nil || f["masterd_memory_available_bytes"] != nil {
		t.Errorf("%d families", len(f))
	}
}

// BenchmarkScrape is of 64 workers and 20 routes.
func BenchmarkScrape(b *testing.B) {
	for name, accept := range map[string]string{"text": "text/plain", "protobuf": protobuf} {
		b.Run(name, func(b *testing.B) {
			s := fake(32, 20)
			h := Handler(s)
			r := httptest.NewRequest(http.MethodGet, "/metrics", nil)
			r.Header.Set("Accept", accept)
			b.ReportAllocs()
			for b.Loop() {
				h.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
