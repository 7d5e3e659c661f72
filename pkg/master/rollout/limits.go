package rollout

import "time"

// MaxProcesses is how many workers a generation may have, as worker.processes allows.
const MaxProcesses = 64

// Every wait, retry and list that the configuration does not name has its
// limit here.
const (
	defaultKeep = 5
	maxClosed   = 32  // digests closed to automation; the oldest falls out
	maxHomes    = 4   // workers that one worker gives its connections to at one time; each costs both a link
	maxExits    = 100 // exits of workers that a generation remembers, or as many as make a loop

	killPatience  = 10 * time.Second       // from KILL to giving a process up as stuck
	killAgain     = time.Minute            // between two KILLs of a stuck one
	dumpTime      = time.Second            // from Dump to Kill
	giveUpAnswers = 5                      // in a row that refuse a check in the same way, until they show anything
	tellWaiting   = 2 * time.Second        // from a worker's start until who watches is told what it is waited for
	extendMost    = 10 * time.Minute       // that a worker may ask for at one time
	extendSum     = time.Hour              // that it may have so in all, from the start of the phase on
	watchdogLeast = 100 * time.Millisecond // that a worker may ask for itself
	watchdogMost  = 24 * time.Hour
	leaveTime     = time.Second     // for a draining generation with nothing open to be gone, before it counts
	slotAgain     = time.Second     // until a replacement without a slot looks for one again
	surgePatience = 5 * time.Minute // surge one: wait for the old worker's exit when drains have no deadline

	steerAgainFirst = 50 * time.Millisecond // between two attempts to steer back
	steerAgainMost  = time.Second
	saveAgainFirst  = time.Second // between two attempts to save what nobody waits for
	saveAgainMost   = time.Minute
	probeSlack      = time.Second // beyond a Probe's own timeout, until it counts as failed
	lateAtLeast     = time.Second // a clock that is less late than this is not late
)

// whole puts a limit where the settings have none: a phase without a deadline
// is a phase that can hang. DrainTimeout, Bake, Cooldown and UnavailableAfter
// may be zero and mean it.
func (s Settings) whole() Settings {
	number := func(n *int, d int) {
		if *n < 1 {
			*n = d
		}
	}
	wait := func(t *time.Duration, d time.Duration) {
		if *t <= 0 {
			*t = d
		}
	}
	number(&s.Processes, 1)
	s.Processes = min(s.Processes, MaxProcesses)
	number(&s.StartSuccesses, 1)
	number(&s.ActiveFailures, 3)
	number(&s.MaxPerMinute, 6)
	number(&s.MaxDraining, 4)
	number(&s.KeepVersions, defaultKeep)
	number(&s.Loop, 5)
	number(&s.BeatsSteer, 5)
	number(&s.BeatsKill, 10)
	wait(&s.PrepareTimeout, 5*time.Minute)
	wait(&s.StartTimeout, time.Minute)
	wait(&s.StartInterval, 50*time.Millisecond)
	wait(&s.WarmTimeout, time.Minute)
	wait(&s.AcceptTimeout, 10*time.Second)
	wait(&s.SteerTimeout, 5*time.Second)
	wait(&s.SaveTimeout, 10*time.Second)
	wait(&s.ActiveInterval, 2*time.Second)
	wait(&s.ActiveTimeout, time.Second)
	wait(&s.KillAfter, 5*time.Second)
	wait(&s.RestartInitial, 100*time.Millisecond)
	wait(&s.RestartMax, 10*time.Second)
	s.RestartMax = max(s.RestartMax, s.RestartInitial)
	wait(&s.LoopWindow, time.Minute)
	wait(&s.StopTimeout, time.Minute)
	wait(&s.BeatInterval, time.Second)
	return s
}

// checkTime is how long a worker that turns sick may stay unnoticed.
func (s Settings) checkTime() time.Duration {
	return s.ActiveInterval*time.Duration(s.ActiveFailures) + s.ActiveTimeout + probeSlack
}

// candidateTimeout is how long a candidate may take from its first Start to
// its traffic, whatever its stages may take each.
func (s Settings) candidateTimeout(one bool) time.Duration {
	once := s.StartTimeout + s.WarmTimeout + s.AcceptTimeout + s.SteerTimeout
	if one {
		drain := s.DrainTimeout
		if drain == 0 {
			drain = surgePatience
		}
		if s.MinReady > 0 {
			once += s.MinReady + s.checkTime()
		}
		once = (once + drain + s.KillAfter + killPatience) * time.Duration(s.Processes)
	}
	return once + 2*s.SaveTimeout + time.Second
}
