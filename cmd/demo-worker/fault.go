package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/worker"
)

// faults are the ways in which this program has been told to fail: those of faultTable.
type faults struct {
	worker uint64 // this worker's id; zero without a master
	start  time.Time

	exit           int
	exitMessage    string
	startDelay     time.Duration
	hang           bool
	unhealthy      bool
	unhealthyAfter time.Duration
	healthDelay    time.Duration
	fail           string
	disturbance
	crash      bool
	crashAfter time.Duration
	leakMemory int
	logFlood   int
	ignoreTerm bool
}

// disturbance is what users meet, and probes do not.
type disturbance struct {
	failPercent  int
	countPercent int
	slow         time.Duration
	leakFiles    int          // one for each so many answers
	answers      atomic.Int64 // so far
}

// faultTable says which switches there are, for -h.
func faultTable() string {
	var b strings.Builder
	t := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, row := range [][2]string{
		{"DEMO_EXIT=CODE", "exits at start with this code"},
		{"DEMO_EXIT_MESSAGE=TEXT", "... and says this (default: that it was told to)"},
		{"DEMO_START_DELAY=2s", "takes so long to be ready"},
		{"DEMO_HANG=1", "is never ready"},
		{"DEMO_UNHEALTHY=1", "/healthz answers 500"},
		{"DEMO_UNHEALTHY_AFTER=10s", "... from so long after the start on"},
		{"DEMO_UNHEALTHY_ONE=odd", "... if the worker's id is odd"},
		{"DEMO_UNHEALTHY_ONE=FILE", "... if this process is the first to create FILE"},
		{"DEMO_HEALTH_DELAY=5s", "/healthz takes so long"},
		{"DEMO_FAIL=all|users", "every answer is 500; users: all but /healthz"},
		{"DEMO_FAIL_PERCENT=5", "so many answers in a hundred, by chance, are 500; not those to /healthz and /readyz"},
		{"DEMO_COUNT_PERCENT=5", "so many answers, likewise, are as ever, but counted as orders_failed"},
		{"DEMO_SLOW=100ms", "every answer takes so long more; not those to /healthz and /readyz"},
		{"DEMO_CRASH=1", "POST /crash ends the process at once (exit 3)"},
		{"DEMO_CRASH_AFTER=5s", "the process ends so long after its start (exit 3)"},
		{"DEMO_LEAK_MEMORY=10", "keeps so many MiB more each second"},
		{"DEMO_LEAK_FILES=100", "keeps one file more open with each so many answers, likewise"},
		{"DEMO_LOG_FLOOD=10000", "writes so many lines to standard error each second"},
		{"DEMO_IGNORE_TERM=1", "ignores TERM and INT, and hangs instead of exiting"},
	} {
		fmt.Fprintf(t, "  %s\t%s\n", row[0], row[1])
	}
	t.Flush()
	return b.String()
}

// readFaults must come before worker.New, which removes the worker's id from
// the environment.
func readFaults(getenv func(string) string) (*faults, error) {
	f := &faults{start: time.Now()}
	var bad []error
	number := func(key string) int {
		v := getenv(key)
		n, err := strconv.Atoi(v)
		if v != "" && (err != nil || n < 0) {
			bad = append(bad, fmt.Errorf("%s=%q is no number", key, v))
		}
		return n
	}
	duration := func(key string) time.Duration {
		v := getenv(key)
		d, err := time.ParseDuration(v)
		if v != "" && (err != nil || d < 0) {
			bad = append(bad, fmt.Errorf("%s=%q is no duration like 5s", key, v))
		}
		return d
	}
	flag := func(key string) bool { v := getenv(key); return v != "" && v != "0" }

	f.worker, _ = strconv.ParseUint(getenv(ipc.EnvWorker), 10, 64)
	f.exit = number("DEMO_EXIT")
	f.exitMessage = getenv("DEMO_EXIT_MESSAGE")
	if f.exitMessage == "" {
		f.exitMessage = fmt.Sprintf("told by DEMO_EXIT to end with %d", f.exit)
	}
	f.startDelay = duration("DEMO_START_DELAY")
	f.hang = flag("DEMO_HANG")
	f.unhealthy = flag("DEMO_UNHEALTHY")
	f.unhealthyAfter = duration("DEMO_UNHEALTHY_AFTER")
	f.healthDelay = duration("DEMO_HEALTH_DELAY")
	if f.failPercent = number("DEMO_FAIL_PERCENT"); f.failPercent > 100 {
		bad = append(bad, fmt.Errorf("DEMO_FAIL_PERCENT=%d is more than 100", f.failPercent))
	}
	if f.countPercent = number("DEMO_COUNT_PERCENT"); f.countPercent > 100 {
		bad = append(bad, fmt.Errorf("DEMO_COUNT_PERCENT=%d is more than 100", f.countPercent))
	}
	f.slow = duration("DEMO_SLOW")
	f.crash = flag("DEMO_CRASH")
	f.crashAfter = duration("DEMO_CRASH_AFTER")
	f.leakMemory = number("DEMO_LEAK_MEMORY")
	f.leakFiles = number("DEMO_LEAK_FILES")
	f.logFlood = number("DEMO_LOG_FLOOD")
	f.ignoreTerm = flag("DEMO_IGNORE_TERM")
	if f.fail = getenv("DEMO_FAIL"); f.fail != "" && f.fail != "all" && f.fail != "users" {
		bad = append(bad, fmt.Errorf("DEMO_FAIL=%q is neither all nor users", f.fail))
	}
	one, err := f.chosen(getenv("DEMO_UNHEALTHY_ONE"))
	if err != nil {
		bad = append(bad, err)
	}
	f.unhealthy = f.unhealthy || one
	return f, errors.Join(bad...)
}

