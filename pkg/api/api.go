// Package api holds the types of the admin API (HTTP/JSON under /v1, over the
// service's Unix socket), shared by the master, the command line and the
// OpenAPI file. Fields are only ever added; [Schema] counts incompatible changes.
package api

import "time"

// Schema is the number in every Status and History; it grows when a field
// changes its meaning or goes.
const Schema = 1

// Status is everything an operator asks for first.
type Status struct {
	Schema      int          `json:"schema"`
	Service     string       `json:"service"`
	Environment string       `json:"environment,omitempty"`
	State       string       `json:"state"`             // "serving", "degraded", "starting", "down", "stopping"
	Reasons     []string     `json:"reasons,omitempty"` // why not simply serving, one sentence each
	Drains      time.Time    `json:"drains,omitzero"`   // a stop that is only announced: when workers begin to drain
	Now         time.Time    `json:"now"`
	Master      Master       `json:"master"`
	Active      *Deployment  `json:"active,omitempty"`
	ConfigFile  string       `json:"config_file"`
	FileDiffers string       `json:"file_differs,omitempty"` // how the file on disk differs from what runs; empty: it does not
	Hold        *Hold        `json:"hold,omitempty"`
	Listeners   []Listener   `json:"listeners"`
	Generations []Generation `json:"generations"`
	Blobs       []Blob       `json:"blobs,omitempty"` // what workers have the master keep, by name
	Rollout     *Rollout     `json:"rollout,omitempty"`
	Waits       *Waiting     `json:"waits,omitempty"` // an automatic reload that is held back
	Last        *Entry       `json:"last,omitempty"`
	LastFailure *Entry       `json:"last_failure,omitempty"`
	LastCut     *Entry       `json:"last_cut,omitempty"` // the last worker that took something with it

	RollbackTarget *RollbackTarget `json:"rollback_target,omitempty"` // where a rollback leads that names no version
	Next           []Next          `json:"next,omitempty"`            // what can be typed in this state, the likeliest first
}

// RollbackTarget is where a rollback leads that names no version.
type RollbackTarget struct {
	Generation uint64    `json:"generation,omitempty"` // that would have the traffic; zero: one that is yet to be started
	Version    string    `json:"version,omitempty"`    // its name; empty: there is none to go back to
	Warm       bool      `json:"warm"`                 // its workers accept: the traffic goes there at once
	Unmoved    bool      `json:"unmoved,omitempty"`    // it has all the traffic: only the rollout on its way is given up
	Due        time.Time `json:"due,omitzero"`         // when the traffic goes there by itself, unless it is promoted
	Refused    string    `json:"refused,omitempty"`    // why a rollback would be refused now; empty: it would not
}

// Waiting is an automatic reload that is held back.
type Waiting struct {
	By    string    `json:"by"`
	Until time.Time `json:"until,omitzero"` // zero: for something that has no time
	Why   string    `json:"why"`            // "cooldown", "max_per_minute", or what is under way
}

// Next is a command that can help now.
type Next struct {
	Args []string `json:"args"` // of masterd: the verb and what follows it
	Why  string   `json:"why"`
}

// Master is the master's own process.
type Master struct {
	PID     int       `json:"pid"`
	Version string    `json:"version"`
	Since   time.Time `json:"since"`
	// Restored: it runs in the place of this masterd, which was to take over and died.
	Restored string `json:"restored,omitempty"`
	Keeper   int    `json:"keeper,omitempty"` // the process id of the keeper; zero: there is none
	// Cgroup is the directory in which each worker has a cgroup, with all that it
	// starts. NoCgroup says why there is none: what a worker leaves behind is then found
	// by its session and environment.
	Cgroup   string `json:"cgroup,omitempty"`
	NoCgroup string `json:"no_cgroup,omitempty"`
}

// Deployment says what has the traffic, since when, by whom and why.
type Deployment struct {
	Generation uint64    `json:"generation"`
	Version    Version   `json:"version"`
	Since      time.Time `json:"since"`
	By         string    `json:"by"`
	Why        string    `json:"why,omitempty"`
	Baked      bool      `json:"baked"`
}

