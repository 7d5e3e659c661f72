package proc

import "syscall"

// shimArgument makes this executable a shim when it is the last argument but
// one; the last is the number of the descriptor on which the order comes.
const shimArgument = "masterd-exec-shim"

const (
	shimFailed = 127 // exit code of a shim that could not run the program, as a shell's
	aboutToRun = '!' // sent before the exec; the end of the stream after it means that it worked
	tookFilter = '@' // sent with the descriptor on which the program's calls are told
)

// order is what the master tells its shim. Text is bytes: neither arguments
// nor environment need be UTF-8, and JSON strings would change what is not.
type order struct {
	Program []byte
	Args    [][]byte
	Env     [][]byte
	Dir     []byte
	Who     identity
	NoFile  uint64
	NProc   uint64
	Core    *int64
	Bound   uint64
	NoNew   bool
	OOM     int
	Filter  bool     // have bind and listen told
	Files   int      // descriptors from 3 on that are the program's
	PIDEnv  []string // variables that get the program's pid
	Listen  []string // their names when the environment is to tell of them; nil: it is not
}

// identity is whom the worker runs as.
type identity struct {
	User   string // for messages
	Change bool   // false: as the master
	UID    int
	GID    int
	Groups []int
}

// refusal is what the shim answers when the program cannot be run. It also
// carries what did not work but need not stop anybody (Fatal false).
type refusal struct {
	Fatal bool
	Errno syscall.Errno
	Text  string // a clause: "the worker's user shop cannot enter /root: permission denied, …"
}

// Octets are strings as bytes: JSON would change those that are not UTF-8.
func Octets(in []string) [][]byte {
	out := make([][]byte, len(in))
	for i, s := range in {
		out[i] = []byte(s)
	}
	return out
}

// Strings are bytes as strings.
func Strings(in [][]byte) []string {
	out := make([]string, len(in))
	for i, b := range in {
		out[i] = string(b)
	}
	return out
}

// StartError says why a worker could not be started.
type StartError struct {
	Program string
	User    string // empty: the master's own
	Dir     string // empty: the master's own
	Reason  string // what was wrong, and what may help
	Err     error  // often a syscall.Errno
}

// Error is a whole sentence for the operator.
func (e *StartError) Error() string {
	text := "cannot start " + e.Program
	if e.User != "" {
		text += " as user " + e.User
	}
	if e.Dir != "" {
		text += " in " + e.Dir
	}
	return text + ": " + e.Reason
}

// Unwrap is the cause.
func (e *StartError) Unwrap() error { return e.Err }
