// Package salvage takes a listener's sockets out of the workers' processes.
//
// When the master and the keeper have died together, only the workers have the sockets
// still, each the one of its slot. They serve on, but the pool has lost the others, and
// with them its order: the program in force names indices that are other sockets' now. So
// the sockets are copied out of the workers' processes (pidfd_getfd(2)), and what the order
// is now is found out by connections to each index. Meanwhile, and for some milliseconds
// only, clients wait in the queue of a new socket behind all others.
//
// What it promises: clients are served, before and after, by who served them; connections
// that had gone astray are given back to be passed on; and where it cannot know the order
// it changes nothing and says why.
package salvage

import (
	"go.uber.org/zap"
	"golang.org/x/net/bpf"

	"github.com/masterd/masterd/pkg/master/config"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// Holder is a process that was given the sockets of a slot.
type Holder struct {
	Slot, PID int
}

// Share is a slot's part of the new connections.
type Share struct {
	Slot   int
	Weight uint32
	Canary bool
}

// Request is about one listener whose own socket nobody holds beside the workers.
type Request struct {
	Listener config.Listener
	Slots    int            // that can be assigned
	Held     map[string]int // what is held all the same, by its part of the name; Take's from now on
	Holders  []Holder
	Shares   []Share                  // what was steered to
	Sticky   uint32                   // with that salt; zero: none
	Hidden   func(part string) string // of a Unix listener: where a part's socket is bound
	// Attach and Handshakes are steer's and sockdiag's, or a test's.
	Attach     func(fd int, program []bpf.Instruction) error
	Handshakes func(ipv6 bool) (map[sockdiag.Flow]struct{}, error)
	Log        *zap.Logger
}

// Found are a listener's sockets. All descriptors are the caller's.
type Found struct {
	Sockets  map[string]int // by their parts, with what was held
	Steering string         // and Reason: as the listener was steered
	Reason   string
	Order    []int // the kernel's array by slots; steer.OwnOrder is the master's own socket
	Strays   []int // clients' connections that were met in queues of others
}

// AlienError: a socket of the pool is none of a known worker's.
type AlienError struct{ Socket sockdiag.Socket }

func (*AlienError) Error() string { return "a socket of the pool is no known worker's" }