// Version is one pinned version.
type Version struct {
	ID      string    `json:"id"`
	Label   string    `json:"label"`
	Digest  string    `json:"digest"`        // sha256:HEX of the program
	Program string    `json:"program"`       // the path it came from
	Pinned  string    `json:"pinned"`        // the path that is run when the original has changed
	Mode    string    `json:"mode"`          // "copy" or "path"
	Why     string    `json:"why,omitempty"` // why that mode
	Args    []string  `json:"args"`
	Env     []string  `json:"env,omitempty"` // names only: values may be secrets
	Dir     string    `json:"dir"`
	Created time.Time `json:"created"`
	Size    int64     `json:"size"`
	Use     string    `json:"use,omitempty"`    // "active", "parked", "baked", "draining", "candidate", "kept"
	Held    bool      `json:"held,omitempty"`   // pinned by hand: never pruned
	Closed  bool      `json:"closed,omitempty"` // rolled back before: closed to automation
	// Result is what became of it when it was last tried: "baked", "baking", "rolled back",
	// "given up", "failed at STAGE", "never baked". In a list of versions only.
	Result string `json:"result,omitempty"`
	// its own, by key: a rollback to it is run with them. Values of headers are not shown. In a list of
	// versions only; none: an earlier masterd has kept it, and today's are used
	Settings map[string]string `json:"settings,omitempty"`
}

// Hold is in force.
type Hold struct {
	Reason string `json:"reason"`
	By     string `json:"by"`
}

// Listener is one public address.
type Listener struct {
	Name       string `json:"name"`
	Address    string `json:"address"`
	Steering   string `json:"steering"`         // "kernel", "unix" or "shared"
	Reason     string `json:"reason,omitempty"` // why not the normal way
	Queue      int    `json:"queue"`
	QueueLimit int    `json:"queue_limit"`
	Drift      uint64 `json:"drift,omitempty"` // how often it had to be mended
}

// Generation is one generation with its workers.
type Generation struct {
	ID       uint64    `json:"id"`
	Version  Version   `json:"version"`
	Phase    string    `json:"phase"`
	Since    time.Time `json:"since"`
	Deadline time.Time `json:"deadline,omitzero"`
	Weight   int       `json:"weight"`          // percent of new connections, whole
	Share    float64   `json:"share,omitempty"` // the same, exact to 0.01
	Baked    bool      `json:"baked"`
	Workers  []Worker  `json:"workers"`
	Recent   *Recent   `json:"recent,omitempty"` // nil: not known yet, or none of its workers has the SDK
}

// Recent is what workers with the SDK have answered in ten seconds, the last of which that is known.
type Recent struct {
	Requests [5]uint64 `json:"requests"` // by the class of their status, from 1xx to 5xx
	P50MS    float64   `json:"p50_ms"`   // half of them took at most so long; zero: there were none
	P99MS    float64   `json:"p99_ms"`
}

// Worker is one process.
type Worker struct {
	ID        uint64    `json:"id"`
	PID       int       `json:"pid"`
	Phase     string    `json:"phase"`
	Since     time.Time `json:"since"`   // of the phase
	Started   time.Time `json:"started"` // of the process
	Deadline  time.Time `json:"deadline,omitzero"`
	Healthy   bool      `json:"healthy"`
	LastProbe string    `json:"last_probe,omitempty"`
	ProbeMS   float64   `json:"probe_ms,omitempty"` // how long its last check took
	InFlight  int64     `json:"in_flight"`
	Open      int64     `json:"open"`
	LongestMS int64     `json:"longest_ms,omitempty"` // for how long the longest running request runs, as of its last beat
	Requests  uint64    `json:"requests"`
	Uncounted bool      `json:"uncounted,omitempty"` // the four above are not known: it does not speak the control protocol
	Protocol  int       `json:"protocol,omitempty"`  // version of the control protocol that it speaks; zero: none, or it has not said yet
	Processes int       `json:"processes"`           // in its process group
	RSS       int64     `json:"rss"`                 // bytes, of all of them; what they share counts for each
	FDs       int       `json:"fds"`                 // of all of them
	FDLimit   uint64    `json:"fd_limit,omitempty"`  // of each of them; the least
	FDRatio   float64   `json:"fd_ratio,omitempty"`  // how much of its own limit that of them has which is nearest to it, 0 to 1
	// CPUSeconds is the processor time of all of them, with that of the children that they have
	// waited for.
	CPUSeconds float64  `json:"cpu_seconds,omitempty"`
	Says       string   `json:"says,omitempty"` // its STATUS, by sd_notify
	Restarts   int      `json:"restarts"`
	Dropped    uint64   `json:"dropped_lines,omitempty"` // of its output
	GivesTo    []uint64 `json:"gives_to,omitempty"`      // workers that its idle connections move to, while it is parked or drains; a part of them, while it is active
	Cut        *Cut     `json:"cut,omitempty"`           // what it has cut so far, at the end of its drain
	Clients    *Clients `json:"clients,omitempty"`       // of one without the SDK, while the master looks at them
}

