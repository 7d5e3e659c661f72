package analysis

import (
	"math"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(math.Abs(a), math.Abs(b)) }

func TestNothingIsKnownAtFirst(t *testing.T) {
	for _, u := range [][]Units{nil, {{Weight: 0.1}}, {{Weight: 0, Candidate: 5, Stable: 5}}, {{Weight: 1, Candidate: 50}}} {
		if e := Evidence(1.5, u); e != 1 {
			t.Errorf("%+v: %v", u, e)
		}
	}
}

// By the definition, with products and no logarithms.
func TestEvidenceIsWhatItsFormulaSays(t *testing.T) {
	units := []Units{{0.01, 1, 7}, {0.1, 3, 2}, {0.5, 0, 4}}
	const R = 1.2
	want := 0.0
	for i := 1; i <= 40; i++ {
		r := R * math.Pow(1000, float64(i)/40)
		l := 1.0
		for _, u := range units {
			p, q := u.Weight*R/(1-u.Weight+u.Weight*R), u.Weight*r/(1-u.Weight+u.Weight*r)
			for range u.Candidate {
				l *= q / p
			}
			for range u.Stable {
				l *= (1 - q) / (1 - p)
			}
		}
		want += l / 40
	}
	if got := Evidence(R, units); !near(got, want) {
		t.Errorf("%v, not %v", got, want)
	}
}

// What makes it a test: under the null the expected factor of each unit is at most 1, at each
// weight and at each ratio up to R.
func TestEvidenceIsExpectedNotToGrow(t *testing.T) {
	for _, before := range [][]Units{nil, {{0.1, 4, 3}}, {{0.01, 0, 50}, {0.5, 9, 1}}} {
		e := Evidence(1.5, before)
		for _, w := range []float64{0.001, 0.01, 0.1, 0.5, 0.9, 0.999} {
			for _, r := range []float64{0, 0.1, 1, 1.3, 1.5} {
				x := candidates(w, r)
				next := x*Evidence(1.5, append(before[:len(before):len(before)], Units{w, 1, 0})) +
					(1-x)*Evidence(1.5, append(before[:len(before):len(before)], Units{w, 0, 1}))
				if next > e*(1+1e-9) {
					t.Errorf("after %+v, at a weight of %v and a ratio of %v: %v is expected, it was %v", before, w, r, next, e)
				}
			}
		}
	}
}

func TestEvidenceIsShown(t *testing.T) {
	for e, want := range map[float64]string{1: "1.0", 0.04: "0.0", 134.25: "134.2", 999_999: "999999.0", 1e6: "over 999999", math.Inf(1): "over 999999"} {
		if got := Show(e); got != want {
			t.Errorf("%v: %s, not %s", e, got, want)
		}
	}
}

func TestLargeNumbers(t *testing.T) {
	for _, u := range []Units{{0.5, 1e9, 0}, {0.5, 0, 1e9}, {1e-9, 1e12, 1e12}, {1 - 1e-16, 5, 0}, {5e-324, 5, 5}} {
		if e := Evidence(1.5, []Units{u}); math.IsNaN(e) || e < 0 {
			t.Errorf("%+v: %v", u, e)
		}
	}
}

func TestJudge(t *testing.T) {
	errors := func(u ...Units) []Measure { return []Measure{{1.5, nil, u}} }
	enough := []Units{{0.1, 20, 180}}
	for name, x := range map[string]struct {
		drawn    []Units
		measures []Measure
		want     Outcome
	}{
		"nobody came":                  {nil, errors(), Inconclusive},
		"nothing is compared":          {enough, nil, Inconclusive},
		"no error":                     {enough, errors(), Pass},
		"both have them by their part": {enough, errors(Units{0.1, 2, 18}), Pass},
		"the candidate's alone":        {enough, errors(Units{0.1, 5, 0}), Fail},
		"two connections":              {[]Units{{0.1, 2, 14}}, errors(Units{0.1, 2, 0}), Inconclusive},
		"all of it":                    {[]Units{{1, 5000, 0}}, errors(Units{1, 500, 0}), Inconclusive},
		"one of two measures, by a little": {enough,
			[]Measure{{1.5, enough, []Units{{0.1, 3, 0}}}, {1.2, enough, []Units{{0.1, 1, 9}}}}, Pass},
	} {
		for i := range x.measures {
			x.measures[i].Drawn = x.drawn
		}
		if v := Judge(0.01, x.measures); v.Outcome != x.want {
			t.Errorf("%s: %+v, not %s", name, v, x.want)
		}
	}
	// The same errors speak louder where fewer things are compared: alpha is for all together.
	one := Judge(0.01, errors(Units{0.1, 3, 0}))
	two := Judge(0.01, []Measure{{1.5, enough, []Units{{0.1, 3, 0}}}, {1.5, enough, nil}})
	if !near(two.Evidence, (one.Evidence+1)/2) {
		t.Errorf("%v and %v", one.Evidence, two.Evidence)
	}
}
