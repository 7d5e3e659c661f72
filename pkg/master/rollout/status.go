package rollout

import "time"

// Phase is where a worker or a generation is in its life. Each but PhaseActive
// and PhaseParked has a deadline, set once when the phase begins.
type Phase string

const (
	// PhaseStarting: its process was asked for; ends with Ready, or the end of
	// StartTimeout.
	PhaseStarting Phase = "starting"
	// PhaseChecking: ready, checked by itself; ends with enough successes in a
	// row. StartTimeout still runs.
	PhaseChecking Phase = "checking"
	// PhaseWarming: warm-up requests are made.
	PhaseWarming Phase = "warming"
	// PhaseChecked: passed everything, waits for its siblings or for a save.
	PhaseChecked Phase = "checked"
	// PhaseActivating: was given the slots, has not said that it accepts.
	PhaseActivating Phase = "activating"
	// PhaseActive: accepts and is, or is about to be, steered to.
	PhaseActive Phase = "active"
	// PhaseParked: warm, accepting, without new connections.
	PhaseParked Phase = "parked"
	// PhaseDraining: finishing what it has.
	PhaseDraining Phase = "draining"
	// PhaseStopping: was sent its stop signal.
	PhaseStopping Phase = "stopping"
	// PhaseKilled: was sent KILL; ends with Exited, or the machine gives it up.
	PhaseKilled Phase = "killed"
	// PhaseBackoff: gone; a replacement waits for its time.
	PhaseBackoff Phase = "backoff"
)

// Status is a copy of all that the machine knows; nothing in it is shared.
type Status struct {
	Serving     bool // a live, accepting worker is steered to
	Stopping    bool
	Drains      time.Time // a stop that is only announced: when workers begin to drain; zero: none is
	Hold        string
	HoldBy      string
	Active      Generation // zero: none
	Parked      Generation // zero: none
	Baked       *Version
	Kept        []Version
	Closed      []string
	Generations []GenerationStatus // oldest first
	Rollout     *RolloutStatus     // the running one
	Target      Target             // where a rollback leads
	Waits       *Delayed           // an automatic reload that is held back; nil: none is
	Last        *Entry             // how the last one ended
	LastFailure *Entry             // the last one that did not end well
	LastCut     *Entry             // the last worker that took something with it
	Slots       []SlotStatus
}

// GenerationStatus is one generation.
type GenerationStatus struct {
	ID       Generation
	Version  Version
	Phase    Phase // of the generation as a whole
	Since    time.Time
	Deadline time.Time // zero: none
	Baked    bool
	Workers  []WorkerStatus
	Exits    []time.Time   // of its workers, unasked, within Window; oldest first
	Window   time.Duration // LoopWindow
	Ended    Ending        // the last of them
}

// Ending is how a worker ended.
type Ending struct {
	Worker Worker `json:"worker,omitempty"`
	How    string `json:"how,omitempty"` // "exited: exit status 2"
}

// WorkerStatus is one worker.
type WorkerStatus struct {
	ID        Worker
	PID       int
	Slot      Slot
	Phase     Phase
	Since     time.Time
	Deadline  time.Time
	Healthy   bool
	Failures  int      // failed checks in a row
	LastProbe string   // what the last failed check said
	Gives     []Worker // who is given its connections, while it is parked or drains
	Restarts  int      // how many workers had its place before it, within the generation
}

// RolloutStatus is the running rollout.
type RolloutStatus struct {
	ID         Rollout
	What       string // "start", "reload", "rollback"
	By         string
	Origin     Origin
	Why        string
	Generation Generation
	Version    Version
	Stage      Stage
	Since      time.Time
	Deadline   time.Time
	Steps      []Step // of a canary; none: it goes without
	Step       int    // the one that is in force, counted from 1; zero: none yet
	Paused     string // who has paused it, and why; empty: it is not
	// Its last step is over, and it waits for a verdict until Deadline; this follows then. Empty:
	// it does not wait.
	Awaits Inconclusive
}

// Delayed is an automatic reload that is held back.
type Delayed struct {
	By    string
	Until time.Time // zero: for something that has no time
	Why   string    // "cooldown", "max_per_minute", or what is under way
}

// SlotStatus is one slot of the pool.
type SlotStatus struct {
	Slot       Slot
	State      string     // "free", "manned", "quarantine"
	Generation Generation // zero: none
	Weight     uint32
}
