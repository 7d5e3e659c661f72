package config

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Canary gives a new version a part of the new connections, before it gets them all.
type Canary struct {
	Steps     []Step // in their order; none: it gets all at once
	Sticky    string `key:"sticky"`     // "connection" or "client"
	SkipBaked bool   `key:"skip_baked"` // a version that was baked before goes without steps
}

// Step is one of a canary.
type Step struct {
	Weight uint32        `key:"weight"` // of the new connections, in parts of 10000
	Hold   time.Duration `key:"hold"`   // how long; zero: until it is promoted
}

// StickyClient has clients belong to a version by their address.
const StickyClient = "client"

const (
	maxSteps  = 16    // of a canary
	allWeight = 10000 // that of all new connections
)

// stepsPath is the key of the steps.
const stepsPath = "rollout.canary.steps"

func canaryKeys() []Key {
	return []Key{
		{Path: "rollout.canary", Type: Section,
			Meaning: `A new version gets a part of the new connections first, beside the one before it. A fault in a step takes it
				back, as in the bake, which begins after the last step. A rollback goes without steps.`},
		{Path: "rollout.canary.steps", Type: List, Off: true,
			Meaning: `The parts, one after the other, at most 16; none: a new version gets all new connections at once. They split
				connections, not requests: kept idle connections of workers of kind sdk move by the same part (drain.handover),
				others stay where they are. Refused where a listener is a Unix socket or has steering: shared, where there are
				no listeners, and with another rollout.surge than "all". "masterd reload --canary 5%:1m,25%" has other steps for one
				rollout, --skip-canary none.`},
		{Path: "rollout.canary.steps[].weight", Type: Percent, Example: "5%", Min: "0.01%", Max: "99.99%",
			Meaning: `The new version's part of the new connections, more than in the step before. It must be given.`},
		{Path: "rollout.canary.steps[].hold", Type: Duration, Example: "1m", Min: "100ms", Max: "168h",
			Meaning: `How long the step lasts without a fault until the next one. Without it the step lasts until "masterd promote".
				"masterd pause" stops the clock of all steps.`},
		{Path: "rollout.canary.sticky", Type: Text, Default: "connection", Allowed: []string{"connection", StickyClient},
			Meaning: `Who is in the new version's part: with "connection" each new connection draws; with "client" the client's
				address decides, so that a client which has met the new version stays with it through all steps. Clients behind
				one address (NAT, a proxy) are one client then.`},
		{Path: "rollout.canary.skip_baked", Type: Boolean, Default: "false",
			Meaning: `A version that was baked before goes without steps.`},
	}
}

// WithCanary is c with other steps for one rollout, as in "5%:30s,25%": each a weight and,
// after a colon, how long it holds; without that it waits for a promote. All are refused that
// the configuration could not have, too. A version that was baked before goes by them as well.
func WithCanary(c *Config, steps string) (*Config, error) {
	d := *c
	d.Rollout.Canary.Steps, d.Rollout.Canary.SkipBaked = nil, false
	s := newSchema()
	parts := strings.Split(steps, ",")
	if len(parts) > maxSteps {
		return nil, fmt.Errorf("there are %d steps, at most %d are allowed", len(parts), maxSteps)
	}
	for i, part := range parts {
		var step Step
		weight, hold, held := strings.Cut(part, ":")
		err := s.assignStep("weight", &step.Weight, weight)
		if err == nil && held {
			err = s.assignStep("hold", &step.Hold, hold)
		}
		if err != nil {
			return nil, fmt.Errorf("step %d: %w", i+1, err)
		}
		d.Rollout.Canary.Steps = append(d.Rollout.Canary.Steps, step)
	}
	if i, why := shrinks(d.Rollout.Canary.Steps); why != "" {
		return nil, fmt.Errorf("step %d: %s", i+1, why)
	}
	if why := d.unsplittable(); len(why) > 0 {
		return nil, errors.New(strings.Join(why, "; "))
	}
	return &d, nil
}

// assignStep reads a value of a step as in the file.
func (s schema) assignStep(name string, ptr any, text string) error {
	k, _ := s.child(stepsPath, name)
	f := field{k.Path, k, ptr}
	if err := assign(f, text); err != nil {
		return instructed(k, text, err)
	}
	return nil
}

