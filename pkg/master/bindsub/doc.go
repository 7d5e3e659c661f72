// Package bindsub lets a program that binds its addresses itself be a worker like
// any other: its bind(2) of a listener's address is answered with the worker's
// slot, and its listen(2) on that says that it listens, which is its readiness.
//
// The program makes its own socket, as ever. When it binds a listener's address, the
// descriptor comes to stand for the slot. Its process was started with a seccomp filter that
// reports exactly these two calls, and the question whether a socket listens
// (SO_ACCEPTCONN), to whoever holds its descriptor (seccomp_unotify(2)); all other calls cost
// nothing. Nothing is preloaded, so static programs, threads and children are no different.
// A slot listens from the start, so a program that asks first is told that it does not until
// it has called listen.
//
// Which bind means which listener is decided in match.go. Everything that is no listener's
// passes, and the kernel answers it. What would make a service reachable from more than its
// program asked for is refused.
//
// An upgrade leaves no call unanswered. Taking a call and answering it are one step under a
// lock that [Supervisor.Close] waits for. The keeper holds the filter's descriptor, and what the
// program calls meanwhile waits in the kernel for the next master.
package bindsub

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// HeldPrefix begins the names of all that the keeper holds for this package.
const HeldPrefix = "bind/"

const (
	// perSecond is how many calls of one worker are answered in a second, and share the
	// part of the time that is spent on looking at all processes there are, one in so
	// many; more wait.
	perSecond = 1000
	share     = 20
	// burst is how much is not made to wait: calls for so long, at perSecond.
	burst = 10 * time.Second
	// pauseMost bounds one wait, so that the end of the supervisor does not take longer.
	pauseMost = time.Second
	// stopWait bounds the wait for a call that is just being answered.
	stopWait = 200 * time.Millisecond
	// reportEvery is the least time between two lines of the log about one worker.
	reportEvery = time.Minute
)

// Listener is an address of the service's.
type Listener struct {
	Name string
	At   netip.AddrPort
	Dual bool // :: and 0.0.0.0 at once
	// Inode is the slot's, which tells a listen(2) on it; zero where it is not known.
	Inode uint64
}

// Facts about a worker.
type (
	// Listens: it listens on all its listeners now.
	Listens struct{}
	// Waits: what it has not done yet, and what it did instead.
	Waits struct{ Detail string }
	// Refused: it asked for an address that it cannot have, and was told that the
	// address is in use. Why says what to do about it.
	Refused struct{ Why string }
)

// Sharing: it binds a port that is no listener's, with SO_REUSEPORT. The kernel lets it
// have that together with whoever has it so; nobody was looked for.
type Sharing struct {
	At   netip.AddrPort
	Dual bool // :: and 0.0.0.0 at once
}

// Fact is one of these.
type Fact interface{ fact() }

func (Listens) fact() {}
func (Waits) fact()   {}
func (Refused) fact() {}
func (Sharing) fact() {}

// Options are about one worker.
type Options struct {
	// FD is the filter's, and the supervisor's from now on, until Close. Unless another process
	// holds it, too, the worker's calls fail while there is no master.
	FD        int
	Listeners []Listener
	// Bound are the names of listeners that are known to be bound already, by what
	// an earlier master has noted.
	Bound []string
	// Give makes a duplicate of the worker's slot in a listener; the caller closes it.
	// held: workers of other slots have the same socket.
	Give func(listener string) (fd int, held bool, err error)
	// Rival names who of the service's other workers listens where this one wants to
	// bind; empty: nobody.
	Rival func(at netip.AddrPort, dual bool) string
	// Fact is told, in order, from one goroutine. Noted is told of each listener that
	// was bound.
	Fact  func(Fact)
	Noted func(listener string)
	Log   *zap.Logger // may be nil
}
