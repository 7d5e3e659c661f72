// Package analysis tells whether a candidate does worse to real connections than the version that
// serves beside it, by a test that may be looked at as often as one likes.
//
// # The unit
//
// The kernel draws each new connection to the candidate with a known probability, its weight w.
// A connection counts once, at its first error, so that what fails on it later, or because of
// that, counts for nothing: requests on one connection are not independent, draws are. So, given
// that a connection has an error at all, it is the candidate's with the probability
//
//	q(r) = w·r / (1 − w + w·r)
//
// where r is how many times as often connections of the candidate have an error. Nothing else is
// assumed: neither how often errors come, nor that this stays the same, as an outage that both
// have, a burst or a bad client falls on both by their weights.
//
// That holds as long as those that were drawn at one weight are all still there. When the weight
// changes, idle connections of the stable version move, and those that stay are not drawn by w any
// more. So a connection counts only if its error comes while the weight is the one that it was
// drawn with, and one that was moved counts for nobody.
//
// # The evidence
//
// The null hypothesis is r ≤ R, a ratio that is still accepted, with p = q(R) as its worst case.
// Against each r > R of a grid the likelihood ratio of all units so far,
//
//	L(r) = Π (q/p)^x · ((1−q)/(1−p))^(1−x),   x = 1: the candidate's
//
// is a supermartingale that begins with 1: p and q are those of the weight that each unit was
// drawn with, so weights may change on the way. So is their mean over the grid, E, and by Ville's
// inequality the chance that E ever reaches 1/alpha is at most alpha, however often it is looked
// at, and when. The mean of the E of several measures is again one, so that alpha holds for all of
// them together.
//
// The grid is one prior for the whole rollout and is never begun anew: what an earlier step has
// shown counts in the later ones.
//
// Sources: Lindon, Sanden and Shirikian, Rapid Regression Detection in Software Deployments
// through Sequential Testing, arXiv:2205.14762; Turner, Ly and Grünwald, Generic E-Variables for
// Exact Sequential k-Sample Tests, arXiv:2106.02693; Ramdas, Grünwald, Vovk and Shafer,
// Game-Theoretic Statistics and Safe Anytime-Valid Inference, arXiv:2210.01948; Ville, Étude
// critique de la notion de collectif, 1939.
package analysis

import (
	"math"
	"strconv"
)

const (
	// grid is how many alternatives there are, spread evenly by their logarithm from just above
	// R to most times R: a version that fails always, where one in a thousand is usual.
	grid = 40
	most = 1000
)

// Units are the connections with an error while the candidate had one weight, whenever that was.
type Units struct {
	Weight    float64 // the candidate's share of new connections; nothing is learned at 0 and 1
	Candidate uint64  // of them, the candidate's
	Stable    uint64
}

// Evidence is E: how much speaks against a ratio of at most R, after these units. It is 1 where
// nothing is known. R below 1 is taken as 1.
func Evidence(ratio float64, all []Units) float64 {
	ratio = max(ratio, 1)
	var logs [grid]float64
	for i := range logs {
		r := ratio * math.Pow(most, float64(i+1)/grid)
		for _, u := range all {
			if u.Weight <= 0 || u.Weight >= 1 {
				continue
			}
			p, q := candidates(u.Weight, ratio), candidates(u.Weight, r)
			not := stables(u.Weight, r) / stables(u.Weight, ratio)
			logs[i] += float64(u.Candidate)*math.Log(q/p) + float64(u.Stable)*math.Log(not)
		}
	}
	return mean(logs[:])
}

// candidates is q(r).
func candidates(w, r float64) float64 { return w * r / (1 - w + w*r) }

// stables is 1 − q(r), which is never zero: 1 − q would be, beside the weight 1, and its logarithm
// no number.
func stables(w, r float64) float64 { return (1 - w) / (1 - w + w*r) }

// mean is that of the numbers with these logarithms.
func mean(logs []float64) float64 {
	highest := logs[0]
	for _, l := range logs {
		highest = max(highest, l)
	}
	sum := 0.0
	for _, l := range logs {
		sum += math.Exp(l - highest)
	}
	return math.Exp(highest) * sum / float64(len(logs))
}

// mostShown is as much as people are shown: what is above says no more.
const mostShown = 999_999

// Show is evidence for people.
func Show(evidence float64) string {
	if evidence > mostShown {
		return "over " + strconv.Itoa(mostShown)
	}
	return strconv.FormatFloat(evidence, 'f', 1, 64)
}

// Outcome is what is known of a candidate.
type Outcome string

const (
	// Pass: errors enough to fail it could have come, and did not.
	Pass Outcome = "pass"
	// Fail: it does worse, with a chance of at most alpha that this is wrong.
	Fail Outcome = "fail"
	// Inconclusive: it had too few connections to be failed, whatever it did to them.
	Inconclusive Outcome = "inconclusive"
)

// Measure is one thing that is compared: errors, slow requests, or one of the program's own.
type Measure struct {
	Ratio float64 // R
	Drawn []Units // all connections on which it could have been
	Units []Units // those on which it was
}

// Verdict is what the measures say together.
type Verdict struct {
	Outcome  Outcome
	Evidence float64   // the mean of those of the measures
	Each     []float64 // of each measure
	Wanted   float64   // 1/alpha: from this evidence on it fails
}

// Judge judges a candidate; alpha is the chance that an unchanged version fails, over the whole
// rollout and all measures together. Once it has failed, what comes later changes nothing: ask no
// more.
func Judge(alpha float64, measures []Measure) Verdict {
	v := Verdict{Outcome: Inconclusive, Evidence: 1, Wanted: 1 / alpha}
	if len(measures) == 0 {
		return v
	}
	sum, worst := 0.0, 0.0
	for _, m := range measures {
		e := Evidence(m.Ratio, m.Units)
		v.Each = append(v.Each, e)
		sum += e
		worst += Evidence(m.Ratio, allOf(m.Drawn))
	}
	v.Evidence = sum / float64(len(measures))
	switch {
	case v.Evidence >= v.Wanted:
		v.Outcome = Fail
	case worst/float64(len(measures)) >= v.Wanted:
		v.Outcome = Pass
	}
	return v
}

// allOf has each connection of the candidate fail, and none of the other's.
func allOf(drawn []Units) []Units {
	all := make([]Units, len(drawn))
	for i, u := range drawn {
		all[i] = Units{Weight: u.Weight, Candidate: u.Candidate}
	}
	return all
}
