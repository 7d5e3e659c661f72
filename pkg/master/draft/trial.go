package draft

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// TrialTime is how long a program that is started once has to bind something and take a connection.
const TrialTime = 15 * time.Second

// ErrCalls: the system does not let a program's calls be watched.
var ErrCalls = errors.New("what it binds cannot be seen here")

// Trial is what a program did that was started once.
type Trial struct {
	Binds      []Bind   // in their order
	Beside     []string // paths of Unix sockets and PID files that it has made
	Ended      string   // how it has ended by itself; empty: it has not
	Background bool     // its first process has ended, and left others
	Output     []string // the last lines that it wrote
}

// Bind is an address that it bound, or wanted to.
type Bind struct {
	At     netip.AddrPort
	Dual   bool   // :: and 0.0.0.0 at once
	Name   string // what the SDK calls it; empty: it is not known
	Answer Answer
}

// Answer is what a program said on an address.
type Answer struct {
	Taken  bool   // it took a connection
	Scheme string // "http" or "https"; empty: it speaks neither
	Path   string // that it answered with 200; empty: none did
	Every  bool   // any path does, so that it says little
}

// Address is as the configuration has it.
func (b Bind) Address() string {
	switch {
	case b.Dual:
		return fmt.Sprintf("tcp://:%d", b.At.Port())
	case b.At.Addr() == netip.IPv6Unspecified():
		return "tcp6://" + b.At.String()
	}
	return "tcp://" + b.At.String()
}

// Main is the address that clients use, as far as can be seen: the first that answers as a
// healthy service does, else the first.
func (t *Trial) Main() (main *Bind, others []Bind) {
	if len(t.Binds) == 0 {
		return nil, nil
	}
	i := max(slices.IndexFunc(t.Binds, func(b Bind) bool { return b.Answer.Path != "" }), 0)
	return &t.Binds[i], slices.Delete(slices.Clone(t.Binds), i, i+1)
}

// Last are the last lines of its output, so many at most.
func (t *Trial) Last(most int) string {
	lines := t.Output[max(0, len(t.Output)-most):]
	return strings.Join(lines, "\n")
}
