package operator

import (
	"fmt"
	"math"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/generations"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// canary is what the machine is to do with a configuration, with the steps that a reload may
// have of its own. The configuration in force stays the one on disk: the next reload has its
// steps again.
func canary(cfg *config.Config, r api.ReloadRequest) (rollout.Settings, error) {
	if r.Canary != "" {
		with, err := config.WithCanary(cfg, r.Canary)
		if err != nil {
			return rollout.Settings{}, fmt.Errorf("these steps cannot be: %w", err)
		}
		cfg = with
	}
	settings := generations.Settings(cfg)
	if r.SkipCanary {
		settings.Steps = nil
	}
	return settings, nil
}

// Promote takes the next step of a canary, ends a bake, or confirms.
func (b *Backend) Promote(by string, r api.PromoteRequest) (<-chan api.Event, error) {
	return b.request(func(q rollout.Request) rollout.Event {
		return rollout.PromoteAsked{Req: q, By: by, Why: r.Reason, All: r.All}
	}), nil
}

// Pause stops the clock of a canary's steps.
func (b *Backend) Pause(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.request(func(q rollout.Request) rollout.Event {
		return rollout.PauseAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

// Resume has it go on.
func (b *Backend) Resume(by string, r api.ReasonRequest) (<-chan api.Event, error) {
	return b.request(func(q rollout.Request) rollout.Event {
		return rollout.ResumeAsked{Req: q, By: by, Why: r.Reason}
	}), nil
}

// nextStep proposes what can be typed at a step of a canary.
func nextStep(r rollout.RolloutStatus, add func(why string, args ...string)) {
	if r.Paused != "" && r.Awaits == "" {
		add("lets the clock of its steps run again", "resume")
	}
	if r.Stage == rollout.StageCanary {
		gets := "all new connections"
		if r.Step < len(r.Steps) {
			weight := percent(r.Steps[r.Step].Weight, rollout.Whole)
			gets = fmt.Sprintf("%g%% of new connections, step %d of %d", weight, r.Step+1, len(r.Steps))
		}
		add(fmt.Sprintf("gives %s %s", r.Version.Label, gets), "promote")
	}
	if r.Paused != "" && r.Awaits != "" {
		add("waits once more for connections to judge it by", "resume")
	}
	add("gives up the "+r.What+", all new connections go back", "abort")
	if r.Paused == "" && !r.Deadline.IsZero() {
		add("stops the clock of its steps", "pause")
	}
}

// steps are those of a canary, for people and programs.
func steps(of []rollout.Step) (all []api.Step) {
	for _, s := range of {
		all = append(all, api.Step{Weight: percent(s.Weight, rollout.Whole), Hold: api.Duration(s.Hold)})
	}
	return all
}

// percent is a part of a whole, exact to 0.01.
func percent(part, whole uint32) float64 {
	if whole == 0 {
		return 0
	}
	return math.Round(float64(part)/float64(whole)*rollout.Whole) / 100
}