// canary checks the steps by themselves, and that what is served can be split.
func (b *builder) canary(c *Config) {
	steps := c.Rollout.Canary.Steps
	for i := range steps {
		if at := fmt.Sprintf("%s[%d].weight", stepsPath, i); !b.given(at) {
			b.missing(at, "must be given: the new version's part of the new connections, such as 5%")
		}
	}
	if i, why := shrinks(steps); why != "" {
		b.add(fmt.Sprintf("%s[%d].weight", stepsPath, i), why)
	}
	if len(steps) == 0 {
		return
	}
	for _, why := range c.unsplittable() {
		b.add(stepsPath, why)
	}
}

// shrinks finds a step that gives a new version no more than the one before. Those whose
// weight is wrong by itself are passed over.
func shrinks(steps []Step) (at int, why string) {
	before := uint32(0)
	for i, step := range steps {
		if step.Weight == 0 {
			continue
		}
		if step.Weight <= before {
			return i, fmt.Sprintf("%s is not more than %s of the step before; steps have to grow",
				showPercent(step.Weight), showPercent(before))
		}
		before = step.Weight
	}
	return 0, ""
}

// unsplittable is why new connections cannot be split between two versions, with what to do.
func (c *Config) unsplittable() (why []string) {
	if len(c.Listeners) == 0 {
		return []string{"there are no listeners, so there are no connections to split; leave the steps out"}
	}
	for _, l := range c.Listeners {
		switch {
		case l.Network == "unix":
			why = append(why, fmt.Sprintf("listener %s is a Unix socket, where the kernel cannot split new connections; use tcp, "+
				"or leave the steps out", l.Name))
		case l.Steering == "shared":
			why = append(why, fmt.Sprintf("listener %s has steering: shared, where all versions accept from one socket; write auto, "+
				"or leave the steps out", l.Name))
		}
	}
	if s := c.Rollout.Surge; s == "one" || s == "replace" {
		why = append(why, fmt.Sprintf("rollout.surge is %s, and steps need both versions whole beside each other; write all, "+
			"or leave the steps out", s))
	}
	return why
}

// instructed is what is wrong with a value, and for one of a step what it means to leave it out.
func instructed(k Key, text string, err error) error {
	switch {
	case k.Path == stepsPath+"[].weight" && text == "100%":
		return errors.New("100% is no step: all new connections come after the last step by themselves; remove it")
	case k.Path == stepsPath+"[].hold" && slices.Contains([]string{"0", "off", "none", "never", "no", "false", "forever", "promote"}, text):
		return fmt.Errorf("%s is not how long a step can hold; remove hold, and the step waits for `masterd promote`", short(text))
	}
	return err
}

var percentForm = regexp.MustCompile(`^([0-9]{1,9})(?:\.([0-9]{1,2}))?%$`)

// parsePercent reads a percentage, in parts of 10000.
func parsePercent(s string) (uint32, error) {
	m := percentForm.FindStringSubmatch(s)
	number, percent := strings.CutSuffix(s, "%")
	switch _, decimals, _ := strings.Cut(number, "."); {
	case m != nil:
	case percent && strings.HasPrefix(number, "-") && bareNumber(number):
		return 0, nil // which is out of range
	case percent && bareNumber(number) && len(decimals) > 2:
		return 0, fmt.Errorf("%s has more than two decimals", short(s))
	case !percent && bareNumber(s):
		return 0, fmt.Errorf("%s has no unit; write %s%%", s, s)
	default:
		return 0, fmt.Errorf("%s is not a percentage; write a number with %%, such as 5%% or 0.5%%", short(s))
	}
	whole, _ := strconv.ParseUint(m[1], 10, 32) // they are digits, and few
	parts, _ := strconv.ParseUint((m[2] + "00")[:2], 10, 32)
	return uint32(min(whole, allWeight)*100 + parts), nil
}

// showPercent is the shortest form that parsePercent reads.
func showPercent(n uint32) string {
	s := fmt.Sprintf("%d.%02d", n/100, n%100)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "%"
}

// showStep is a step as it would be written in the file.
func showStep(step Step) string {
	text := "weight: " + showPercent(step.Weight)
	if step.Hold != 0 {
		text += ", hold: " + showDuration(step.Hold)
	}
	return text
}
