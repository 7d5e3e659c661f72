package rollout

import "time"

// Command is something to be done, now, in the order given. The driver does
// quick ones at once and slow ones beside its loop; each that has an answer is
// answered by one Event.
type Command interface{ command() }

type (
	// Prepare pins what is to be run, runs the "before" hooks and looks at
	// memory. Answer: Prepared or PrepareFailed.
	Prepare struct {
		Rollout Rollout
		Token   string   // of the ReloadAsked; "" for the configuration in force
		Version *Version // a kept version instead of what is configured
	}
	// Start starts one worker. Its slots have no weight. Answer: Started or
	// StartFailed; Ready when it says so; Exited once it is gone (also after
	// StartFailed nothing more is said of it).
	Start struct {
		Worker     Worker
		Generation Generation
		Slot       Slot
		Version    Version
		Replaces   Worker // zero: none
	}
	// Probe checks one worker by itself, once. Answer: Probed.
	Probe struct {
		Worker  Worker
		Timeout time.Duration
	}
	// Warm makes the warm-up requests to one worker. Answer: Warmed.
	Warm struct{ Worker Worker }
	// Activate gives the worker its slots, or tells it to go on accepting from
	// them after Park. Answer: Accepting.
	Activate struct{ Worker Worker }
	// Steer sends new connections to these slots by these weights, and to no
	// other. No shares: the master answers by itself (nobody is alive). Answer:
	// Steered or SteerFailed.
	Steer struct {
		Seq    uint64
		Shares []Share
		// Sticky seeds a hash of the client's address, by which the canary's shares are
		// chosen or the others. Zero: each connection draws.
		Sticky uint32
	}
	// Park: no new connections will come; background work pauses, connections
	// are asked to leave. With Close those of a worker without the SDK are closed, one at
	// a time, which an Activate ends. No answer.
	Park struct {
		Worker Worker
		Close  bool
	}
	// Drain: finish what is open, then exit. Deadline zero: none. The driver drains a
	// worker without the SDK in that program's own way, and sends it the stop signal
	// when its clients are gone. Answers: Drained perhaps, Exited.
	Drain struct {
		Worker   Worker
		Deadline time.Time
	}
	// Give: move idle connections to these, now and as they become idle, and to
	// nobody else. None in To: what is open stays. It ends with an Activate of the
	// worker, without being told. No answer.
	Give struct {
		Worker Worker
		To     []Worker
		Split  *Split // an active worker moves only this share of them; nil: all
	}
	// Compare: from now on each new connection goes to one of these workers, to a candidate with
	// the probability of Weight in parts of [Whole]. Zero: no more, something about it is about to
	// change. No answer, but perhaps Judged.
	Compare struct {
		Rollout           Rollout
		Weight            uint32
		Candidate, Stable []Worker
	}
	// Queue: this slot, with what waits there, is the generation's from now on, of which
	// nobody lives yet. New connections may be steered there all the same. No answer.
	Queue struct {
		Slot       Slot
		Generation Generation
	}
	// Announce: the service is about to stop. Readiness checks are told so, and
	// everything goes on. No answer.
	Announce struct{ Worker Worker }
	// Terminate sends the stop signal, Kill the one that cannot be caught, to
	// the worker's whole process group. Answer: Exited.
	Terminate struct {
		Worker Worker
		Why    string
	}
	Kill struct {
		Worker Worker
		Why    string
	}
	// Dump asks a worker that does not beat for its stacks. No answer.
	Dump struct{ Worker Worker }
	// Quarantine: this slot is assigned to nobody any more. What still arrives there is
	// given to a worker that is steered to. Answer: SlotQuiet, once.
	Quarantine struct{ Slot Slot }
	// Relieve: nobody reads the queue of this slot, which is assigned. What waits and
	// arrives there is given to others, or answered, until somebody is started on it or
	// activated. No answer.
	Relieve struct{ Slot Slot }
	// Report tells those who watch a rollout where it is. No answer.
	Report struct {
		Rollout    Rollout
		Generation Generation
		Version    Version
		Stage      Stage
		Detail     string
		Deadline   time.Time // of the stage; zero: none

		// Of the rollout, for the history.
		What   string
		By     string
		Origin Origin
		Why    string
		From   Generation
		Began  time.Time
	}
	// Reply answers a request; exactly one for each.
	Reply struct {
		Req        Request
		Rollout    Rollout
		Generation Generation
		Version    Version
		Code       Code
		Stage      Stage  // where it failed
		Reason     string // a whole sentence
		Worker     Worker // whose last lines explain it; zero: none
		Target     Target // where a rollback leads from now on; zero where it is not Done
	}
	// Save makes State durable. Answer: Saved or SaveFailed.
	Save struct {
		Seq   uint64
		State State
	}
	// Record appends to the history. No answer; a failure is logged by the driver.
	Record struct{ Entry Entry }
	// Hook runs the hooks named "after" or "failed". No answer.
	Hook struct {
		Name    string
		Rollout Rollout
		Entry   Entry
	}
	// Retain names every version that must stay in the store; others beyond
	// keep_versions may go. No answer.
	Retain struct{ InUse []string }
	// Exit: everything is gone, the master may end.
	Exit struct{ Code Code }
)

// Share is a slot's part of the new connections.
type Share struct {
	Slot   Slot
	Weight uint32 // at least 1
	// Canary: the slot is the candidate's, while the generation before has the rest.
	Canary bool `json:",omitempty"`
}

// Split is the share of the idle connections of one generation that belongs to the next,
// while both have traffic.
type Split struct {
	Rollout Rollout // whose steps these are; each draws anew
	Weight  uint32  // in parts of [Whole], of all connections since the first step
	Sticky  uint32  // seeds the hash that decides, as for new connections; zero: none does
}

func (Prepare) command()    {}
func (Start) command()      {}
func (Probe) command()      {}
func (Warm) command()       {}
func (Activate) command()   {}
func (Steer) command()      {}
func (Park) command()       {}
func (Drain) command()      {}
func (Give) command()       {}
func (Queue) command()      {}
func (Compare) command()    {}
func (Announce) command()   {}
func (Terminate) command()  {}
func (Kill) command()       {}
func (Dump) command()       {}
func (Quarantine) command() {}
func (Relieve) command()    {}
func (Report) command()     {}
func (Reply) command()      {}
func (Save) command()       {}
func (Record) command()     {}
func (Hook) command()       {}
func (Retain) command()     {}
func (Exit) command()       {}
