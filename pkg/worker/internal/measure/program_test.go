package measure

import (
	"bytes"
	"fmt"
	"log/slog"
	"math"
	"strings"
	"sync"
	"testing"

	"github.com/masterd/masterd/pkg/ipc"
)

// told is what a program's measures are, and what its log has.
func told(t *testing.T, do func(*Program)) (map[string]ipc.MeasureCounts, string) {
	t.Helper()
	var log bytes.Buffer
	p := NewProgram(func() *slog.Logger { return slog.New(slog.NewTextHandler(&log, nil)) })
	do(p)
	c, more := NewSet().Report(p, 0).Next()
	if more {
		t.Error("measures have no room")
	}
	all := make(map[string]ipc.MeasureCounts)
	for _, m := range c.Measures {
		all[m.Name] = m
	}
	return all, log.String()
}

func TestProgramCountsAndObserves(t *testing.T) {
	all, log := told(t, func(p *Program) {
		var wg sync.WaitGroup
		for range 8 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				for range 1000 {
					p.Count("orders", 2)
					p.Observe("pool_ratio", 0.5)
				}
			}()
		}
		wg.Wait()
		p.Count("orders", -5)
		p.Count("nothing_yet", 0)
		p.Observe("pool_ratio", math.NaN())
		p.Observe("pool_ratio", math.Inf(-1))
		p.Observe("pool_ratio", 0.75)
	})
	for _, want := range []ipc.MeasureCounts{
		{Name: "orders", Total: 16000},
		{Name: "nothing_yet"},
		{Name: "pool_ratio", Observed: 8001, Sum: 4000.75, Last: 0.75},
	} {
		if all[want.Name] != want {
			t.Errorf("%+v, wanted %+v", all[want.Name], want)
		}
	}
	if len(all) != 3 || log != "" {
		t.Errorf("%+v; the log has %s", all, log)
	}
}

// A sum that is over all that a float64 can be would be no JSON: the beat would not be sent.
func TestASumStaysANumber(t *testing.T) {
	all, _ := told(t, func(p *Program) {
		p.Observe("high", math.MaxFloat64)
		p.Observe("high", math.MaxFloat64)
		p.Observe("low", -math.MaxFloat64)
		p.Observe("low", -math.MaxFloat64)
	})
	if all["high"].Sum != math.MaxFloat64 || all["low"].Sum != -math.MaxFloat64 {
		t.Errorf("%+v", all)
	}
}

func TestWhatIsOverALimitIsIgnoredAndLoggedOnce(t *testing.T) {
	all, log := told(t, func(p *Program) {
		for range 3 {
			for _, name := range []string{"", "1st", "a-b", "größe", "a b", "a\n", strings.Repeat("x", ipc.MaxName+1)} {
				p.Count(name, 1)
				p.Observe(name, 1)
			}
			p.Count("counted", 1)
			p.Observe("counted", 1)
			p.Observe("observed", 1)
			p.Count("observed", 1)
			p.Count(strings.Repeat("x", ipc.MaxName), 1)
			for n := range ipc.MaxMeasures {
				p.Count(fmt.Sprint("_m", n), 1)
			}
		}
	})
	if len(all) != ipc.MaxMeasures || all["_m28"].Total != 3 || all["_m29"].Total != 0 {
		t.Errorf("%d measures: %+v", len(all), all)
	}
	if c, o := all["counted"], all["observed"]; c.Total != 3 || c.Observed != 0 || o.Total != 0 || o.Observed != 3 {
		t.Errorf("mixed: %+v, %+v", c, o)
	}
	if n := strings.Count(log, "\n"); n != 4 {
		t.Errorf("the log has %d lines, wanted one of a name, one of the number, and two of kinds:\n%s", n, log)
	}
}
