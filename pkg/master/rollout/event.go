package rollout

import "time"

// Event is something that happened: a request, or a fact about the world.
// Facts about workers, rollouts or saves that the machine no longer waits for
// are dropped in one place.
type Event interface{ event() }

// Requests. Each with a non-zero Req is answered by exactly one Reply.
type (
	// Booted is the first event of a machine's life: the master has opened its
	// listeners and read what the last one saved. The machine prepares and
	// starts what is configured; the last baked version is its fallback.
	// With Found it goes on where another machine was.
	Booted struct {
		Settings Settings
		State    State
		Found    *Found // what another machine has left; nil: nothing
		Workers  Worker // numbers up to this one are taken
	}
	// ReloadAsked asks for a new generation of what the configuration names now.
	ReloadAsked struct {
		Req      Request
		By       string
		Origin   Origin
		Why      string
		Settings Settings
		Until    Until
		Confirm  time.Duration // non-zero: roll back unless promoted within it, counted from serving
		Replace  bool          // also when traffic is already moving
		Digest   string        // of the program at the path when known (automation); "" otherwise
		// opaque: handed back in Prepare, so that the driver finds the configuration that came with
		// it
		Token string
	}
	// RollbackAsked asks to go back: to the parked generation when Version is
	// empty or names its version and there is one, else to the kept version
	// (empty: the newest kept one that is not the active one) as a new
	// generation.
	RollbackAsked struct {
		Req     Request
		By      string
		Origin  Origin
		Why     string
		Version string   // Version.ID of a kept one, resolved by the driver
		To      *Version // set when Version is: what it resolves to
		// what could be named, newest first, baked or not: for the answer where nothing can be gone
		// back to by itself
		Stored []Version
	}
	// PromoteAsked ends a step of a canary, or a bake or a confirm, now, as passed.
	PromoteAsked struct {
		Req     Request
		By, Why string
		All     bool // all steps that are left: the candidate gets all the traffic
	}
	// PauseAsked stops the clock of a canary's steps: no step follows by itself, and what
	// protects the service goes on.
	PauseAsked struct {
		Req     Request
		By, Why string
	}
	// ResumeAsked ends that. The step begins anew.
	ResumeAsked struct {
		Req     Request
		By, Why string
	}
	// AbortAsked ends the running rollout: the candidate is killed, traffic
	// that was moved goes back. While none is running it ends the automatic reload
	// that waits.
	AbortAsked struct {
		Req     Request
		By, Why string
	}
	// HoldAsked refuses reloads until UnholdAsked. Rolling back stays possible.
	HoldAsked struct {
		Req     Request
		By, Why string
	}
	UnholdAsked struct {
		Req     Request
		By, Why string
	}
	// ScaleAsked changes the number of workers of the active generation.
	ScaleAsked struct {
		Req       Request
		By, Why   string
		Processes int
	}
	// StopAsked drains everything and ends the master. With Announce it is only
	// said for so long: workers serve on, and load balancers in front can look
	// away. A second one drains at once what is announced, and ends at once what
	// drains; Now ends it at once in any case.
	StopAsked struct {
		Req      Request
		By, Why  string
		Patient  bool // no deadline of its own (QUIT)
		Now      bool
		Announce time.Duration
	}
)

