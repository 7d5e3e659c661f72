// Package listen owns a service's listening sockets, from the first moment to
// the last, and says which of them new connections go to.
//
// A listener is one public address. Its name is only what a generation's
// configuration calls it: two that have the same address are the same listener.
//
// Under "kernel" steering it is a pool of SO_REUSEPORT sockets, the slots, made
// at the start in a known order and never missing while the listener lives, with
// a classic BPF program that picks one of them for each new connection: steering
// is replacing that program, which is atomic. One socket more, behind all slots,
// is the master's own. A Unix listener has the same pool of sockets, each under a
// hidden name beside the public path; steering links and renames one of them over
// it. A "shared" listener is one socket that all workers hold.
//
// The index of a slot means the same in every listener: the machine thinks in
// slots, and each listener has a socket for each. The pool grows at its end,
// before a configuration is taken over that needs more slots, and never shrinks.
//
// A socket that one generation was given is never given to another: a slot that
// changes hands gets a fresh one in the same place, and the one before is shut
// down (fresh_linux.go).
//
// In each listener a slot is assigned to a worker that was given its socket, or it
// is not; then what arrives there is accepted here and passed on as an orphan, so
// that it is answered and not reset. A slot that is steered to is assigned. What
// becomes of a connection in a slot that is not, the master's own one included,
// depends on the listener:
//
//   - holding: no worker has been steered to yet, or the last that was is
//     gone. Connections wait in the kernel's queue for the next Steer.
//   - serving: some assigned slot is steered to. Orphans are passed on.
//   - answering: Steer was told that nobody is alive. Connections are taken by
//     the master itself.
//
// What finds that the kernel's state is not what was left, and repairs it (drift_linux.go,
// prove_linux.go), is no room of its own, because arrows would point both ways. A slot is
// assigned or gets a fresh socket only after what fell was repaired, as the order in the
// kernel's array must be known; a Unix socket is repaired by giving the slot a fresh one; and
// what fell is steered away from in the same step. All of these write each listener's sockets,
// their order and who is assigned, under one lock. Below it is what needs none of that state:
// package steer the kernel's side, package salvage what is done before there is a Set.
//
// All of it but the types is for Linux.
package listen

import (
	"fmt"
	"net"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/keeper"
	"github.com/masterd/masterd/pkg/master/listen/steer"
)

// SharedReason is why a listener is shared that could be steered, as status says it.
const SharedReason = steer.SharedReason

// maxSlots bounds a pool: the reserved addresses that reach exactly one slot
// are not endless.
const maxSlots = 2000

// Options say what is opened, and who is told.
//
// Orphan, Quiet and Own are called from one goroutine, one at a time, with nothing
// locked. They must not block, and must not call Close.
type Options struct {
	Listeners []config.Listener
	// Slots is the number of slots that can be assigned, the same in every
	// listener: 1 to 2000. There are more if an earlier Set had more, and after
	// Grow.
	Slots int
	// Orphan takes a client's connection that was accepted from a slot nobody
	// mans. The descriptor is the callee's; it is non-blocking and
	// close-on-exec. Nil: it is closed.
	Orphan func(l config.Listener, fd int)
	// Quiet is told, once for each Quarantine that was not ended by Man, that
	// nothing can arrive in the slot any more.
	Quiet func(slot int)
	// Own takes a connection that came while nobody is alive. It is the
	// callee's to close. Nil: it is closed.
	Own func(l config.Listener, c net.Conn)
	// Held are sockets that an earlier Set has left; the Set takes them over and
	// owns their descriptors from now on. What no listener needs is closed.
	Held []keeper.Held
	// Holders are the processes that an earlier Set has given slots. Their sockets
	// are taken over where Held has none of a listener's.
	Holders []Holder
	// Shares are what the earlier Set was steered to. Where the steering is lost with
	// who held the sockets, it is these until the first Steer.
	Shares []Share
	// Sticky is the salt that came with them.
	Sticky uint32
	// Deserted: of those that an earlier Set has given slots nobody lives. Of what it
	// has left nothing serves then, and a listener that cannot be taken over is opened
	// anew; else it would be refused for ever.
	Deserted bool
	// Given are sockets that the service manager has opened. One of a listener's
	// name is used in the place of the master's own, and left open at the end; its
	// address must be the listener's. The Set owns the descriptors.
	Given []Given
	// Keeper holds each socket that there is, with what the next Set must know to take
	// it over. It is called with the Set locked. Nil: nobody does.
	Keeper keeper.Holder
	// Log may be nil.
	Log *zap.Logger
}

// HeldPrefix begins the names of all that is held: one for each socket, with listener,
// slot and address in it.
const HeldPrefix = "slot/"

// Holder is a process that was given the sockets of a slot by an earlier Set.
type Holder struct {
	Slot, PID int
}

// Given is a listening socket of the service manager's.
type Given struct {
	Name string // of the listener
	FD   int
}

// File is a slot's socket in one listener, to be handed to a worker.
type File struct {
	Name string // of the listener
	FD   int    // a duplicate, close-on-exec and, unless Held, non-blocking, which the caller closes
	// Held: workers of other slots have the same socket. Whether it blocks is up to
	// them: a program that waits in accept would find it changed beneath it.
	Held bool
}

// Share is a slot's part of the new connections.
type Share struct {
	Slot   int
	Weight uint32 // at least 1
	Canary bool   // the slot is the candidate's, while others have the rest
}

// Error is why a listener cannot be opened or changed. Nothing was disturbed.
type Error struct {
	Listener string        // its name
	Address  string        // as configured
	Holder   string        // who has the address: "pid 123 (nginx)"; empty: not known
	PID      int           // of that; zero: not known
	Advice   string        // what to do about it; may be empty
	Wait     time.Duration // after which it may be had by itself; zero: not so
	Err      error
}

func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "listener %s on %s: %v", e.Listener, e.Address, e.Err)
	if e.Holder != "" {
		fmt.Fprintf(&b, ", held by %s", e.Holder)
	}
	if e.Advice != "" {
		fmt.Fprintf(&b, "; %s", e.Advice)
	}
	return b.String()
}

// Unwrap gives the cause, often a syscall.Errno.
func (e *Error) Unwrap() error { return e.Err }

// identity is what makes two listeners the same one: the address. Name, backlog and
// steering, and the mode and group of a Unix socket, can change; this cannot.
type identity struct {
	network, host string
	port          int
	path          string
	name          string // of one whose port the kernel chooses: it has no other address
}

func identify(c config.Listener) identity {
	id := identity{network: c.Network, host: c.Host, port: c.Port, path: c.Path}
	if c.Network != "unix" && c.Port == 0 {
		id.name = c.Name
	}
	return id
}

// Same tells whether two configured listeners are one, whatever they are called.
func Same(a, b config.Listener) bool { return identify(a) == identify(b) }

// address is how a listener's address is shown to people.
func address(c config.Listener) string {
	switch {
	case c.Address != "":
		return c.Address
	case c.Network == "unix":
		return "unix://" + c.Path
	}
	return fmt.Sprintf("%s://%s", c.Network, net.JoinHostPort(c.Host, fmt.Sprint(c.Port)))
}

// mode is a state of a listener; see the package's comment.
type mode uint8

const (
	holding mode = iota
	serving
	answering
)
