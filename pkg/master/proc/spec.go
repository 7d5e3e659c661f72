package proc

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
)

// FirstFile is what the first of [Spec].Files becomes: SD_LISTEN_FDS_START.
const FirstFile = 3

const (
	maxFiles    = 1024 // descriptors handed to one worker
	maxNameSize = 255  // bytes of one name in LISTEN_FDNAMES (sd_listen_fds_with_names)
	minNoFile   = 16   // below, not even a dynamic loader works
	minOOM      = -1000
	maxOOM      = 1000
)

// File is a descriptor that the worker inherits.
type File struct {
	Name string // in LISTEN_FDNAMES: at most 255 bytes of printable ASCII, no colon
	FD   int    // stays the caller's, who also closes it
}

// Limits are those of a process.
type Limits struct {
	NoFile    uint64 // RLIMIT_NOFILE, soft and hard; zero: as the master was given
	Processes uint64 // RLIMIT_NPROC: processes and threads of the worker's user; zero: as the master's
	Core      *int64 // RLIMIT_CORE, in bytes; nil: as the master's
}

// Spec says what is run, and as what. Nothing of it is changed or kept.
type Spec struct {
	Shim    []string // arguments that start the shim's executable; nil: this one
	Program string   // absolute path
	Args    []string // Args[0] is argv[0]; empty: the program's path alone
	Env     []string // the whole environment; see [CleanEnv]
	Dir     string   // absolute; empty: the master's

	// User and Group are names or numbers; empty: the master's own. Another
	// user than the master's needs root. Supplementary groups are those that
	// a login would give the user.
	User, Group string

	Limits

	// Bounding are the capabilities that the program, and all that it runs, can ever
	// have, a bit for each. Those to inherit, and ambient ones, it has none in any case.
	Bounding uint64
	// NoNewPrivileges takes from setuid programs and file capabilities their effect.
	NoNewPrivileges bool

	OOMScoreAdj int // -1000 to 1000; zero: as the master's

	Stdout, Stderr int    // descriptors, the caller's; zero or less: /dev/null
	Files          []File // become 3, 4, … in this order

	// Filter has the program's calls of bind and listen wait for an answer, which
	// whoever has [Process.Filter] gives (seccomp_unotify(2)). Children inherit it.
	Filter bool

	// Cgroup is the directory of a cgroup v2 that the process is to be in before it
	// runs anything, a descriptor of the caller's; zero: the master's. Whether it came
	// there [Process.Contained] says.
	Cgroup int
	// Enter, unless nil, puts the process where it is to be before it runs anything. An
	// error ends it, and is the start's.
	Enter func(pid int) error

	// PIDEnv are variables of the environment that get the worker's own pid
	// (WATCHDOG_PID).
	PIDEnv []string

	ListenEnv bool // tell of Files by LISTEN_FDS, LISTEN_PID and LISTEN_FDNAMES
}

// check finds what can be found wrong without trying.
func (s *Spec) check() error {
	switch {
	case s.Program == "":
		return errors.New("no program was named")
	case !filepath.IsAbs(s.Program):
		return errors.New("the program's path must be absolute")
	case s.Dir != "" && !filepath.IsAbs(s.Dir):
		return fmt.Errorf("the directory %q must be absolute", s.Dir)
	case s.NoFile != 0 && s.NoFile < minNoFile:
		return fmt.Errorf("a limit of %d open files is too small to run anything: at least %d", s.NoFile, minNoFile)
	case s.OOMScoreAdj < minOOM || s.OOMScoreAdj > maxOOM:
		return fmt.Errorf("an oom_score_adj of %d does not exist: it goes from %d to %d", s.OOMScoreAdj, minOOM, maxOOM)
	case len(s.Files) > maxFiles:
		return fmt.Errorf("%d descriptors are too many for one worker: at most %d", len(s.Files), maxFiles)
	}
	for _, t := range append([]string{s.Program, s.Dir}, s.Args...) {
		if strings.IndexByte(t, 0) >= 0 {
			return fmt.Errorf("a NUL byte cannot be passed to a program: %q", t)
		}
	}
	for _, kv := range s.Env {
		if strings.IndexByte(kv, 0) >= 0 {
			key, _, _ := strings.Cut(kv, "=") // the value may be a secret
			return fmt.Errorf("a NUL byte cannot be passed to a program: the environment variable %q has one", key)
		}
	}
	for _, f := range s.Files {
		if len(f.Name) > maxNameSize || strings.ContainsFunc(f.Name, unspeakable) {
			return fmt.Errorf("the name %q of descriptor %d cannot be told by LISTEN_FDNAMES: at most %d printable ASCII "+
				"characters, no colon", f.Name, f.FD, maxNameSize)
		}
	}
	return nil
}

func unspeakable(r rune) bool { return r <= ' ' || r >= 0x7f || r == ':' }