// Facts.
type (
	// Prepared: the version is pinned, the "before" hooks passed, memory was looked at.
	// A kept version may be run with other Settings than those in force: its own. Notice is
	// what whoever watches should know of the version, and of a kept one is part of the answer;
	// empty: nothing.
	Prepared struct {
		Rollout  Rollout
		Version  Version
		Memory   Memory
		Settings *Settings // nil: those that the rollout was asked with
		Notice   string
	}
	PrepareFailed struct {
		Rollout Rollout
		Reason  string
	}
	// Started: the process exists.
	Started struct {
		Worker Worker
		PID    int
	}
	StartFailed struct {
		Worker Worker
		Reason string
	}
	// Ready: the worker says that it can serve. Nothing is sent to it yet.
	Ready struct{ Worker Worker }
	// Waiting: what a worker that is not ready is still waited for; the last word
	// of it explains why it never was. Vain: what is known of it shows that it never
	// will be; another Waiting takes that back.
	Waiting struct {
		Worker Worker
		Detail string
		Vain   bool
	}
	// Extended: a worker that starts or leaves asks for more time, from now on.
	Extended struct {
		Worker Worker
		By     time.Duration
	}
	// Paced: the worker feeds its watchdog at another pace from now on. Where it has
	// none, that changes nothing.
	Paced struct {
		Worker Worker
		Every  time.Duration
	}
	// Unfit: the worker cannot serve, or not any more, by its own word or by what it
	// did.
	Unfit struct {
		Worker Worker
		Why    string
	}
	// Triggered: the worker asks for what its watchdog does when it is not fed, now.
	Triggered struct{ Worker Worker }
	// Leaves: the worker says that it is about to end by itself.
	Leaves struct{ Worker Worker }
	// Probed is the answer to one Probe. Refusal is set when the check failed because
	// the worker refuses what is asked of it (a path that it does not know, a redirect):
	// the same words for the same refusal. Steady: it is no refusal of one that is still
	// coming up.
	Probed struct {
		Worker  Worker
		OK      bool
		Detail  string
		Refusal string
		Steady  bool
	}
	// Warmed is the answer to Warm.
	Warmed struct {
		Worker Worker
		OK     bool
		Detail string
	}
	// Accepting: the worker has its slots and takes connections from them; the
	// answer to Activate.
	Accepting struct{ Worker Worker }
	// Steered is the answer to Steer: new connections now go as it said.
	Steered struct{ Seq uint64 }
	// SteerFailed: the steering is as it was before.
	SteerFailed struct {
		Seq    uint64
		Reason string
	}
	// Beat: the worker is alive and its loop turns, or it has fed its watchdog.
	Beat struct{ Worker Worker }
	// Drained: nothing is open in the worker any more; it exits by itself.
	Drained struct{ Worker Worker }
	// Exited: the process is gone, whatever the machine believed about it.
	Exited struct {
		Worker Worker
		Detail string // "exit status 1", "signal: killed"
		Cut    Cut    // what it took with it
	}
	// SlotQuiet: the slot's queues are empty and no handshake that could still
	// land there is under way. Answer to Quarantine.
	SlotQuiet struct{ Slot Slot }
	// Grown: the pool has so many slots now. It never shrinks.
	Grown struct{ Slots int }
	// Saved and SaveFailed answer Save.
	Saved      struct{ Seq uint64 }
	SaveFailed struct {
		Seq    uint64
		Reason string
	}
	// Judged: by what has been compared, the rollout's candidate does worse than the generation
	// beside it. Why is a part of a sentence.
	Judged struct {
		Rollout Rollout
		Why     string
	}
	// Passed: by what has been compared, the rollout's candidate does no worse: that would have
	// been seen.
	Passed struct{ Rollout Rollout }
	// Incomparable: nothing can be compared in this rollout. Why is a part of a sentence.
	Incomparable struct {
		Rollout Rollout
		Why     string
	}
	// Pressed: the machine or the cgroup is about to run out of memory.
	Pressed struct{ Detail string }
	// Ticked: nothing happened but time.
	Ticked struct{}
)

func (Booted) event()        {}
func (ReloadAsked) event()   {}
func (RollbackAsked) event() {}
func (PromoteAsked) event()  {}
func (PauseAsked) event()    {}
func (ResumeAsked) event()   {}
func (AbortAsked) event()    {}
func (HoldAsked) event()     {}
func (UnholdAsked) event()   {}
func (ScaleAsked) event()    {}
func (StopAsked) event()     {}
func (Prepared) event()      {}
func (PrepareFailed) event() {}
func (Started) event()       {}
func (StartFailed) event()   {}
func (Ready) event()         {}
func (Waiting) event()       {}
func (Extended) event()      {}
func (Paced) event()         {}
func (Unfit) event()         {}
func (Triggered) event()     {}
func (Leaves) event()        {}
func (Probed) event()        {}
func (Warmed) event()        {}
func (Accepting) event()     {}
func (Steered) event()       {}
func (SteerFailed) event()   {}
func (Beat) event()          {}
func (Drained) event()       {}
func (Exited) event()        {}
func (SlotQuiet) event()     {}
func (Grown) event()         {}
func (Saved) event()         {}
func (SaveFailed) event()    {}
func (Judged) event()        {}
func (Passed) event()        {}
func (Incomparable) event()  {}
func (Pressed) event()       {}
func (Ticked) event()        {}
