package compare

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

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
	Ratio   float64      `json:"ratio"`
	DelayNS int64        `json:"delay_ns"`
	FirstNS int64        `json:"first_ns"`         // when its first interval began, of CLOCK_MONOTONIC
	Failed  float64      `json:"failed,omitempty"` // the evidence by which it has failed; zero: it has not
	Weights []fileWeight `json:"weights,omitempty"`
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
	f := file{Schema: schema, Rollout: r.id, Alpha: r.settings.Alpha, Ratio: r.settings.Ratio,
		DelayNS: int64(r.settings.Delay), FirstNS: int64(r.first)}
	if r.verdict.Outcome == analysis.Fail {
		f.Failed = r.verdict.Evidence
	}
	for i, d := range r.drawn {
		f.Weights = append(f.Weights, fileWeight{d.Weight, [2]uint64{d.Candidate, d.Stable},
			[2]uint64{r.failed[i].Candidate, r.failed[i].Stable}})
	}
	text, err := json.Marshal(f)
	if err != nil { // settings that are no numbers
		return nil
	}
	return text
}

// Restore goes on where the master before has stopped. When it returns an error, the set knows
// nothing.
func (s *Set) Restore(text []byte) error {
	s.rollout, s.interval = nil, nil
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
	st := Settings{f.Alpha, f.Ratio, time.Duration(f.DelayNS)}
	r := &rollout{id: f.Rollout, settings: st, first: time.Duration(f.FirstNS)}
	for _, w := range f.Weights {
		r.drawn = append(r.drawn, analysis.Units{Weight: w.Weight, Candidate: w.Drawn[0], Stable: w.Drawn[1]})
		r.failed = append(r.failed, analysis.Units{Weight: w.Weight, Candidate: w.Failed[0], Stable: w.Failed[1]})
	}
	r.judge()
	if f.Failed > 0 { // by whatever another release reckons
		r.verdict.Outcome, r.verdict.Evidence = analysis.Fail, f.Failed
	}
	s.rollout = r
	return nil
}

// validate tells what cannot be.
func (f *file) validate() error {
	wanted := 1 / f.Alpha
	switch {
	case !isWeight(f.Alpha) || math.IsInf(wanted, 0):
		return fmt.Errorf("an alpha of %v", f.Alpha)
	case f.Ratio < 0 || f.Ratio > maxRatio:
		return fmt.Errorf("a ratio of %v", f.Ratio)
	case f.DelayNS < 0 || f.DelayNS > int64(maxDelay) || f.FirstNS < 0:
		return fmt.Errorf("a delay of %d ns since %d", f.DelayNS, f.FirstNS)
	case f.Failed != 0 && f.Failed < wanted:
		return fmt.Errorf("it has failed by %v, and %v is wanted", f.Failed, wanted)
	case len(f.Weights) > maxWeights:
		return fmt.Errorf("%d weights", len(f.Weights))
	}
	for i, w := range f.Weights {
		twice := slices.ContainsFunc(f.Weights[:i], func(b fileWeight) bool { return b.Weight == w.Weight })
		if !isWeight(w.Weight) || twice || w.Failed[0] > w.Drawn[0] || w.Failed[1] > w.Drawn[1] {
			return fmt.Errorf("its weight %v", w)
		}
	}
	return nil
}
