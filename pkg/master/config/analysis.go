package config

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Analysis compares a new version with the one before it, while a canary has both serve.
type Analysis struct {
	Act    string        `key:"act"`   // "auto" or "report"
	Alpha  uint32        `key:"alpha"` // the chance that an unchanged version is taken back, in parts of 10000
	Errors Tolerance     `key:"errors"`
	Delay  time.Duration `key:"delay"` // since the new version has its first connections, until they count
}

// Tolerance is how much worse a new version may be.
type Tolerance struct {
	Ratio float64 `key:"ratio"` // of its rate to that of the version before
}

// ActReport has nothing taken back by what was compared.
const ActReport = "report"

func analysisKeys() []Key {
	return []Key{
		{Path: "rollout.analysis", Type: Section,
			Meaning: `While a canary's steps have two versions serve, they are compared by the connections that have an error: an answer
				of the class 5xx, or a handler that has failed. Each connection counts once, at its first error. Only for workers of
				kind sdk, and with canary.sticky: connection.`},
		{Path: "rollout.analysis.act", Type: Text, Default: "auto", Allowed: []string{"auto", ActReport},
			Meaning: `With "auto" a new version that has more errors is taken back in the step in which that is known. With "report"
				"masterd status" and the history only say so.`},
		{Path: "rollout.analysis.alpha", Type: Percent, Default: "1%", Min: "0.01%", Max: "20%",
			Meaning: `The chance that a version is taken back which has no more errors than the one before, over its whole rollout and
				however often it is looked at.`},
		{Path: "rollout.analysis.errors", Type: Section, Meaning: `How many more errors a new version may have.`},
		{Path: "rollout.analysis.errors.ratio", Type: Decimal, Default: "1.5", Min: "1", Max: "100",
			Meaning: `How many times as many of its connections as of those of the version before may have an error.`},
		{Path: "rollout.analysis.delay", Type: Duration, Default: "10s", Min: "0", Max: "1h",
			Meaning: `For how long its connections do not count, since it has the first: it may be slow to warm up.`},
	}
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
	if whole == 0 || whole > c.Rollout.Analysis.Delay || c.Worker.Kind != KindSDK || c.Rollout.Canary.Sticky == StickyClient {
		return nil
	}
	return []string{fmt.Sprintf("rollout.canary.steps: all of them take %s, and nothing is compared before rollout.analysis.delay (%s) "+
		"is over; make the steps longer, or the delay shorter", showDuration(whole), showDuration(c.Rollout.Analysis.Delay))}
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
