package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/analysis"
	"github.com/masterd/masterd/pkg/master/compare"
)

// The running rollout on the status page, and a canary's steps.

// stageCanary is the stage of a rollout, and what the page calls the generation, that has a
// part of the new connections.
const stageCanary = "canary"

// rollout is the running one, with its stage and what it has left.
func (p *page) rollout() {
	r := p.st.Rollout
	if r == nil {
		return
	}
	p.section(fmt.Sprintf("ROLLOUT %d", r.ID), clean(r.What)+" by "+clean(r.By))
	p.field("to", plain, fmt.Sprintf("%s, generation %d", p.name(r.Version), r.Generation))
	if steps(*r) {
		p.field("stage", bold, p.step(*r))
	} else {
		p.field("stage", bold, r.Stage+p.lasting(r.Since, r.Deadline))
	}
	if r.Paused != "" {
		goes := "; `masterd resume` goes on"
		if r.Inconclusive != "" {
			goes = "; `masterd promote` goes on, `masterd resume` waits once more, `masterd abort` takes it back"
		}
		p.field("paused", yellow, "by "+r.Paused+goes)
	}
	p.field("why", plain, r.Why)
	p.analysis(*r)
}

// analysis is what was compared of the versions that a canary had serve.
func (p *page) analysis(r api.Rollout) {
	a := r.Analysis
	if a == nil {
		return
	}
	side := func(c api.Compared) string { return fmt.Sprintf("%d of %d connections", c.WithError, c.Connections) }
	p.field("errors", plain, side(a.Candidate)+" of the new version, "+side(a.Stable)+" of the one before")
	style, text := plain, a.Outcome
	switch a.Outcome {
	case string(analysis.Fail):
		style, text = red, "the new version does worse"
	case string(analysis.Pass):
		text = "no worse than before"
	case string(analysis.Inconclusive):
		text = "too few connections to tell"
	}
	text += fmt.Sprintf(", evidence %s of %.0f", analysis.Show(a.Evidence), a.Wanted)
	switch {
	case a.Cannot != 0:
		text += fmt.Sprintf("; worker %d does not count, build it with a newer SDK", a.Cannot)
	case len(a.WaitsFor) > 0:
		text += fmt.Sprintf("; waits for worker %d", a.WaitsFor[0])
	}
	p.field("compared", style, text)
	for _, m := range a.Measures {
		p.measure(a, m)
	}
}

// measure is one that was compared beside the errors.
func (p *page) measure(a *api.Analysis, m api.Measure) {
	if m.Candidate.Connections+m.Stable.Connections == 0 {
		switch {
		case a.ErrorsOnly != 0:
			p.field(m.Name, plain, fmt.Sprintf("is not compared: worker %d counts errors alone, build it with a newer SDK", a.ErrorsOnly))
		case m.Name == compare.NameLatency:
			p.field(m.Name, plain, "is not compared: the version before has no route with 100 requests yet")
		}
		return
	}
	text := fmt.Sprintf("%d of %d connections of the new version, %d of %d of the one before, evidence %s of %.0f",
		m.Candidate.Hit, m.Candidate.Connections, m.Stable.Hit, m.Stable.Connections, analysis.Show(m.Evidence), a.Wanted)
	if m.Name == compare.NameLatency {
		text = "slow requests on " + text
	}
	style := plain
	if m.Outcome == string(analysis.Fail) {
		style = red
	}
	if !m.Acts {
		text += "; only reported"
	}
	if r := m.Record; r != nil && !m.Acts && r.Rollouts < r.Wanted {
		text += fmt.Sprintf(": %d of %d reloads of an unchanged program are on record", r.Rollouts, r.Wanted)
	} else if r != nil && r.Slower > 0 {
		text += fmt.Sprintf(": %d of %d reloads of an unchanged program were slower, too", r.Slower, r.Rollouts)
	}
	p.field(m.Name, style, text)
}

// steps reports whether a rollout is at one of its steps.
func steps(r api.Rollout) bool {
	return r.Stage == stageCanary && r.Step > 0 && r.Step <= len(r.Steps)
}

// step is where a canary is, and what ends its step.
func (p *page) step(r api.Rollout) string {
	step := r.Steps[r.Step-1]
	text := fmt.Sprintf("canary, step %d of %d: %s of new connections, for %s", r.Step, len(r.Steps), percent(step.Weight),
		span(p.st.Now.Sub(r.Since)))
	switch left := r.Deadline.Sub(p.st.Now); {
	case r.Paused != "":
	case r.Inconclusive != "":
		text += ", waits at most " + span(max(left, 0)) + " more for connections to be judged by, then it " + inconclusive(r.Inconclusive)
	case !r.Deadline.IsZero() && left > 0:
		text += ", " + span(left) + " left"
	case !r.Deadline.IsZero():
		text += ", its time is over"
	case step.Hold == 0:
		text += ", waits for `masterd promote`"
	}
	return text
}

// inconclusive is what becomes of a version that cannot be judged.
func inconclusive(what string) string {
	switch what {
	case "promote":
		return "goes on"
	case "rollback":
		return "is taken back"
	}
	return "is paused"
}

// lasting is how long something has been so, and how much longer it may be.
func (p *page) lasting(since, deadline time.Time) string {
	s := ""
	if !since.IsZero() {
		s = ", for " + span(p.st.Now.Sub(since))
	}
	switch left := deadline.Sub(p.st.Now); {
	case deadline.IsZero():
	case left > 0:
		s += ", at most " + span(left) + " more"
	default:
		s += ", overdue by " + span(-left)
	}
	return s
}

// phase is that of a generation. A canary's candidate is called so: it has traffic.
func (p *page) phase(g api.Generation) string {
	if r := p.st.Rollout; r != nil && r.Generation == g.ID && steps(*r) {
		return stageCanary
	}
	return g.Phase
}

// share is the part of new connections that a generation has, in percent.
func share(g api.Generation) float64 {
	if g.Share != 0 {
		return g.Share
	}
	return float64(g.Weight) // of a masterd that says no more
}

// percent is written as short as it is exact.
func percent(n float64) string {
	s := strconv.FormatFloat(n, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".") + "%"
}
