// Package config reads the one YAML file of a service into a plain value.
//
// viper stops here: it merges file, environment and defaults; everything else
// in masterd sees a [Config] that was validated whole and is never changed.
package config

import "time"

// Config is everything a service can be told. Paths in it are absolute, and
// every default is filled in. It is read-only once Load has returned it. The tag
// key is the name of a field in the file, below the one that its struct has.
type Config struct {
	File        string // the file it was read from, absolute
	Service     string `key:"service"`
	Environment string `key:"environment"`
	RuntimeDir  string `key:"runtime_dir"`
	StateDir    string `key:"state_dir"`
	Listeners   []Listener
	Worker      Worker        `key:"worker"`
	Health      Health        `key:"health"`
	Rollout     Rollout       `key:"rollout"`
	Drain       Drain         `key:"drain"`
	Restart     Restart       `key:"restart"`
	Unavailable Unavailable   `key:"unavailable"`
	StopTimeout time.Duration `key:"stop_timeout"`
	Announce    time.Duration `key:"stop_announce"` // stop_announce: before a stop
	State       State         `key:"state"`
	Versions    Versions      `key:"versions"`
	Admin       Admin         `key:"admin"`
	Log         Log           `key:"log"`

	source source // where each value came from; empty in a Config that was not parsed
}

// Listener is one public address, by name.
type Listener struct {
	Name     string `key:"name"`
	Address  string `key:"address"` // as written: tcp://, tcp4://, tcp6://, unix://
	Network  string // "tcp", "tcp4", "tcp6" or "unix"
	Host     string // of a tcp address; may be empty (all)
	Port     int
	Path     string // of a Unix socket, absolute
	Mode     uint32 // of a Unix socket
	Group    string // of a Unix socket; empty: unchanged
	Backlog  int    `key:"backlog"`
	Steering string `key:"steering"` // "auto", "kernel" or "shared"
}

// Worker kinds.
const (
	KindSDK              = "sdk"
	KindSocketActivation = "socket-activation"
	KindUnmodified       = "unmodified"
)

// What becomes of connections of the version that is parked.
const (
	ParkedKeep  = "keep"
	ParkedClose = "close"
)

// Worker says what is run and as whom.
type Worker struct {
	Kind       string            `key:"kind"`
	Command    []string          `key:"command"`   // the program, absolute (a bare name is looked up in PATH), and its arguments
	Directory  string            `key:"directory"` // absolute; default the configuration file's
	Processes  int               `key:"processes"`
	Pin        string            `key:"pin"` // "auto", "copy" or "path"
	Env        map[string]string `key:"env"`
	EnvFiles   []string          `key:"env_files"` // absolute; read at each start, never stored
	User       string            `key:"user"`
	Group      string            `key:"group"`
	NoFile     uint64            `key:"limits.nofile"`      // RLIMIT_NOFILE; zero: as the master's
	NProc      uint64            `key:"limits.processes"`   // RLIMIT_NPROC; zero: less than what bounds the master
	Core       string            `key:"limits.core"`        // RLIMIT_CORE: "inherit", "none" or "unlimited"
	Tasks      uint64            `key:"limits.tasks"`       // of a worker and all that it starts; zero: no limit
	Memory     uint64            `key:"limits.memory"`      // the same, in bytes
	MemoryHigh uint64            `key:"limits.memory_high"` // the same; above it the kernel slows them down
	NoNewPrivs string            `key:"no_new_privileges"`  // "auto", "yes" or "no"

	Capabilities []string `key:"capabilities"` // beside those that are left to root's programs; see Bounding
	common       string   // those that are left to them; empty: the preset says

	StopSignal string `key:"stop_signal"` // "TERM", "INT", "QUIT", ...

	// For kinds other than KindSDK:
	Preset       string        `key:"preset"`        // "none", or whose ways were filled in
	Ready        string        `key:"ready"`         // "notify" or "probe"; "auto" is the latter
	NotifyAccess string        `key:"notify_access"` // "main" or "group": who may speak by sd_notify
	Watchdog     time.Duration `key:"watchdog"`      // between two WATCHDOG=1; zero: none
	FDStore      int           `key:"fd_store"`      // descriptors that may be stored
	NonBlocking  bool          `key:"non_blocking"`  // its listeners' sockets come with O_NONBLOCK
}

// Health says how a worker is checked. At most one of HTTP, TCP and Command is set.
type Health struct {
	HTTP    *HTTPCheck  `key:"http"`
	TCP     *TCPCheck   `key:"tcp"`
	Command []string    `key:"command"`
	Start   StartCheck  `key:"start"`
	Active  ActiveCheck `key:"active"`
	Warmup  Warmup      `key:"warmup"`
}

// HTTPCheck is one request and the answer wanted.
type HTTPCheck struct {
	Listener string            `key:"listener"`
	Scheme   string            `key:"scheme"` // "http", "https" (certificate not verified: it is our own worker) or "h2c"
	Method   string            `key:"method"`
	Path     string            `key:"path"`
	Host     string            `key:"host"`
	Headers  map[string]string `key:"headers"`
	Status   []StatusRange     `key:"status"` // any of them
}