// Clients are the connections of a worker that cannot be asked, which the master closes one
// at a time: each at a moment at which nobody waits for anything.
type Clients struct {
	Open    int `json:"open"`
	Waiting int `json:"waiting"` // on which somebody waits for an answer, as far as is known
	Streams int `json:"streams"` // that were answered once, and may be at it still: they are left until the end of the drain
	Closed  int `json:"closed"`  // by the master, so far
	// PauseMS is the longest pause within an answer that was seen on this service lately, QuietMS how
	// long a kept connection has to be quiet before it is closed.
	PauseMS int64 `json:"pause_ms"`
	QuietMS int64 `json:"quiet_ms"`
}

// Cut is what a worker took with it: what was open and running when it was made
// to end, or ended by itself.
type Cut struct {
	Connections uint64 `json:"connections"` // idle ones too
	Requests    uint64 `json:"requests"`
	LongestMS   int64  `json:"longest_ms,omitempty"` // for how long the longest running request had run
	MedianMS    int64  `json:"median_ms,omitempty"`  // half of the requests had run for so long at least
	LastBeat    bool   `json:"last_beat,omitempty"`  // it could not say any more: this is what its last beat said
	Unknown     bool   `json:"unknown,omitempty"`    // it cannot say at all: it does not speak the control protocol
}

// Blob is a piece of state that a worker has the master keep.
type Blob struct {
	Name       string    `json:"name"`
	Size       int64     `json:"size"`       // bytes
	Generation uint64    `json:"generation"` // of the worker that kept it last; zero: before the service was stopped
	Since      time.Time `json:"since"`
	Persist    bool      `json:"persist"` // across a stop of the service
}

// Rollout is the running one.
type Rollout struct {
	ID           uint64    `json:"id"`
	Trace        string    `json:"trace_id"`
	What         string    `json:"what"`
	By           string    `json:"by"`
	Why          string    `json:"why,omitempty"`
	Generation   uint64    `json:"generation"`
	Version      string    `json:"version"`
	Stage        string    `json:"stage"`
	Since        time.Time `json:"since"`
	Deadline     time.Time `json:"deadline,omitzero"`
	Steps        []Step    `json:"steps,omitempty"`             // of its canary; none: it goes without
	Step         int       `json:"step,omitempty"`              // the one in force or just coming, from 1; zero: none yet
	Paused       string    `json:"paused,omitempty"`            // by whom, and why; empty: it is not
	Analysis     *Analysis `json:"analysis,omitempty"`          // nil: nothing is compared
	Inconclusive string    `json:"when_inconclusive,omitempty"` // what follows at Deadline unless it is judged; empty: it does not wait
}

// Entry is one line of the history.
type Entry struct {
	At      time.Time `json:"at"`
	Rollout uint64    `json:"rollout,omitempty"`
	What    string    `json:"what"`
	By      string    `json:"by"`
	Why     string    `json:"why,omitempty"`
	From    uint64    `json:"from,omitempty"`
	To      uint64    `json:"to,omitempty"`
	Version string    `json:"version,omitempty"`
	Digest  string    `json:"digest,omitempty"`
	Outcome string    `json:"outcome"` // see Outcome.Result
	Stage   string    `json:"stage,omitempty"`
	Reason  string    `json:"reason,omitempty"`
	Worker  uint64    `json:"worker,omitempty"` // that it is about
	Cut     *Cut      `json:"cut,omitempty"`    // what that one took with it
	// Analysis is what was compared while the rollout's steps had two versions serve; nil:
	// nothing was, or this is not its end.
	Analysis *Analysis `json:"analysis,omitempty"`
	// WaitedMS is for how long nobody accepted, because one version ended before the next
	// began (rollout.surge: replace): the longest time that a client can have waited for it.
	WaitedMS int64 `json:"waited_ms,omitempty"`
	// Repeats is how often this was so since the entry before, which says the same but
	// for time and numbers; zero: it stands for itself.
	Repeats int `json:"repeats,omitempty"`

	VersionID string    `json:"version_id,omitempty"` // of Version, which others may be called, too
	Began     time.Time `json:"began,omitzero"`       // when the rollout was asked for; zero: it is none, or a master before has not said
	Switched  time.Time `json:"switched,omitzero"`    // when it had the traffic; zero: never, or it is not known
	// N is its number, from the first entry of all on: never given twice, but where the
	// history's files are taken away. Zero: it is not in a file (yet).
	N uint64 `json:"n,omitempty"`
}

