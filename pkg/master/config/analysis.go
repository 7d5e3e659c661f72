package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/masterd/masterd/pkg/ipc"
)

// Analysis compares a new version with the one before it, while a canary has both serve.
type Analysis struct {
	Act      string    `key:"act"`   // "auto", "report" or "all"
	Alpha    uint32    `key:"alpha"` // the chance that an unchanged version is taken back, in parts of 10000
	Errors   Tolerance `key:"errors"`
	Latency  Latency   `key:"latency"`
	Measures []Measure
	Delay    time.Duration `key:"delay"` // since the new version has its first connections, until they count

	WhenInconclusive string        `key:"when_inconclusive"` // what follows where too few came: "pause", "promote" or "rollback"
	MaxWait          time.Duration `key:"max_wait"`          // for more of them, at the last step; zero: it does not wait
}

// Tolerance is how much worse a new version may be.
type Tolerance struct {
	Ratio float64 `key:"ratio"` // of its rate to that of the version before
}

// Latency is how much slower a new version may be.
type Latency struct {
	SlowerBy uint32        `key:"slower_by"` // in parts of 10000 of what 99 % of requests take
	AtLeast  time.Duration `key:"at_least"`
}

// Measure is one of the program's own that is compared.
type Measure struct {
	Name  string  `key:"name"`
	Ratio float64 `key:"ratio"` // as in Tolerance
}

const (
	// ActReport has nothing taken back by what was compared.
	ActReport = "report"
	// ActAll has a new version taken back by all that is compared, not errors alone.
	ActAll = "all"
)

// measuresPath is the key of the measures.
const measuresPath = "rollout.analysis.measures"

// What follows where a new version had too few connections to be judged by.
const (
	InconclusivePause    = "pause"
	InconclusivePromote  = "promote"
	InconclusiveRollback = "rollback"
)

// maxWait is the longest wait for connections to judge by.
const maxWait = "168h"

func analysisKeys() []Key {
	return []Key{
		{Path: "rollout.analysis", Type: Section,
			Meaning: `While a canary's steps have two versions serve, they are compared by the connections that have an error: an answer
				of the class 5xx, or a handler that has failed. Each connection counts once, at its first error. Only for workers of
				kind sdk, and with canary.sticky: connection.`},
		{Path: "rollout.analysis.act", Type: Text, Default: "auto", Allowed: []string{"auto", ActReport, ActAll},
			Meaning: `With "auto" a new version that has more errors is taken back in the step in which that is known. With "report"
				"masterd status" and the history only say so. With "all" it is taken back by the measures below, too, and by
				latency once ten reloads of an unchanged program have shown that it is as fast when it is new.`},
		{Path: "rollout.analysis.alpha", Type: Percent, Default: "1%", Min: "0.01%", Max: "20%",
			Meaning: `The chance that a version is taken back which has no more errors than the one before, over its whole rollout and
				however often it is looked at.`},
		{Path: "rollout.analysis.errors", Type: Section, Meaning: `How many more errors a new version may have.`},
		{Path: "rollout.analysis.errors.ratio", Type: Decimal, Default: "1.5", Min: "1", Max: "100",
			Meaning: `How many times as many of its connections as of those of the version before may have an error.`},
		{Path: "rollout.analysis.latency", Type: Section,
			Meaning: `From when on a request is slow: if it takes longer than 99 % of those of the version before on the same route,
				by both of these. Only routes are compared on which that version has answered 100 requests.`},
		{Path: "rollout.analysis.latency.slower_by", Type: Percent, Default: "50%", Min: "1%", Max: "1000%",
			Meaning: `By how much longer.`},
		{Path: "rollout.analysis.latency.at_least", Type: Duration, Default: "20ms", Min: "100us", Max: "1m",
			Meaning: `By how much longer at the least, so that what is fast may be a little slower.`},
		{Path: "rollout.analysis.measures", Type: List, Off: true,
			Meaning: `What the program counts itself, by worker.CountContext of the SDK, and a new version is to have no more of;
				at most 8. A connection counts once, when it is counted there first.`},
		{Path: "rollout.analysis.measures[].name", Type: Text, Example: "orders_failed",
			Meaning: `The name by which the program counts it. It must be given.`},
		{Path: "rollout.analysis.measures[].ratio", Type: Decimal, Default: "1.5", Min: "1", Max: "100",
			Meaning: `On how many times as many of its connections as of those of the version before it may be counted.`},
		{Path: "rollout.analysis.delay", Type: Duration, Default: "10s", Min: "0", Max: "1h",
			Meaning: `For how long its connections do not count, since it has the first: it may be slow to warm up.`},
		{Path: "rollout.analysis.when_inconclusive", Type: Text, Default: InconclusivePause,
			Allowed: []string{InconclusivePause, InconclusivePromote, InconclusiveRollback},
			Meaning: `What becomes of a new version that had too few connections to be judged by, max_wait after its last step. "pause"
				stops it there until "masterd promote", "masterd resume", which waits once more, or "masterd abort". "promote" has it
				go on, "rollback" takes it back. A rollout that nobody watches, and that must not stop, needs "promote" or "rollback".`},
		{Path: "rollout.analysis.max_wait", Type: Duration, Default: "15m", Min: "0", Max: maxWait,
			Meaning: `For how long a new version waits at the end of its last step for more connections to be judged by. With 0, with
				act: report, and where nothing can be compared it does not wait; nor does it after "masterd promote".`},
	}
}

