package listen

import (
	"golang.org/x/net/bpf"

	"github.com/masterd/masterd/pkg/master/listen/steer"
	"github.com/masterd/masterd/pkg/master/sockdiag"
)

// system is the part of the kernel that is not everywhere, or that a test
// must be able to play.
type system struct {
	// attach makes the program the one that picks a socket of fd's group.
	attach func(fd int, program []bpf.Instruction) error
	// handshakes are the connections that are being made now, on all ports.
	// With ipv6 those of dual-stack and IPv6 sockets too.
	handshakes func(ipv6 bool) (map[sockdiag.Flow]struct{}, error)
	// step is told of each step of a renewal. It may be nil.
	step func(after string)
}

func host() system { return system{attach: steer.Attach, handshakes: sockdiag.Handshakes} }
