package analysis

import (
	"flag"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/masterd/masterd/pkg/master/analysis/analysistest"
)

var rollouts = flag.Int("analysis.rollouts", 200, "simulated rollouts of each kind")

const (
	alpha     = 0.01
	ratio     = 1.5
	intervals = 12 // of each step; the judges look after each
)

var steps = []float64{0.01, 0.1, 0.5}

// service is a simulated one.
type service struct {
	arrivals int     // connections that begin in each interval
	life     int     // intervals that they last; 0: one request each
	requests int     // of each, in an interval
	before   int     // connections that are there all the time, and were before the rollout
	kept     int     // connections that are there from the beginning of each step to its end
	bad      float64 // the share of clients whose requests fail half of the time
	retries  int     // new connections that a client makes after an error, at most
	moves    bool    // idle connections follow the weights
	delay    int     // intervals whose connections count for nobody: the candidate is cold
	// errs is the chance that a request fails, in an interval of the whole rollout.
	errs func(candidate bool, interval int) float64
}

func evenly(p float64) func(bool, int) float64 { return func(bool, int) float64 { return p } }

// conn is one connection.
type conn struct {
	candidate, moved, failed, bad bool
	step                          int
	lot                           float64 // it moves once the weight is above
	ends                          int
}

// seen is what the judges see: units by step, connections by step, and requests by version.
type seen struct {
	units, drawn   []Units
	requests, errs [2]float64
}

// simulate runs one rollout and calls look after each interval until it says that this is enough.
// careless counts errors of connections that an earlier weight has drawn, too.
func (s service) simulate(rng *rand.Rand, careless bool, look func(*seen) bool) {
	v := &seen{units: make([]Units, len(steps)), drawn: make([]Units, len(steps))}
	var open []*conn
	for range s.before {
		open = append(open, &conn{step: -1, lot: rng.Float64(), ends: math.MaxInt})
	}
	now := 0
	for step, w := range steps {
		v.units[step].Weight, v.drawn[step].Weight = w, w
		begin := func(bad bool, ends int) *conn {
			c := &conn{candidate: rng.Float64() < w, step: step, bad: bad, ends: ends}
			c.lot = w + (1-w)*rng.Float64()
			if now < s.delay {
				c.step = -1
				return c
			}
			if c.candidate {
				v.drawn[step].Candidate++
			} else {
				v.drawn[step].Stable++
			}
			return c
		}
		if s.moves {
			for _, c := range open {
				if !c.candidate && w > c.lot {
					c.candidate, c.moved = true, true
				}
			}
		}
		for range s.kept {
			open = append(open, begin(rng.Float64() < s.bad, now+intervals-1))
		}
		for range intervals {
			for range s.arrivals {
				bad := rng.Float64() < s.bad
				for try := 0; ; try++ {
					c := begin(bad, now+s.life)
					if s.life > 0 {
						open = append(open, c)
						break
					}
					if !s.ask(rng, c, v, now, step, careless) || try == s.retries {
						break
					}
				}
			}
			for _, c := range open {
				for range s.requests {
					s.ask(rng, c, v, now, step, careless)
				}
			}
			open = slices.DeleteFunc(open, func(c *conn) bool { return c.ends <= now })
			now++
			if look(v) {
				return
			}
		}
	}
}

// ask makes one request, and tells whether it has failed.
func (s service) ask(rng *rand.Rand, c *conn, v *seen, now, step int, careless bool) bool {
	p := s.errs(c.candidate, now)
	if c.bad {
		p = max(p, 0.5)
	}
	of := 0
	if c.candidate {
		of = 1
	}
	v.requests[of]++
	if rng.Float64() >= p {
		return false
	}
	v.errs[of]++
	if !c.failed && !c.moved && c.step >= 0 && (c.step == step || careless) {
		if c.candidate {
			v.units[c.step].Candidate++
		} else {
			v.units[c.step].Stable++
		}
	}
	c.failed = true
	return true
}

