// Package monitoring scrapes a real masterd: as anybody does who may, and with -monitoring.prometheus
// by a real Prometheus with the rules that are shipped.
package monitoring

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

var withPrometheus = flag.Bool("monitoring.prometheus", false, "run a real Prometheus, which must be installed")

const patience = 60 * time.Second

var programs service.Programs

func TestMain(m *testing.M) { os.Exit(testMain(m)) }

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "masterd-monitoring-")
	if err == nil {
		defer func() { _ = os.RemoveAll(dir) }()
		programs, err = service.Build(context.Background(), dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return m.Run()
}

// serving is a service with metrics on TCP, and their address.
func serving(t *testing.T) (*service.Service, string) {
	t.Helper()
	s := servicetest.New(t, programs)
	address, err := service.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s.Config.Set("admin.metrics", address).Set("worker.processes", 2)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	return s, address
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !is(); time.Sleep(50 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// ask asks once, by a connection of its own.
func ask(t *testing.T, dial func(context.Context) (net.Conn, error), method, url string) (int, string, error) {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true}
	if dial != nil {
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) }
	}
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: tr, Timeout: 20 * time.Second}).Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// scrape is what there is on TCP, by name; nil: nobody answers.
func scrape(t *testing.T, address string) map[string]*dto.MetricFamily {
	t.Helper()
	code, body, err := ask(t, nil, http.MethodGet, "http://"+address+"/metrics")
	if err != nil || code != http.StatusOK {
		return nil
	}
	return parse(t, body)
}

func parse(t *testing.T, body string) map[string]*dto.MetricFamily {
	t.Helper()
	parser := expfmt.NewTextParser(model.UTF8Validation)
	all, err := parser.TextToMetricFamilies(strings.NewReader(body))
	if err != nil {
		t.Fatalf("%v in\n%s", err, body)
	}
	return all
}