// Judges reports whether new versions that go by steps are judged by what is compared.
func (c *Config) Judges() bool {
	return c.Worker.Kind == KindSDK && c.Rollout.Canary.Sticky != StickyClient && c.Rollout.Analysis.Act != ActReport
}

// unjudgedCanary warns where a lack of connections is to take a new version back, and never can.
func (c *Config) unjudgedCanary() []string {
	a, steps := c.Rollout.Analysis, c.Rollout.Canary.Steps
	if a.WhenInconclusive != InconclusiveRollback || len(steps) == 0 {
		return nil
	}
	why := ""
	switch {
	case c.Worker.Kind != KindSDK:
		why = "worker.kind: " + c.Worker.Kind + " nothing is compared"
	case !c.Judges() && c.Rollout.Analysis.Act == ActReport:
		why = "rollout.analysis.act: report nothing is taken back by what is compared"
	case !c.Judges():
		why = "rollout.canary.sticky: client nothing is compared"
	case a.MaxWait == 0:
		why = "rollout.analysis.max_wait: 0 nothing is waited for"
	default:
		return nil
	}
	return []string{"rollout.analysis.when_inconclusive: with " + why + ", so a new version is never taken back for that; " +
		"leave it out, or change the other"}
}

// hastyCanary warns where the steps are over before anything is compared.
func (c *Config) hastyCanary() []string {
	whole := time.Duration(0)
	for _, step := range c.Rollout.Canary.Steps {
		if step.Hold == 0 {
			return nil // a person looks
		}
		whole += step.Hold
	}
	if c.Judges() {
		whole += c.Rollout.Analysis.MaxWait
	}
	if len(c.Rollout.Canary.Steps) == 0 || whole > c.Rollout.Analysis.Delay || c.Worker.Kind != KindSDK || c.Rollout.Canary.Sticky == StickyClient {
		return nil
	}
	return []string{fmt.Sprintf("rollout.canary.steps: all of them take %s, and nothing is compared before rollout.analysis.delay (%s) "+
		"is over; make the steps longer, or the delay shorter", showDuration(whole), showDuration(c.Rollout.Analysis.Delay))}
}

// measures checks the names.
func (b *builder) measures(all []Measure) {
	for i, m := range all {
		at := fmt.Sprintf("%s[%d].name", measuresPath, i)
		same := func(o Measure) bool { return o.Name == m.Name }
		switch {
		case !b.given(at):
			b.missing(at, "must be given: the name by which the program counts it, such as orders_failed")
		case m.Name == "errors" || m.Name == "latency":
			b.add(at, m.Name+" is what masterd calls what it measures itself; give the program's another name")
		case !ipc.IsMeasure(m.Name):
			b.add(at, fmt.Sprintf("%s is not a name that a program can count by; it has letters, digits and _, no digit first, and at "+
				"most %d bytes", short(m.Name), ipc.MaxName))
		case slices.ContainsFunc(all[:i], same):
			b.add(at, short(m.Name)+" is there twice")
		}
	}
}

// showMeasure is a measure as it would be written in the file.
func showMeasure(m Measure) string {
	return "name: " + quote(m.Name) + ", ratio: " + showDecimal(m.Ratio)
}

// meantMeasure is a measure of which only the name was written; empty: it is not.
func meantMeasure(n *yaml.Node) string {
	if n.Kind != yaml.ScalarNode || !ipc.IsMeasure(n.Value) {
		return ""
	}
	return "{name: " + n.Value + "}"
}

// parseDecimal reads a decimal number that is not negative.
func parseDecimal(s string) (float64, error) {
	whole, decimals, point := strings.Cut(s, ".")
	n, err := strconv.ParseFloat(s, 64)
	if err != nil || !digits(whole) || point && !digits(decimals) {
		return 0, fmt.Errorf("%s is not a number; write one such as 1.5", short(s))
	}
	return n, nil
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// showDecimal is the shortest form that parseDecimal reads.
func showDecimal(n float64) string { return strconv.FormatFloat(n, 'f', -1, 64) }