// judges are three that look after each interval: ours, one with a fixed threshold, and a z-test
// of requests that is made again and again.
var judges = []struct {
	name string
	fail func(*seen) bool
}{
	{"evidence", func(v *seen) bool {
		return Judge(alpha, []Measure{{ratio, v.drawn, v.units}}).Outcome == Fail
	}},
	{"over 5 %", func(v *seen) bool { return v.requests[1] >= 20 && v.errs[1]/v.requests[1] > 0.05 }},
	{"z-test", func(v *seen) bool {
		n, m := v.requests[1], v.requests[0]
		if n < 20 || m < 20 {
			return false
		}
		p := (v.errs[0] + v.errs[1]) / (n + m)
		se := math.Sqrt(p * (1 - p) * (1/n + 1/m))
		return se > 0 && (v.errs[1]/n-v.errs[0]/m)/se > 2.326
	}},
}

// An unchanged version fails with a chance of alpha at most, whatever befalls both.
func TestSimulatedUnchangedVersions(t *testing.T) {
	outage := func(_ bool, i int) float64 {
		if i >= 14 && i < 18 {
			return 0.3
		}
		return 0.002
	}
	for _, x := range []struct {
		name string
		s    service
		want Outcome // of most; empty: it is not looked at
	}{
		{"independent clients", service{arrivals: 80, errs: evenly(0.01)}, Pass},
		{"64 connections, 2 % of bad clients", service{kept: 64, requests: 10, bad: 0.02, errs: evenly(0.0005)}, ""},
		{"1,000 connections, 0.5 % of bad clients", service{kept: 1000, requests: 2, bad: 0.005, errs: evenly(0.0005)}, Pass},
		{"bursts", service{arrivals: 30, life: 3, requests: 2, errs: func(_ bool, i int) float64 {
			return []float64{0.001, 0.001, 0.4}[i%3]
		}}, Pass},
		{"retries", service{arrivals: 60, retries: 5, bad: 0.02, errs: evenly(0.02)}, Pass},
		{"migration", service{arrivals: 30, life: 15, requests: 1, moves: true, errs: evenly(0.01)}, Pass},
		{"cold start", service{arrivals: 60, delay: 2, errs: func(candidate bool, i int) float64 {
			if candidate && i < 2 {
				return 0.5
			}
			return 0.01
		}}, Pass},
		{"an outage of both", service{arrivals: 60, errs: outage}, Pass},
		{"16 connections of a proxy", service{before: 16, requests: 50, moves: true, errs: evenly(0.001)}, Inconclusive},
	} {
		t.Run(x.name, func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(1, 2))
			failed, outcomes := make([]int, len(judges)), map[Outcome]int{}
			for range *rollouts {
				done := make([]bool, len(judges))
				var last Verdict
				x.s.simulate(rng, false, func(v *seen) bool {
					for i, j := range judges {
						if !done[i] && j.fail(v) {
							done[i] = true
							failed[i]++
						}
					}
					if !done[0] {
						last = Judge(alpha, []Measure{{ratio, v.drawn, v.units}})
					}
					return false
				})
				if done[0] {
					last.Outcome = Fail
				}
				outcomes[last.Outcome]++
			}
			var said []string
			for i, j := range judges {
				low, high := analysistest.Wilson(failed[i], *rollouts)
				said = append(said, fmt.Sprintf("%s %.2f %% (%.2f to %.2f)", j.name,
					100*float64(failed[i])/float64(*rollouts), 100*low, 100*high))
			}
			t.Logf("false failures of %d: %s; ours: %v", *rollouts, strings.Join(said, ", "), outcomes)
			if low, _ := analysistest.Wilson(failed[0], *rollouts); low > alpha {
				t.Errorf("more than %v of unchanged versions fail", alpha)
			}
			if x.want != "" && outcomes[x.want] < *rollouts/2 {
				t.Errorf("most should end with %s: %v", x.want, outcomes)
			}
		})
	}
}