// chosen: this is the one of several workers that is to be unhealthy.
func (f *faults) chosen(how string) (bool, error) {
	switch how {
	case "":
		return false, nil
	case "odd":
		return f.worker%2 == 1, nil
	}
	claim, err := os.OpenFile(how, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	switch {
	case errors.Is(err, os.ErrExist):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("DEMO_UNHEALTHY_ONE: %w", err)
	}
	fmt.Fprintln(claim, os.Getpid())
	return true, claim.Close()
}

// install adds the routes that can fail, and begins to fail by the clock.
func (f *faults) install(r *gin.Engine) {
	if f.fail != "" {
		r.Use(func(c *gin.Context) {
			if f.fail == "all" || c.Request.URL.Path != "/healthz" {
				c.String(http.StatusInternalServerError, "told by DEMO_FAIL to fail")
				c.Abort()
			}
		})
	}
	if f.failPercent+f.countPercent+f.leakFiles > 0 || f.slow > 0 {
		r.Use(f.disturb)
	}
	r.GET("/healthz", f.healthz)
	r.POST("/crash", func(c *gin.Context) {
		if !f.crash {
			c.String(http.StatusForbidden, "DEMO_CRASH is not set")
			return
		}
		die("POST /crash")
	})
	if f.crashAfter > 0 {
		time.AfterFunc(f.crashAfter, func() { die("DEMO_CRASH_AFTER") })
	}
	if f.leakMemory+f.logFlood > 0 {
		go f.leak() // until the process ends, as leaks do
	}
	if f.ignoreTerm {
		signal.Ignore(syscall.SIGTERM, syscall.SIGINT)
	}
}

// disturb has users wait, and some of them fail.
func (f *faults) disturb(c *gin.Context) {
	if p := c.Request.URL.Path; p == "/healthz" || p == "/readyz" {
		return
	}
	if f.slow > 0 {
		select {
		case <-time.After(f.slow):
		case <-c.Request.Context().Done():
		}
	}
	if f.leakFiles > 0 && f.answers.Add(1)%int64(f.leakFiles) == 0 {
		f.leakFile()
	}
	if rand.IntN(100) < f.countPercent {
		worker.CountContext(c, "orders_failed", 1)
	}
	if rand.IntN(100) < f.failPercent {
		worker.CountContext(c, "orders_failed", 1)
		c.String(http.StatusInternalServerError, "told by DEMO_FAIL_PERCENT to fail")
		c.Abort()
	}
}

func (f *faults) healthz(c *gin.Context) {
	if f.healthDelay > 0 {
		select {
		case <-time.After(f.healthDelay):
		case <-c.Request.Context().Done():
			return
		}
	}
	if f.unhealthy || f.unhealthyAfter > 0 && time.Since(f.start) >= f.unhealthyAfter {
		c.String(http.StatusInternalServerError, "told to be unhealthy")
		return
	}
	c.String(http.StatusOK, "ok")
}

// beforeReady is given to the worker.
func (f *faults) beforeReady(ctx context.Context) error {
	if f.hang {
		select {} // not even its context ends it: that is what a hang is
	}
	if f.startDelay > 0 {
		select {
		case <-time.After(f.startDelay):
		case <-ctx.Done():
		}
	}
	return nil
}

// beforeExit is called when the worker has drained.
func (f *faults) beforeExit() {
	if f.ignoreTerm {
		select {}
	}
}

func die(why string) {
	fmt.Fprintln(os.Stderr, "demo-worker: ending now, because of", why)
	os.Exit(3)
}
