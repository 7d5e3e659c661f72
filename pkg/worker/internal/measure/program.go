package measure

import (
	"log/slog"
	"maps"
	"math"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/masterd/masterd/pkg/ipc"
)

// Program are the measures of a program's own. Its methods may be called by any goroutine.
type Program struct {
	log func() *slog.Logger // called when there is something to say

	all atomic.Pointer[map[string]*own] // never changed, but replaced
	mu  sync.Mutex                      // of who replaces it

	badName, tooMany atomic.Bool // the log has that line
}

// NewProgram returns what has no measures yet.
func NewProgram(log func() *slog.Logger) *Program {
	p := &Program{log: log}
	p.all.Store(&map[string]*own{})
	return p
}

// own is one measure of the program's own: counted or observed, as it was first.
type own struct {
	name     string
	observes bool
	mixed    atomic.Bool // the log has a line about that

	n    atomic.Uint64 // what was counted, or how many values were observed
	sum  atomic.Uint64 // of the values, the bits of a float64
	last atomic.Uint64 // of the values, likewise
}

// Count adds to a measure that is counted.
func (p *Program) Count(name string, n int) {
	if n < 0 {
		return
	}
	if m := p.find(name, false); m != nil {
		m.n.Add(uint64(n))
	}
}

// Observe adds a value to a measure that is observed.
func (p *Program) Observe(name string, value float64) {
	if math.IsNaN(value) || math.IsInf(value, 0) {
		return
	}
	m := p.find(name, true)
	if m == nil {
		return
	}
	for {
		old := m.sum.Load()
		sum := math.Float64frombits(old) + value
		if math.IsInf(sum, 0) { // which JSON does not know
			sum = math.Copysign(math.MaxFloat64, sum)
		}
		if m.sum.CompareAndSwap(old, math.Float64bits(sum)) {
			break
		}
	}
	m.last.Store(math.Float64bits(value))
	m.n.Add(1) // last: by this a report sees that the rest has changed
}

// find is nil where the measure is not to be counted in this way.
func (p *Program) find(name string, observes bool) *own {
	m := (*p.all.Load())[name]
	if m == nil {
		if m = p.add(name, observes); m == nil {
			return nil
		}
	}
	if m.observes != observes {
		if once(&m.mixed) {
			p.log().Warn("worker: a measure is either counted or observed, whichever came first; the rest is ignored",
				"measure", m.name, "counted", !m.observes)
		}
		return nil
	}
	return m
}

// add is called for a name that is not known. It takes no lock for one that will not be.
func (p *Program) add(name string, observes bool) *own {
	if !ipc.IsMeasure(name) {
		if once(&p.badName) {
			p.log().Warn("worker: a measure is ignored because of its name, which needs letters, digits and _, no digit first",
				"measure", cut(name[:min(len(name), 2*ipc.MaxName)], ipc.MaxName), "longest", ipc.MaxName)
		}
		return nil
	}
	if len(*p.all.Load()) >= ipc.MaxMeasures {
		return p.over(name)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	all := *p.all.Load()
	if m := all[name]; m != nil {
		return m
	}
	if len(all) >= ipc.MaxMeasures {
		return p.over(name)
	}
	m := &own{name: strings.Clone(name), observes: observes}
	more := maps.Clone(all)
	more[m.name] = m
	p.all.Store(&more)
	return m
}

func (p *Program) over(name string) *own {
	if once(&p.tooMany) {
		p.log().Warn("worker: a measure is ignored because the program has too many",
			"measure", name, "most", ipc.MaxMeasures)
	}
	return nil
}

// once is true the first time.
func once(done *atomic.Bool) bool { return !done.Load() && !done.Swap(true) }

func (m *own) mark() uint64 { return m.n.Load() }

// put adds the numbers to a message.
func (m *own) put(c *ipc.Counts) {
	mc := ipc.MeasureCounts{Name: m.name}
	if n := m.n.Load(); m.observes {
		mc.Observed = n
		mc.Sum, mc.Last = math.Float64frombits(m.sum.Load()), math.Float64frombits(m.last.Load())
	} else {
		mc.Total = n
	}
	c.Measures = append(c.Measures, mc)
}