// Connections that an earlier weight has drawn are not drawn by it any more when the others have
// moved: an unchanged candidate has more than its share of the errors that come later.
func TestSimulatedCarelessness(t *testing.T) {
	s := service{arrivals: 600, life: 36, requests: 1, moves: true, errs: func(_ bool, interval int) float64 {
		if interval >= 2*intervals { // at the last weight
			return 0.02
		}
		return 0.002
	}}
	count := func(careless bool) (u Units) {
		rng := rand.New(rand.NewPCG(3, 4))
		for range 20 {
			var last *seen
			s.simulate(rng, careless, func(v *seen) bool { last = v; return false })
			u.Candidate += last.units[0].Candidate
			u.Stable += last.units[0].Stable
		}
		return u
	}
	careful, careless := count(false), count(true)
	late := float64(careless.Candidate - careful.Candidate)
	all := late + float64(careless.Stable-careful.Stable)
	w := steps[0]
	for name, x := range map[string]struct{ k, n, sign float64 }{
		"those that count":      {float64(careful.Candidate), float64(careful.Candidate + careful.Stable), 0},
		"those that come later": {late, all, 1},
	} {
		z := (x.k/x.n - w) / math.Sqrt(w*(1-w)/x.n)
		t.Logf("%s: %v of %v are the candidate's at a weight of %v (%.1f standard deviations)", name, x.k, x.n, w, z)
		if x.sign == 0 && math.Abs(z) > 4 || x.sign > 0 && z < 4 {
			t.Errorf("%s: %.1f standard deviations from its share", name, z)
		}
	}
}

// needed is how many requests of the candidate it takes, one on each connection, until it fails;
// most: it does not, until then.
func needed(rng *rand.Rand, weight, base, errs float64, fail func(*seen) bool, most int) int {
	v := &seen{units: []Units{{Weight: weight}}, drawn: []Units{{Weight: weight}}}
	for {
		of, p := 0, base
		if rng.Float64() < weight {
			of, p = 1, errs
		}
		failed := rng.Float64() < p
		v.requests[of]++
		if of == 1 {
			v.drawn[0].Candidate++
		} else {
			v.drawn[0].Stable++
		}
		if failed {
			v.errs[of]++
			if of == 1 {
				v.units[0].Candidate++
			} else {
				v.units[0].Stable++
			}
		}
		if n := int(v.requests[1]); of == 1 && n >= most || failed && fail(v) {
			return n
		}
	}
}

// The power: how soon a bad version is found out.
func TestSimulatedBadVersions(t *testing.T) {
	const base = 0.001
	for _, x := range []struct {
		errs float64
		aim  int // requests of the candidate at a weight of 10 %, as a median; 0: none
	}{{0.5, 20}, {0.05, 200}, {0.01, 1500}, {0.002, 0}} {
		t.Run(fmt.Sprintf("%v %%", 100*x.errs), func(t *testing.T) {
			t.Parallel()
			rng := rand.New(rand.NewPCG(5, 6))
			n, limit := max(*rollouts/20, 20), max(50**rollouts, 10_000)
			for _, w := range steps {
				for i, j := range judges {
					if i > 0 && w != 0.1 {
						continue
					}
					all := make([]int, n)
					for k := range all {
						all[k] = needed(rng, w, base, x.errs, j.fail, limit)
					}
					slices.Sort(all)
					median, late := all[n/2], all[n*95/100]
					t.Logf("%s at a weight of %v %%: after %d requests of the candidate, 95 %% after %d (%d: not at all)",
						j.name, 100*w, median, late, limit)
					if i == 0 && w == 0.1 && x.aim > 0 && median > x.aim {
						t.Errorf("it takes %d requests, not %d", median, x.aim)
					}
				}
			}
		})
	}
}
