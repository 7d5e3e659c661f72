package rollout

import "time"

// Names of the things the machine talks about. All are made by the machine,
// counted from 1 and never reused, but for Request, which the driver makes.
type (
	// Generation is one rollout's set of workers of one version.
	Generation uint64
	// Worker is one process. A PID is reused by the kernel, a Worker is not.
	Worker uint64
	// Rollout is one attempt to bring a generation into service.
	Rollout uint64
	// Request is one caller that waits for an answer. Zero: nobody waits.
	Request uint64
	// Slot is an index into every listener's pool of kernel sockets. The same
	// index is used in each listener. The master's own slot is not in the pool.
	Slot int
)

// Version is all the machine knows of what is run.
type Version struct {
	ID     string // names it in the store: program, arguments, environment and directory together
	Digest string // of the program alone; what is closed to automation after a rollback
	Label  string // for people
}

// Settings is what one configuration says to the machine. A rollout carries
// the settings it was asked with; they come into force for the whole machine
// when its generation is given the traffic.
type Settings struct {
	Processes     int  // workers per generation, at least 1
	SlotPerWorker bool // each worker has a slot of its own (workers without the SDK); else a generation shares one
	SurgeOne      bool // replace one worker at a time instead of all beside all
	SurgeReplace  bool // the workers before have ended when new ones start
	// workers speak the control protocol: Ready, Accepting, Beat and Drained will come; else
	// Activate is answered by Accepting from the driver itself
	Beats     bool
	SaysReady bool // of those that do not: Ready will come; else Started stands for it
	Probe     bool // there is a health check; without one, Ready is enough
	Warmup    bool // there are warm-up requests to make

	PrepareTimeout time.Duration // pinning, "before" hooks, looking at memory
	StartTimeout   time.Duration // from Start until every check of the worker has passed
	StartInterval  time.Duration // between two checks of a candidate
	GiveUp         time.Duration // what shows that a candidate will never be fit ends it after so long; zero: not
	StartSuccesses int           // checks in a row that a candidate must pass
	WarmTimeout    time.Duration // for the warm-up requests of one worker
	AcceptTimeout  time.Duration // from Activate to Accepting
	SteerTimeout   time.Duration // from Steer to Steered
	SaveTimeout    time.Duration // from Save to Saved

	ActiveInterval time.Duration // between two checks of an active or parked worker
	ActiveTimeout  time.Duration // for each of them
	ActiveFailures int           // failures in a row that make a worker unhealthy

	Steps     []Step `json:",omitempty"` // of the candidate's share, before it has all the traffic; none: it has all at once
	Sticky    bool   `json:",omitempty"` // clients belong to the candidate by their address, not connections by chance
	SkipBaked bool   `json:",omitempty"` // a version that was baked before goes without steps

	MaxWait          time.Duration `json:",omitempty"` // at the last step, for a verdict; zero: none is waited for
	WhenInconclusive Inconclusive  `json:",omitempty"` // what follows when none comes; empty: a pause

	MinReady     time.Duration // one by one: how long a new worker must serve before an old one leaves for it
	Bake         time.Duration // active without a fault for so long is baked
	Cooldown     time.Duration // automatic rollouts: least time between the ends and starts of two
	MaxPerMinute int           // automatic rollouts: at most so many starts in a minute

	KeepVersions int // baked versions that rollbacks may go to

	Handover     bool          // workers of this configuration take the idle connections of those that leave
	ParkedClose  bool          // connections of the parked generation are closed, if it does not speak the protocol
	DrainTimeout time.Duration // zero: no deadline
	MaxDraining  int           // generations draining at one time; the oldest is cut when there are more
	KillAfter    time.Duration // from TERM to KILL

	RestartInitial time.Duration // first wait before a crashed worker is replaced
	RestartMax     time.Duration // longest wait
	Loop           int           // so many exits
	LoopWindow     time.Duration // within this time are a crash loop

	UnavailableAfter time.Duration // nobody alive for so long: the master answers itself
	StopTimeout      time.Duration // for a stop, before it is made short

	BeatInterval time.Duration // expected time between two Beats
	BeatsSteer   int           // so many missed: steered away (never the last one serving)
	BeatsKill    int           // so many more: a stack dump is asked for, then killed (never the last one serving)

	// Watchdog is the longest time between two Beats of a worker that does not
	// speak the protocol. Zero: none are expected. It ends the last one, too: whoever
	// sets it asks for that.
	Watchdog time.Duration

	ShortOne      bool   // when memory is short: go one by one instead of refusing
	MemoryReserve uint64 // bytes that must stay available
}