// WhatGap is what an [Entry] of GET /v1/events is that stands for others: all those between
// the one that the reader has and its own N. Reason says where they are. One without an N
// says that numbers begin anew.
const WhatGap = "gap"

// ReloadRequest asks for a rollout.
type ReloadRequest struct {
	Label   string   `json:"label,omitempty"`
	Binary  string   `json:"binary,omitempty"` // absolute path instead of the configured program
	Until   string   `json:"until,omitempty"`  // "serving" (default) or "baked"
	Confirm Duration `json:"confirm,omitempty"`
	Replace bool     `json:"replace,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Detach  bool     `json:"detach,omitempty"` // answer as soon as it was accepted

	Canary     string `json:"canary,omitempty"`      // other steps than configured: "5%:1m,25%", the time of each after a colon
	SkipCanary bool   `json:"skip_canary,omitempty"` // no steps
}

// RollbackRequest asks to go back.
type RollbackRequest struct {
	Version string `json:"version,omitempty"` // id, label or digest prefix; empty: the one before
	Reason  string `json:"reason,omitempty"`
}

// UpgradeRequest asks for another masterd in this one's place.
type UpgradeRequest struct {
	Binary string `json:"binary,omitempty"` // an absolute path; empty: what lies where this one was started from
	// MakeWay: it is running already and waits; this one only ends.
	MakeWay bool   `json:"make_way,omitempty"`
	Reason  string `json:"reason,omitempty"`
}

// ReasonRequest is the body of pause, resume, abort, hold and unhold.
type ReasonRequest struct {
	Reason string `json:"reason,omitempty"`
}

// MaxProcesses is how many processes a service may have, as worker.processes allows.
const MaxProcesses = 64

// ScaleRequest changes the number of processes, to at most MaxProcesses.
type ScaleRequest struct {
	Processes int    `json:"processes"`
	Reason    string `json:"reason,omitempty"`
}

// StopRequest ends the service.
type StopRequest struct {
	Confirm string `json:"confirm,omitempty"` // the service's name, wanted in production
	Now     bool   `json:"now,omitempty"`
	Patient bool   `json:"patient,omitempty"`
	Reason  string `json:"reason,omitempty"`

	// Announce is for how long it is only announced; nil: as configured.
	Announce *Duration `json:"announce,omitempty"`
}

// Event is one line of a streamed answer: stages, then exactly one outcome.
type Event struct {
	Stage   *Stage   `json:"stage,omitempty"`
	Outcome *Outcome `json:"outcome,omitempty"`
}

// Stage is a step of a rollout that began.
type Stage struct {
	At         time.Time `json:"at"`
	Rollout    uint64    `json:"rollout"`
	Generation uint64    `json:"generation"`
	Version    string    `json:"version,omitempty"`
	Stage      string    `json:"stage"`
	Detail     string    `json:"detail,omitempty"`
	Deadline   time.Time `json:"deadline,omitzero"`
}

// Results of an Outcome.
const (
	ResultDone       = "done"
	ResultFailed     = "failed"
	ResultRolledBack = "rolled-back"
	ResultHeld       = "held"
	ResultSuperseded = "superseded"
	ResultInvalid    = "invalid"
	ResultAccepted   = "accepted" // detached: the rollout goes on
)

// Outcome is how a request ended.
type Outcome struct {
	Result     string   `json:"result"`
	Rollout    uint64   `json:"rollout,omitempty"`
	Generation uint64   `json:"generation,omitempty"`
	Version    string   `json:"version,omitempty"`
	Stage      string   `json:"stage,omitempty"`
	Reason     string   `json:"reason,omitempty"`
	Worker     uint64   `json:"worker,omitempty"`
	LastLines  []string `json:"last_lines,omitempty"` // at most 50 of that worker's output
	ElapsedMS  int64    `json:"elapsed_ms"`

	RollbackTarget *RollbackTarget `json:"rollback_target,omitempty"` // where a rollback leads from now on
}

// LogLine is one line of a worker's output.
type LogLine struct {
	At         time.Time `json:"at"`
	Worker     uint64    `json:"worker"`
	Generation uint64    `json:"generation"`
	Version    string    `json:"version"`
	Stream     string    `json:"stream"` // "stdout", "stderr" or "masterd" (a note of the master's about this output)
	Text       string    `json:"text"`
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	Error  string `json:"error"`            // a whole sentence
	Result string `json:"result,omitempty"` // as in Outcome where it applies
}

// Duration is a time.Duration that is a string with a unit in JSON ("10m").
type Duration time.Duration
