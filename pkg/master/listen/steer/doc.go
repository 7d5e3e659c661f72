// Package steer is what steering is made of: the sockets of a pool, the program by which
// the kernel picks one of them for each new connection, and connections that reach
// exactly one, whatever the program's weights are. It has no state.
package steer

// Kinds of steering, as status shows them.
const (
	Kernel = "kernel"
	Link   = "unix"
	Shared = "shared"
)

// SharedReason is why a listener is shared that could be steered, as status says it.
const SharedReason = "asked for in the configuration"

// Own is the part of a name that stands for the master's own socket, and for the one of a
// shared listener; a slot's is its number.
const Own = "own"

// OwnOrder stands for it in the order of a pool: its index changes with the number of slots.
const OwnOrder = -1