// StatusRange is an inclusive range of HTTP status codes.
type StatusRange struct{ From, To int }

// TCPCheck is passed when a connection is taken and not closed at once.
type TCPCheck struct {
	Listener string `key:"listener"`
}

// StartCheck is for workers that have not yet had traffic.
type StartCheck struct {
	Interval  time.Duration `key:"interval"`
	Successes int           `key:"successes"`
	Timeout   time.Duration `key:"timeout"` // from start of the process until all checks are passed
	GiveUp    time.Duration `key:"give_up"` // zero: not before Timeout
}

// ActiveCheck is for workers that are active or parked.
type ActiveCheck struct {
	Interval time.Duration `key:"interval"`
	Timeout  time.Duration `key:"timeout"`
	Failures int           `key:"failures"`
}

// Warmup is a number of requests made to a checked worker before it gets traffic.
type Warmup struct {
	Path        string `key:"path"`
	Requests    int    `key:"requests"`
	Concurrency int    `key:"concurrency"`
}

// Rollout says how one generation follows the other.
type Rollout struct {
	Bake         time.Duration `key:"bake"`
	Surge        string        `key:"surge"`     // "all", "one" or "replace"
	MinReady     time.Duration `key:"min_ready"` // of each worker when they are replaced one at a time
	Watch        bool          `key:"watch"`
	Cooldown     time.Duration `key:"cooldown"`
	MaxPerMinute int           `key:"max_per_minute"`
	KeepVersions int           `key:"keep_versions"`
	Memory       Memory        `key:"memory"`
	Require      Require       `key:"require"`
	Hooks        Hooks         `key:"hooks"`
	Canary       Canary        `key:"canary"`
	Analysis     Analysis      `key:"analysis"`
}

// Require is what must be well before a candidate is started.
type Require struct {
	Commands [][]string    `key:"commands"`
	TCP      []string      `key:"tcp"`  // HOST:PORT, or the absolute path of a Unix socket
	HTTP     []string      `key:"http"` // URLs
	Timeout  time.Duration `key:"timeout"`
}

// Memory is what must stay free, and what is done when it would not.
type Memory struct {
	Reserve   uint64 `key:"reserve"`    // bytes
	WhenShort string `key:"when_short"` // "refuse" or "one"
}

// Hooks are argument lists, run in order as the master's user, without a shell.
type Hooks struct {
	Before [][]string `key:"before"`
	After  [][]string `key:"after"`
	Failed [][]string `key:"failed"`
}

// Drain bounds what an old generation may take to leave.
type Drain struct {
	Timeout        time.Duration `key:"timeout"`
	MaxGenerations int           `key:"max_generations"`
	KillAfter      time.Duration `key:"kill_after"` // from the stop signal to KILL
	// has a worker of another kind than KindSDK finish by itself; "none": it does not know how to
	Signal   string   `key:"signal"`
	Command  []string `key:"command"` // the same, by a program
	Handover bool     `key:"handover"`
	Parked   string   `key:"parked"` // ParkedKeep or ParkedClose: connections of the version that is parked
}

// Restart is the wait before a crashed worker is replaced, and what counts as a loop.
type Restart struct {
	Initial    time.Duration `key:"initial"`
	Max        time.Duration `key:"max"`
	Loop       int           `key:"loop"`
	LoopWindow time.Duration `key:"loop_window"`
}

// Unavailable is what clients get when nobody is alive.
type Unavailable struct {
	After  time.Duration `key:"after"`
	Answer string        `key:"answer"` // "503", "reset" or "hold"
}

// State bounds what workers may have the master keep.
type State struct {
	Blob  uint64 `key:"blob"`  // bytes of one
	Total uint64 `key:"total"` // bytes of all
	Count int    `key:"count"`
}

// Versions says which programs operators may name who are neither root nor the
// master's own user.
type Versions struct {
	Allow []string `key:"allow"` // directories, absolute; empty: see [Config.MayRun]
}

// Admin says who may do what besides root and the master's own user.
type Admin struct {
	ReadersGroup   string `key:"readers_group"`
	OperatorsGroup string `key:"operators_group"`
	Metrics        string `key:"metrics"` // HOST:PORT that Prometheus scrapes; empty: the admin socket alone
	Page           string `key:"page"`    // HOST:PORT of the live page; empty: any port, when it is asked for
}

// Log is the master's own log and the bounds of the workers'.
type Log struct {
	Level     string `key:"level"`      // "debug", "info", "warn", "error"
	Format    string `key:"format"`     // "auto", "console" or "json"
	File      string `key:"file"`       // empty: standard error
	PerWorker uint64 `key:"per_worker"` // bytes a second
	Line      int    `key:"line"`       // bytes; longer ones are cut
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
