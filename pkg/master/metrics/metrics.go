// Package metrics says in Prometheus' form what the service has counted and how it is.
//
// Requests, errors and latency have no label of a generation: they are the service's, and no
// reload makes them fall. What is told by generation or worker goes when that is gone, so the
// number of series is bounded by what runs.
//
// A scrape asks the master for a copy and does all else beside its loop. Names and units are
// those of https://prometheus.io/docs/practices/naming/.
package metrics

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/counters"
)

const (
	// maxScrapes is how many scrapes are answered at one time; one more gets 503.
	maxScrapes = 4
	// scrapeTimeout is for one answer to be put together.
	scrapeTimeout = 8 * time.Second
)

// Source is where the numbers come from. Its functions may be called by any goroutine.
type Source struct {
	Status  func() api.Status
	Counts  func() counters.Snapshot
	Memory  func() (available uint64, known bool) // bytes that the machine, or the master's cgroup, has left
	Low     func() (bool, string)                 // whether that is too little, and a sentence; with Memory
	Version string                                // of masterd
}

// Handler answers scrapes, in the text form, OpenMetrics or protobuf, as is asked for. Native
// histograms are in the last alone.
func Handler(s Source) http.Handler {
	r := prometheus.NewRegistry()
	r.MustRegister(&collector{s}, collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return promhttp.HandlerFor(r, promhttp.HandlerOpts{
		MaxRequestsInFlight: maxScrapes, Timeout: scrapeTimeout, EnableOpenMetrics: true,
		ErrorHandling: promhttp.ContinueOnError, // what is wrong with one number hides no other
	})
}

// collector makes the metrics anew for each scrape.
type collector struct{ Source }

// Describe says every metric that Collect may send.
func (c *collector) Describe(out chan<- *prometheus.Desc) {
	for _, m := range all {
		out <- m.desc
	}
}

// Collect is called for each scrape.
func (c *collector) Collect(out chan<- prometheus.Metric) {
	s := sink{out}
	status, counts := c.Status(), c.Counts()
	s.send(buildInfo, 1, c.Version)
	s.service(status, counts)
	s.listeners(status)
	s.rollouts(status, counts)
	s.generations(status, counts)
	if c.Memory != nil {
		if available, known := c.Memory(); known {
			s.send(memoryAvailable, float64(available))
			low, _ := c.Low()
			s.send(memoryLow, one(low))
		}
	}
}

// sink is where one scrape's metrics go.
type sink struct{ out chan<- prometheus.Metric }

// send sends a number.
func (s sink) send(m *metric, value float64, labels ...string) {
	s.put(m, func(labels []string) (prometheus.Metric, error) {
		return prometheus.NewConstMetric(m.desc, m.kind, value, labels...)
	}, labels)
}

// summary sends how many there were, and their sum.
func (s sink) summary(m *metric, count uint64, sum float64, labels ...string) {
	s.put(m, func(labels []string) (prometheus.Metric, error) {
		return prometheus.NewConstSummary(m.desc, count, sum, nil, labels...)
	}, labels)
}

// put sends what new makes with labels that are fit: versions, routes and states come from others.
func (s sink) put(m *metric, new func(labels []string) (prometheus.Metric, error), labels []string) {
	for i, l := range labels {
		labels[i] = strings.ToValidUTF8(l, "\uFFFD")
	}
	made, err := new(labels)
	if err != nil {
		made = prometheus.NewInvalidMetric(m.desc, err)
	}
	s.out <- made
}

// metric is one that may be sent.
type metric struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

// all are the metrics there are. They are made before the program begins.
var all []*metric

func gauge(name, help string, labels ...string) *metric {
	return define(prometheus.GaugeValue, name, help, labels)
}

func counter(name, help string, labels ...string) *metric {
	return define(prometheus.CounterValue, name, help, labels)
}

// other is a histogram or a summary.
func other(name, help string, labels ...string) *metric {
	return define(prometheus.UntypedValue, name, help, labels)
}

func define(kind prometheus.ValueType, name, help string, labels []string) *metric {
	m := &metric{prometheus.NewDesc(name, help, labels, nil), kind}
	all = append(all, m)
	return m
}

func number(n uint64) string { return strconv.FormatUint(n, 10) }

// one is 1 for what is so.
func one(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// unix is a time as Prometheus has it.
func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// classes are the statuses of requests by class, as the rules that everybody has match them
// (status=~"5..").
var classes = [5]string{"1xx", "2xx", "3xx", "4xx", "5xx"}
