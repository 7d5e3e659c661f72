package listen

import (
	"fmt"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

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

func host() system { return system{attach: attach, handshakes: handshakes} }

// attach needs no privilege, and is atomic: every packet is judged by the old
// program or by the new one.
func attach(fd int, program []bpf.Instruction) error {
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("assembling the steering program: %w", err)
	}
	filter := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := &unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_REUSEPORT_CBPF, prog); err != nil {
		return fmt.Errorf("attaching the steering program: %w", err)
	}
	return nil
}
