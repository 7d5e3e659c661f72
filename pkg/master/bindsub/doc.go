// Package bindsub lets a program that binds its addresses itself be a worker like
// any other: its bind(2) of a listener's address is answered with the worker's
// slot, its listen(2) on that tells that it listens.
//
// The program's process was started with a seccomp filter that has exactly these
// two calls, and the question whether a socket listens (SO_ACCEPTCONN), told to whoever holds its descriptor (seccomp_unotify(2)); all others
// cost nothing. Static programs, threads and children are no different.
//
// What is answered, and how, is [Match]'s to say. Everything that is not a
// listener's passes, and the kernel answers it.
package bindsub

import (
	"net/netip"
	"time"

	"go.uber.org/zap"
)

// HeldPrefix begins the names of all that the keeper holds for this room.
const HeldPrefix = "bind/"

const (
	// perSecond is how many calls of one worker are answered in a second, and share the
	// part of the time that is spent on looking at all processes there are, one in so
	// many; more wait.
	perSecond = 1000
	share     = 20
	// burst is how much is not made to wait: calls for so long, at perSecond.
	burst = 10 * time.Second
	// pauseMost bounds one wait, so that the end of the room does not take longer.
	pauseMost = time.Second
	// stopWait bounds the wait for a call that is just being answered.
	stopWait = 200 * time.Millisecond
	// toldEvery is the least time between two lines of the log about one worker.
	toldEvery = time.Minute
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

// Fact is one of these.
type Fact interface{ fact() }

func (Listens) fact() {}
func (Waits) fact()   {}
func (Refused) fact() {}

// Options are about one worker.
type Options struct {
	FD int // the filter's; the room's from now on
	// Keep is told of it, so that another process can hold it: else the worker's
	// calls fail while there is no master. It may be nil.
	Keep      func(fd int)
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
