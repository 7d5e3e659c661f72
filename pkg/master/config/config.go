// Package config reads the one YAML file of a service into a plain value.
//
// viper stops here: it merges file, environment and defaults; everything else
// in masterd sees a [Config] that was validated whole and is never changed.
package config

import "time"

// Config is everything a service can be told. Paths in it are absolute, and
// every default is filled in. It is read-only once Load has returned it.
type Config struct {
	File        string // the file it was read from, absolute
	Service     string
	Environment string
	RuntimeDir  string
	StateDir    string
	Listeners   []Listener
	Worker      Worker
	Health      Health
	Rollout     Rollout
	Drain       Drain
	Restart     Restart
	Unavailable Unavailable
	StopTimeout time.Duration
	Announce    time.Duration // stop_announce: before a stop
	State       State
	Versions    Versions
	Admin       Admin
	Log         Log

	source source // where each value came from; empty in a Config that was not parsed
}

// Listener is one public address, by name.
type Listener struct {
	Name     string
	Address  string // as written: tcp://, tcp4://, tcp6://, unix://
	Network  string // "tcp", "tcp4", "tcp6" or "unix"
	Host     string // of a tcp address; may be empty (all)
	Port     int
	Path     string // of a Unix socket, absolute
	Mode     uint32 // of a Unix socket
	Group    string // of a Unix socket; empty: unchanged
	Backlog  int
	Steering string // "auto", "kernel" or "shared"
}

// Worker kinds.
const (
	KindSDK              = "sdk"
	KindSocketActivation = "socket-activation"
	KindUnmodified       = "unmodified"
)

// Worker says what is run and as whom.
type Worker struct {
	Kind       string
	Command    []string // the program (absolute, or a bare name found in PATH and made absolute) and its arguments
	Directory  string   // absolute; default the configuration file's
	Processes  int
	Pin        string // "auto", "copy" or "path"
	Env        map[string]string
	EnvFiles   []string // absolute; read at each start, never stored
	User       string
	Group      string
	NoFile     uint64 // RLIMIT_NOFILE; zero: as the master's
	NProc      uint64 // RLIMIT_NPROC; zero: less than what bounds the master
	Core       string // RLIMIT_CORE: "inherit", "none" or "unlimited"
	NoNewPrivs string // "auto", "yes" or "no"

	Capabilities []string // beside those that are left to root's programs; see Bounding

	StopSignal string // "TERM", "INT", "QUIT", ...

	// For kinds other than KindSDK:
	Preset       string        // "none", or whose ways were filled in
	Ready        string        // "notify" or "probe"; "auto" is the latter
	NotifyAccess string        // "main" or "group": who may speak by sd_notify
	Watchdog     time.Duration // between two WATCHDOG=1; zero: none
	FDStore      int           // descriptors that may be stored
	NonBlocking  bool          // its listeners' sockets come with O_NONBLOCK
}

// Health says how a worker is checked. At most one of HTTP, TCP and Command is set.
type Health struct {
	HTTP    *HTTPCheck
	TCP     *TCPCheck
	Command []string
	Start   StartCheck
	Active  ActiveCheck
	Warmup  Warmup
}

// HTTPCheck is one request and the answer wanted.
type HTTPCheck struct {
	Listener string
	Scheme   string // "http", "https" (certificate not verified: it is our own worker) or "h2c"
	Method   string
	Path     string
	Host     string
	Headers  map[string]string
	Status   []StatusRange // any of them
}

// StatusRange is an inclusive range of HTTP status codes.
type StatusRange struct{ From, To int }

// TCPCheck is passed when a connection is taken and not closed at once.
type TCPCheck struct{ Listener string }

// StartCheck is for workers that have not yet had traffic.
type StartCheck struct {
	Interval  time.Duration
	Successes int
	Timeout   time.Duration // from start of the process until all checks are passed
}

// ActiveCheck is for workers that are active or parked.
type ActiveCheck struct {
	Interval time.Duration
	Timeout  time.Duration
	Failures int
}

// Warmup is a number of requests made to a checked worker before it gets traffic.
type Warmup struct {
	Path        string
	Requests    int
	Concurrency int
}

// Rollout says how one generation follows the other.
type Rollout struct {
	Bake         time.Duration
	Surge        string        // "all" or "one"
	MinReady     time.Duration // of each worker when they are replaced one at a time
	Watch        bool
	Cooldown     time.Duration
	MaxPerMinute int
	KeepVersions int
	Memory       Memory
	Require      Require
	Hooks        Hooks
}

// Require is what must be well before a candidate is started.
type Require struct {
	Commands [][]string
	TCP      []string // HOST:PORT, or the absolute path of a Unix socket
	HTTP     []string // URLs
	Timeout  time.Duration
}

// Memory is what must stay free, and what is done when it would not.
type Memory struct {
	Reserve   uint64 // bytes
	WhenShort string // "refuse" or "one"
}

// Hooks are argument lists, run in order as the master's user, without a shell.
type Hooks struct {
	Before [][]string
	After  [][]string
	Failed [][]string
}

// Drain bounds what an old generation may take to leave.
type Drain struct {
	Timeout        time.Duration
	MaxGenerations int
	KillAfter      time.Duration // from the stop signal to KILL
	Signal         string        // has a worker of another kind than KindSDK finish by itself; "none": it does not know how to
	Command        []string      // the same, by a program
	Handover       bool
}

// Restart is the wait before a crashed worker is replaced, and what counts as a loop.
type Restart struct {
	Initial    time.Duration
	Max        time.Duration
	Loop       int
	LoopWindow time.Duration
}

// Unavailable is what clients get when nobody is alive.
type Unavailable struct {
	After  time.Duration
	Answer string // "503", "reset" or "hold"
}

// State bounds what workers may have the master keep.
type State struct {
	Blob  uint64 // bytes of one
	Total uint64 // bytes of all
	Count int
}

// Versions says which programs operators may name who are neither root nor the
// master's own user.
type Versions struct {
	Allow []string // directories, absolute; empty: see [Config.MayRun]
}

// Admin says who may do what besides root and the master's own user.
type Admin struct {
	ReadersGroup   string
	OperatorsGroup string
}

// Log is the master's own log and the bounds of the workers'.
type Log struct {
	Level     string // "debug", "info", "warn", "error"
	Format    string // "auto", "console" or "json"
	File      string // empty: standard error
	PerWorker uint64 // bytes a second
	Line      int    // bytes; longer ones are cut
}

// Path is where the log goes; empty: to standard error, or out: to standard output.
// These two have names in /dev, which lead to what masterd was started with. That need
// not be a file, and is used as it is.
func (l Log) Path() (path string, out bool) {
	switch l.File {
	case "/dev/stdout":
		return "", true
	case "/dev/stderr":
		return "", false
	}
	return l.File, false
}