// value adds up the metrics of a family that have these labels, given as name=value.
func value(f *dto.MetricFamily, labels ...string) (sum float64) {
	for _, m := range f.GetMetric() {
		n := 0
		for _, l := range m.GetLabel() {
			for _, want := range labels {
				if l.GetName()+"="+l.GetValue() == want {
					n++
				}
			}
		}
		if n == len(labels) {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

func TestScrape(t *testing.T) {
	s, address := serving(t)
	const n = 40
	for range n {
		if code, _, err := ask(t, nil, http.MethodGet, "http://"+s.Addr+"/ping"); err != nil || code != 200 {
			t.Fatal(code, err)
		}
	}
	labels := []string{"listener=http", "route=GET /ping", "status=2xx"}
	eventually(t, "the requests are counted", func() bool {
		return value(scrape(t, address)["http_requests_total"], labels...) == n
	})
	unix := func(ctx context.Context) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(s.Dir, "run", "admin.sock"))
	}
	code, body, err := ask(t, unix, http.MethodGet, "http://masterd/metrics")
	if err != nil || code != http.StatusOK {
		t.Fatal(code, err)
	}
	all := parse(t, body)
	if got := value(all["http_requests_total"], labels...); got != n {
		t.Errorf("the admin socket says %v requests, not %d", got, n)
	}
	h := all["http_request_duration_seconds"].GetMetric()
	if len(h) == 0 || len(h[0].GetHistogram().GetBucket()) != 18 { // 17 doublings and +Inf
		t.Errorf("latencies: %v", h)
	}
	if got := value(all["masterd_generation_workers"], "phase=active"); got != 2 {
		t.Errorf("%v active workers", got)
	}
	for _, name := range []string{"masterd_worker_resident_memory_bytes", "masterd_worker_open_fds", "masterd_worker_fds_ratio",
		"masterd_worker_goroutines", "masterd_memory_available_bytes", "masterd_accept_queue_limit", "process_open_fds"} {
		if value(all[name]) <= 0 {
			t.Errorf("%s is %v", name, all[name])
		}
	}
	for _, c := range []struct {
		method, path string
		want         int
	}{{"GET", "/", 200}, {"HEAD", "/metrics", 200}, {"POST", "/metrics", 405}, {"GET", "/v1/status", 404}, {"POST", "/v1/stop", 404}} {
		if code, _, err := ask(t, nil, c.method, "http://"+address+c.path); err != nil || code != c.want {
			t.Errorf("%s %s: %d, %v", c.method, c.path, code, err)
		}
	}
}

// What was counted is there after a reload and an upgrade, and the address with it.
func TestScrapeAfterAnUpgrade(t *testing.T) {
	s, address := serving(t)
	for range 10 {
		if _, _, err := ask(t, nil, http.MethodGet, "http://"+s.Addr+"/ping"); err != nil {
			t.Fatal(err)
		}
	}
	counted := func(n float64) func() bool {
		return func() bool { return value(scrape(t, address)["http_requests_total"], "route=GET /ping") == n }
	}
	eventually(t, "the requests are counted", counted(10))
	for _, verb := range []string{"reload", "upgrade"} {
		if out, code := s.CLI(t.Context(), verb); code != 0 {
			t.Fatalf("%s: %d\n%s", verb, code, out)
		}
		eventually(t, "it is there after the "+verb, counted(10))
	}
	eventually(t, "the reload is counted, once", func() bool {
		return value(scrape(t, address)["masterd_rollouts_total"], "what=reload", "outcome=done") == 1
	})
}

// Whoever has the port costs the service nothing.
func TestPortIsTaken(t *testing.T) {
	s := servicetest.New(t, programs)
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	address := other.Addr().String()
	s.Config.Set("admin.metrics", address)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if code, _, err := ask(t, nil, http.MethodGet, "http://"+s.Addr+"/ping"); err != nil || code != 200 {
		t.Errorf("%d, %v", code, err)
	}
	if err := s.Wait(t.Context(), patience, "a reason", func(st api.Status) bool {
		return strings.Contains(strings.Join(st.Reasons, " "), "Metrics are not served")
	}); err != nil {
		t.Fatal(err)
	}
	_ = other.Close()
	eventually(t, "it has the address", func() bool { return scrape(t, address) != nil })
	if err := s.WaitState(t.Context(), patience, "serving"); err != nil {
		t.Fatal(err)
	}
}

// A Prometheus as it is packaged scrapes it by the example, and its rules fire on a version that
// does not come up, and are quiet again.
func TestPrometheus(t *testing.T) {
	if !*withPrometheus {
		t.Skip("-monitoring.prometheus runs a real one: make monitoring")
	}
	program, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is not installed: Debian's package prometheus has it")
	}
	s, address := serving(t)
	dir := t.TempDir()
	for _, name := range []string{"masterd.rules.yml", "prometheus.yml"} {
		text, err := os.ReadFile("../../deploy/prometheus/" + name)
		if err != nil {
			t.Fatal(err)
		}
		short := strings.NewReplacer("127.0.0.1:9464", address, "_interval: 15s", "_interval: 1s", "[1m]", "[10s]", "[5m]", "[20s]",
			"[10m]", "[20s]").Replace(string(text))
		if err := os.WriteFile(filepath.Join(dir, name), []byte(short), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	web, err := service.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), program, "--config.file", filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path",
		filepath.Join(dir, "data"), "--web.listen-address", web, "--enable-feature=native-histograms")
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, 20*time.Second
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // after the test's context has ended
		_ = cmd.Wait()
		if text, err := os.ReadFile(log.Name()); err == nil && t.Failed() {
			t.Logf("%s", text)
		}
	})
	query := func(q string) (n int) {
		_, body, err := ask(t, nil, http.MethodGet, "http://"+web+"/api/v1/query?query="+url.QueryEscape(q))
		var answer struct{ Data struct{ Result []any } }
		if err != nil || json.Unmarshal([]byte(body), &answer) != nil {
			return -1
		}
		return len(answer.Data.Result)
	}
	has := func(q string) {
		t.Helper()
		eventually(t, q, func() bool {
			_, _, _ = ask(t, nil, http.MethodGet, "http://"+s.Addr+"/ping")
			return query(q) > 0
		})
	}
	has(`up{job="masterd",service="shop"} == 1`)
	has(`sum(rate(http_requests_total{status="2xx"}[10s])) > 0`)
	has(`histogram_quantile(0.9, sum(rate(http_request_duration_seconds[10s]))) > 0`) // native
	const fired = `ALERTS{alertname="MasterdRollback",alertstate="firing",service="shop"}`
	if query(fired) != 0 {
		t.Error("it fires before anything has happened")
	}
	s.Config.Set("worker.command", []string{"/bin/false"})
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	if out, code := s.CLI(t.Context(), "reload"); code == 0 {
		t.Fatalf("a program that ends at once is taken: %s", out)
	}
	has(fired)
	eventually(t, "it is quiet again", func() bool { return query(fired) == 0 })
}