// Whole is the weight of all new connections.
const Whole = 10000

// Step is one of a canary: the candidate's share of the connections.
type Step struct {
	Weight uint32        // in parts of Whole, more than in the step before
	Hold   time.Duration // how long; zero: until it is promoted
}

// Memory is what was found when the machine asked whether a second generation
// fits beside the current one. Bytes.
type Memory struct {
	Known     bool   // false: could not be read; never a reason to refuse
	Available uint64 // the least of what the machine and the cgroup have left
	PerWorker uint64 // largest PSS among the workers of the active generation, zero when there are none
}

// Origin tells who is behind a request; automatic ones are held back.
type Origin uint8

const (
	Person   Origin = iota + 1 // the command line or the admin API
	Signal                     // HUP, USR2: as a person's, but nobody waits for the answer
	Watch                      // the file watch; automatic
	Internal                   // the machine itself: start, loop, confirm; automatic
)

// Until says at which point a reload is answered as done.
type Until uint8

const (
	UntilServing Until = iota // the new generation has the traffic
	UntilBaked                // and has kept it through its bake
)

// Code is how a request ended. The command line's exit codes follow from it.
type Code uint8

const (
	Done       Code = iota + 1 // as asked
	Failed                     // nothing changed
	RolledBack                 // it had the traffic and lost it again
	Held                       // refused because of a hold, a closed digest, a cooldown
	Superseded                 // a newer request took its place, or an older one keeps it
	Invalid                    // makes no sense now (nothing to roll back to, no rollout to abort)
)

// Stage is where a rollout is; also where it failed.
type Stage string

// Served: the traffic was moved.
func (s Stage) Served() bool {
	return s == StageServing || s == StageBake || s == StageConfirm || s == StageBaked
}

const (
	StagePrepare  Stage = "prepare"   // pin, hooks, memory
	StageSave     Stage = "save"      // writing down what is about to be done
	StageDrain    Stage = "drain"     // surge replace: who serves ends, clients wait
	StageStart    Stage = "start"     // process up to ready
	StageCheck    Stage = "check"     // health checks
	StageWarm     Stage = "warm-up"   // warm-up requests
	StageActivate Stage = "activate"  // handing over the slots
	StageSteer    Stage = "steer"     // moving the traffic
	StageMinReady Stage = "min-ready" // one by one: the newest worker serves, and has to go on doing so
	StageCanary   Stage = "canary"    // has a share of the traffic, beside the generation before
	StageServing  Stage = "serving"   // has the traffic
	StageBake     Stage = "bake"      // proving itself
	StageConfirm  Stage = "confirm"   // waiting for promote
	StageBaked    Stage = "baked"     // done
)

// Entry is one line of the history: a thing that was asked or that happened,
// and how it ended.
type Entry struct {
	At      time.Time
	Rollout Rollout
	// "start", "reload", "rollback", "promote", "abort", "hold", "unhold", "scale", "stop",
	// "crash", "cut", "loop", "unhealthy", "healthy"
	What     string
	By       string // opaque to the machine
	Origin   Origin
	Why      string // the asker's reason
	From, To Generation
	Version  Version
	Code     Code
	Stage    Stage
	Reason   string // why it failed, empty when it did not
	Worker   Worker // that it is about; zero: none
	Cut      Cut    // what that one took with it
	// When the rollout was asked for, and when it had all the traffic; zero: it had not, or
	// a master before has not written it down.
	Began    time.Time `json:",omitzero"`
	Switched time.Time `json:",omitzero"`
	// How long nobody accepted, because one version ended before the next began.
	Waited time.Duration `json:",omitempty"`
}

// State is what a Save must make durable, and what Booted gives back.
type State struct {
	NextGeneration Generation // never reused, also across masters
	Active         *Version   // has or is about to have the traffic
	Baked          *Version   // last baked
	Kept           []Version  // baked ones, newest first, without repeats; what rollbacks and loops may go to
	Closed         []string   // digests closed to automation
	Hold           string     // reason, empty: none
	HoldBy         string
}

func (c Code) String() string {
	switch c {
	case Done:
		return "done"
	case Failed:
		return "failed"
	case RolledBack:
		return "rolled back"
	case Held:
		return "held"
	case Superseded:
		return "superseded"
	case Invalid:
		return "invalid"
	}
	return "none"
}
