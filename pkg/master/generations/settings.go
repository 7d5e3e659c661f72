package generations

import (
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
	"github.com/masterd/masterd/pkg/master/workers"
)

// BeatInterval is the time between two signs of life of an SDK worker.
const BeatInterval = time.Second

// Waits that no configuration key sets.
const (
	acceptTimeout = 5 * time.Second  // from Activate until the worker accepts
	steerTimeout  = 5 * time.Second  // a steer takes microseconds
	saveTimeout   = 10 * time.Second // a disk that takes longer is not to be trusted with a rollout
	beatsSteer    = 5                // missed beats until a worker is steered away from
	beatsKill     = 10               // more missed beats until it is killed
)

// minSlots is the pool of slots of a listener: enough for the active, the parked, a
// candidate and several draining generations.
const minSlots = 16

// Slots is the size of the pool that a configuration needs.
func Slots(cfg *config.Config) int { return SlotsFor(cfg, cfg.Worker.Processes) }

// SlotsFor is that for another number of workers: what two generations need twice over, as
// draining ones keep theirs for a while.
func SlotsFor(cfg *config.Config, processes int) int {
	n := minSlots
	if cfg.Worker.Kind != config.KindSDK {
		n = max(n, 4*processes)
	}
	return n
}

// Settings is what a configuration says to the machine.
func Settings(c *config.Config) rollout.Settings {
	h := c.Health
	var steps []rollout.Step
	for _, step := range c.Rollout.Canary.Steps {
		steps = append(steps, rollout.Step{Weight: step.Weight, Hold: step.Hold})
	}
	a := c.Rollout.Analysis
	if !c.Judges() {
		a.MaxWait = 0
	}
	return rollout.Settings{
		Processes:     c.Worker.Processes,
		SlotPerWorker: c.Worker.Kind != config.KindSDK,
		SurgeOne:      c.Rollout.Surge == "one",
		SurgeReplace:  c.Rollout.Surge == "replace",
		Beats:         c.Worker.Kind == config.KindSDK,
		SaysReady:     workers.SaysReady(c),
		Watchdog:      c.Worker.Watchdog,
		Probe:         h.HTTP != nil || h.TCP != nil || len(h.Command) > 0,
		Warmup:        h.Warmup.Requests > 0,

		PrepareTimeout: prepareTimeout,
		StartTimeout:   h.Start.Timeout,
		StartInterval:  h.Start.Interval,
		StartSuccesses: h.Start.Successes,
		GiveUp:         h.Start.GiveUp,
		WarmTimeout:    workers.WarmTimeout,
		AcceptTimeout:  acceptTimeout,
		SteerTimeout:   steerTimeout,
		SaveTimeout:    saveTimeout,

		ActiveInterval: h.Active.Interval,
		ActiveTimeout:  h.Active.Timeout,
		ActiveFailures: h.Active.Failures,

		Steps:     steps,
		Sticky:    c.Rollout.Canary.Sticky == config.StickyClient,
		SkipBaked: c.Rollout.Canary.SkipBaked,

		MaxWait:          a.MaxWait,
		WhenInconclusive: rollout.Inconclusive(a.WhenInconclusive),

		MinReady:     c.Rollout.MinReady,
		Bake:         c.Rollout.Bake,
		Cooldown:     c.Rollout.Cooldown,
		MaxPerMinute: c.Rollout.MaxPerMinute,

		KeepVersions: c.Rollout.KeepVersions,

		Handover:     c.Drain.Handover && c.Worker.Kind == config.KindSDK,
		ParkedClose:  c.Drain.Parked == config.ParkedClose,
		DrainTimeout: c.Drain.Timeout,
		MaxDraining:  c.Drain.MaxGenerations,
		KillAfter:    c.Drain.KillAfter,

		RestartInitial: c.Restart.Initial,
		RestartMax:     c.Restart.Max,
		Loop:           c.Restart.Loop,
		LoopWindow:     c.Restart.LoopWindow,

		UnavailableAfter: c.Unavailable.After,
		StopTimeout:      c.StopTimeout,

		BeatInterval: BeatInterval,
		BeatsSteer:   beatsSteer,
		BeatsKill:    beatsKill,

		ShortOne:      c.Rollout.Memory.WhenShort == "one",
		MemoryReserve: c.Rollout.Memory.Reserve,
	}
}
