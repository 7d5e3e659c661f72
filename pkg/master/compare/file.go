package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/masterd/masterd/pkg/ipc"
	"github.com/masterd/masterd/pkg/master/analysis"
)

// schema is the number of the form below.
const schema = 1

// maxRatio is more than anybody accepts.
const maxRatio = 1e6

// file is what the next master needs.
type file struct {
	Schema  int          `json:"schema"`
	Rollout uint64       `json:"rollout"`
	Alpha   float64      `json:"alpha"`
	Ratio   float64      `json:"ratio"` // of errors, and so are the weights
	DelayNS int64        `json:"delay_ns"`
	FirstNS int64        `json:"first_ns"`         // when its first interval began, of CLOCK_MONOTONIC
	Failed  float64      `json:"failed,omitempty"` // the evidence by which it has failed; zero: it has not
	Weights []fileWeight `json:"weights,omitempty"`
	// Others are the other measures, which an older masterd does not know.
	Others    []fileMeasure `json:"others,omitempty"`
	Unchanged bool          `json:"unchanged,omitempty"`
}

// fileMeasure is one of the others.
type fileMeasure struct {
	Name    string       `json:"name"`
	Acts    bool         `json:"acts,omitempty"`
	Failed  bool         `json:"failed,omitempty"` // by itself it would have, once
	Ratio   float64      `json:"ratio"`
	Weights []fileWeight `json:"weights,omitempty"` // the same as those of errors
}

// fileWeight is what was counted at one weight, the candidate's first.
type fileWeight struct {
	Weight float64   `json:"weight"`
	Drawn  [2]uint64 `json:"drawn"`
	Failed [2]uint64 `json:"failed"`
}

// Saved is what the next master needs to go on, in JSON: what is known of the rollout, without the
// interval, which it begins anew. nil: nothing is known. It is for masters of the same boot.
func (s *Set) Saved() []byte {
	r := s.rollout
	if r == nil {
		return nil
	}
	f := file{Schema: schema, Rollout: r.id, Alpha: r.settings.Alpha,
		DelayNS: int64(r.settings.Delay), FirstNS: int64(r.first), Unchanged: r.settings.Unchanged}
	if r.verdict.Outcome == analysis.Fail {
		f.Failed = r.verdict.Evidence
	}
	for i, m := range r.settings.Measures {
		weights := r.measures[i].saved()
		if i == Errors {
			f.Ratio, f.Weights = m.Ratio, weights
			continue
		}
		f.Others = append(f.Others, fileMeasure{m.Name, m.Acts, r.measures[i].failed, m.Ratio, weights})
	}
	text, err := json.Marshal(f)
	if err != nil { // settings that are no numbers
		return nil
	}
	return text
}

func (m measure) saved() (all []fileWeight) {
	for i, d := range m.drawn {
		had := m.had[i]
		all = append(all, fileWeight{d.Weight, [2]uint64{d.Candidate, d.Stable},
			[2]uint64{had.Candidate, had.Stable}})
	}
	return all
}

// Restore goes on where the master before has stopped. When it returns an error, the set knows
// nothing.
func (s *Set) Restore(text []byte) error {
	s.rollout, s.interval, s.slow = nil, nil, nil
	var head struct {
		Schema int `json:"schema"`
	}
	if err := json.Unmarshal(text, &head); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	switch {
	case head.Schema > schema:
		return fmt.Errorf("a newer masterd wrote it (schema %d, this one knows up to %d)", head.Schema, schema)
	case head.Schema < 1:
		return errors.New("it is damaged: it has no schema number")
	}
	var f file
	if err := json.Unmarshal(text, &f); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	if err := f.validate(); err != nil {
		return fmt.Errorf("it is damaged: %w", err)
	}
	st := Settings{Alpha: f.Alpha, Delay: time.Duration(f.DelayNS), Unchanged: f.Unchanged,
		Measures: []Measure{{Name: NameErrors, Ratio: f.Ratio, Acts: true}}}
	for _, m := range f.Others {
		st.Measures = append(st.Measures, Measure{m.Name, m.Ratio, m.Acts})
	}
	r := &rollout{id: f.Rollout, settings: st, first: time.Duration(f.FirstNS)}
	r.measures = make([]measure, len(st.Measures))
	for i, m := range f.Others {
		r.measures[Latency+i].failed = m.Failed
	}
	for at, w := range f.Weights {
		r.addWeight(w.Weight)
		r.measures[Errors].restore(at, w)
		for i, m := range f.Others {
			r.measures[Latency+i].restore(at, m.Weights[at])
		}
	}
	r.judge()
	if f.Failed > 0 { // by whatever another release reckons
		r.verdict.Outcome, r.verdict.Evidence = analysis.Fail, f.Failed
	}
	s.rollout = r
	return nil
}

func (m measure) restore(at int, w fileWeight) {
	d, h := &m.drawn[at], &m.had[at]
	d.Candidate, d.Stable, h.Candidate, h.Stable = w.Drawn[0], w.Drawn[1], w.Failed[0], w.Failed[1]
}

// validate tells what cannot be.
func (f *file) validate() error {
	wanted := 1 / f.Alpha
	switch {
	case !isWeight(f.Alpha) || math.IsInf(wanted, 0):
		return fmt.Errorf("an alpha of %v", f.Alpha)
	case f.DelayNS < 0 || f.DelayNS > int64(maxDelay) || f.FirstNS < 0:
		return fmt.Errorf("a delay of %d ns since %d", f.DelayNS, f.FirstNS)
	case f.Failed != 0 && f.Failed < wanted:
		return fmt.Errorf("it has failed by %v, and %v is wanted", f.Failed, wanted)
	case len(f.Weights) > maxWeights:
		return fmt.Errorf("%d weights", len(f.Weights))
	case len(f.Others) > maxMeasures-Latency:
		return fmt.Errorf("%d measures", len(f.Others))
	}
	for i, m := range append([]fileMeasure{{Ratio: f.Ratio, Weights: f.Weights}}, f.Others...) {
		if err := m.validate(i, f.Weights); err != nil {
			return err
		}
	}
	return nil
}

// validate tells what cannot be of a measure in this place. weights are those that each has.
func (m *fileMeasure) validate(place int, weights []fileWeight) error {
	switch {
	case m.Ratio < 0 || m.Ratio > maxRatio:
		return fmt.Errorf("a ratio of %v", m.Ratio)
	case len(m.Weights) != len(weights):
		return fmt.Errorf("%d weights of %q, not %d", len(m.Weights), m.Name, len(weights))
	case place == Latency && m.Name != NameLatency, place >= Own && !ipc.IsMeasure(m.Name):
		return fmt.Errorf("the name %q of a measure", m.Name)
	}
	for i, w := range m.Weights {
		twice := slices.ContainsFunc(m.Weights[:i], func(b fileWeight) bool { return b.Weight == w.Weight })
		if !isWeight(w.Weight) || twice || w.Weight != weights[i].Weight ||
			w.Failed[0] > w.Drawn[0] || w.Failed[1] > w.Drawn[1] {
			return fmt.Errorf("its weight %v", w)
		}
	}
	return nil
}
