package master

import (
	"time"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/rollout"
)

// Waits that no configuration key sets.
const (
	prepareTimeout = 5 * time.Minute  // hooks may take their time
	warmTimeout    = time.Minute      // for one worker's warm-up
	acceptTimeout  = 5 * time.Second  // from Activate until the worker accepts
	steerTimeout   = 5 * time.Second  // a steer takes microseconds
	saveTimeout    = 10 * time.Second // a disk that takes longer is not to be trusted with a rollout
	beatInterval   = time.Second
	beatsSteer     = 5  // missed beats until a worker is steered away from
	beatsKill      = 10 // more missed beats until it is killed
)

// settings is what a configuration says to the machine.
func settings(c *config.Config) rollout.Settings {
	h := c.Health
	return rollout.Settings{
		Processes:     c.Worker.Processes,
		SlotPerWorker: c.Worker.Kind != config.KindSDK,
		SurgeOne:      c.Rollout.Surge == "one",
		Beats:         c.Worker.Kind == config.KindSDK,
		SaysReady:     saysReady(c),
		Watchdog:      c.Worker.Watchdog,
		Probe:         h.HTTP != nil || h.TCP != nil || len(h.Command) > 0,
		Warmup:        h.Warmup.Requests > 0,

		PrepareTimeout: prepareTimeout,
		StartTimeout:   h.Start.Timeout,
		StartInterval:  h.Start.Interval,
		StartSuccesses: h.Start.Successes,
		WarmTimeout:    warmTimeout,
		AcceptTimeout:  acceptTimeout,
		SteerTimeout:   steerTimeout,
		SaveTimeout:    saveTimeout,

		ActiveInterval: h.Active.Interval,
		ActiveTimeout:  h.Active.Timeout,
		ActiveFailures: h.Active.Failures,

		MinReady:     c.Rollout.MinReady,
		Bake:         c.Rollout.Bake,
		Cooldown:     c.Rollout.Cooldown,
		MaxPerMinute: c.Rollout.MaxPerMinute,

		KeepVersions: c.Rollout.KeepVersions,

		Handover:     c.Drain.Handover && c.Worker.Kind == config.KindSDK,
		DrainTimeout: c.Drain.Timeout,
		MaxDraining:  c.Drain.MaxGenerations,
		KillAfter:    c.Drain.KillAfter,

		RestartInitial: c.Restart.Initial,
		RestartMax:     c.Restart.Max,
		Loop:           c.Restart.Loop,
		LoopWindow:     c.Restart.LoopWindow,

		UnavailableAfter: c.Unavailable.After,
		StopTimeout:      c.StopTimeout,

		BeatInterval: beatInterval,
		BeatsSteer:   beatsSteer,
		BeatsKill:    beatsKill,

		ShortOne:      c.Rollout.Memory.WhenShort == "one",
		MemoryReserve: c.Rollout.Memory.Reserve,
	}
}

// saysReady: a worker of another kind than sdk tells when it is ready.
func saysReady(c *config.Config) bool {
	return c.Worker.Kind != config.KindSDK && (c.Worker.Ready == readyNotify || bindsItself(c))
}

// readyNotify has workers say READY=1.
const readyNotify = "notify"

// bindsItself: workers are ready when they have bound what is configured, and not before.
func bindsItself(c *config.Config) bool {
	return c.Worker.Kind == config.KindUnmodified && len(c.Listeners) > 0
}
