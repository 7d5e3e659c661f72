package steer

import (
	"net/netip"

	"golang.org/x/net/bpf"

	"github.com/masterd/masterd/pkg/ipc"
)

// Reserved clients reach exactly one slot, whatever the weights are: that is
// how a worker that cannot be passed a connection is checked by itself.
//
// Over IPv4 their source is 127.99.0.0 + 1 + slot, which is loopback and never
// routed. IPv6 has a single loopback address, so there the slot is in two
// header fields of a packet from ::1, DSCP and hop limit, that a client may
// set without privilege.
const (
	reservedIPv4 = 0x7f630001 // 127.99.0.1: slot 0
	reservedDSCP = 0x30       // six bits wide: 0x30 and up hold the high part of the slot
	reservedHops = 64         // and the hop limit, from here, its low seven bits
	hopsPerDSCP  = 128
)

// reservedSource is the IPv4 address that a connection to exactly this slot comes from.
func reservedSource(slot int) netip.Addr {
	a := uint32(reservedIPv4 + slot)
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)})
}

// reservedFields are the traffic class and hop limit of IPv6 packets to exactly this slot.
func reservedFields(slot int) (class, hops int) {
	return (reservedDSCP + slot/hopsPerDSCP) << 2, reservedHops + slot%hopsPerDSCP
}

// Where header fields are, counted from the start of the network header. The
// Program sees the packet's payload at 0; this offset is Linux' SKF_NET_OFF.
const (
	networkHeader = 0xfff00000
	ipv4Source    = networkHeader + 12
	ipv6HopLimit  = networkHeader + 7
	ipv6Source    = networkHeader + 8
	ipv6Words     = 4 // of 32 bits, in an address
)

// Target is a socket, by its index in the kernel's array, with its weight.
type Target struct {
	Index  uint32
	Weight uint32
	Canary bool // it is the candidate's, which shares the clients with the other targets
}

// Group are the sockets among which a program picks.
type Group struct {
	// Index gives, for each slot, the kernel's index of its socket; it is nearly always the
	// slot itself.
	Index      []uint32
	IPv4, IPv6 bool // which packets can come
}

// Program picks the socket of a new connection: the reserved one, or one of the targets at
// random by weight. sticky is the salt by which a client's address decides whether it is the
// candidate's, where both sides have targets: the candidate has the lowest hashes, as many as
// are its part of all weights. Zero: each connection draws among all targets.
//
// Every path returns the index of a socket that is there: with an invalid one
// the kernel would fall back to a hash over all sockets, assigned or not.
func (g Group) Program(targets []Target, sticky uint32) []bpf.Instruction {
	p := g.toReserved()
	canary, others := divide(targets)
	if sticky == 0 || len(canary) == 0 || len(others) == 0 {
		return append(p, byWeight(targets)...)
	}
	share := uint32(ipc.StickyBound(total(canary), total(targets)))
	p = append(p, g.hash(sticky)...)
	p = append(p, below(share, byWeight(canary))...)
	return append(p, byWeight(others)...)
}

func divide(targets []Target) (canary, others []Target) {
	for _, t := range targets {
		if t.Canary {
			canary = append(canary, t)
		} else {
			others = append(others, t)
		}
	}
	return canary, others
}

func total(targets []Target) (sum uint64) {
	for _, t := range targets {
		sum += uint64(t.Weight)
	}
	return sum
}

// toReserved returns the socket of the slot that a reserved client wants.
func (g Group) toReserved() []bpf.Instruction {
	const none = ^uint32(0)
	p := []bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegX, Val: none}} // X: the slot
	if g.IPv4 {
		p = append(p, section(4, []bpf.Instruction{
			bpf.LoadAbsolute{Off: ipv4Source, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: reservedIPv4}, // others wrap to something huge
			bpf.TAX{},
		})...)
	}
	if g.IPv6 {
		var in []bpf.Instruction
		for word, want := range [ipv6Words]uint32{0, 0, 0, 1} { // ::1
			in = append(in,
				bpf.LoadAbsolute{Off: ipv6Source + 4*uint32(word), Size: 4},
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: want, SkipTrue: 1},
				bpf.Jump{Skip: leave},
			)
		}
		p = append(p, section(6, append(in,
			bpf.LoadAbsolute{Off: networkHeader, Size: 4}, // version 4 bits, DSCP 6, ECN 2, flow label 20
			bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 22},
			bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 0x3f},
			bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: reservedDSCP}, // others wrap
			bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: hopsPerDSCP},
			bpf.TAX{},
			bpf.LoadAbsolute{Off: ipv6HopLimit, Size: 1},
			bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: reservedHops},
			bpf.ALUOpX{Op: bpf.ALUOpAdd},
			bpf.TAX{},
		))...)
	}
	// Only sockets that have moved cost an instruction.
	var exact []bpf.Instruction
	for slot, at := range g.Index {
		if uint32(slot) != at {
			exact = append(exact,
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(slot), SkipFalse: 1}, bpf.RetConstant{Val: at})
		}
	}
	p = append(p, bpf.TXA{})
	return append(p, below(uint32(len(g.Index)), append(exact, bpf.RetA{}))...)
}

// hash is [ipc.StickyHash] of the client's address.
func (g Group) hash(salt uint32) []bpf.Instruction {
	// X: the hash so far.
	p := append([]bpf.Instruction{bpf.LoadConstant{Dst: bpf.RegA, Val: salt}}, mix()...)
	mixIn := func(source, words uint32) (in []bpf.Instruction) {
		for word := range words {
			in = append(in, bpf.LoadAbsolute{Off: source + 4*word, Size: 4}, bpf.ALUOpX{Op: bpf.ALUOpXor})
			in = append(in, mix()...)
		}
		return in
	}
	if g.IPv4 {
		p = append(p, section(4, mixIn(ipv4Source, 1))...)
	}
	if g.IPv6 {
		p = append(p, section(6, mixIn(ipv6Source, ipv6Words))...)
	}
	return append(p, bpf.TXA{})
}

// mix mixes the accumulator into X, as [ipc.StickyHash] does.
func mix() (p []bpf.Instruction) {
	shift := func(bits uint32) {
		p = append(p, bpf.TAX{}, bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: bits}, bpf.ALUOpX{Op: bpf.ALUOpXor})
	}
	times := func(by uint32) { p = append(p, bpf.ALUOpConstant{Op: bpf.ALUOpMul, Val: by}) }
	shift(16)
	times(0x85ebca6b)
	shift(13)
	times(0xc2b2ae35)
	shift(16)
	return append(p, bpf.TAX{})
}

// below is for where the accumulator is less than the bound; all others pass over it.
func below(bound uint32, then []bpf.Instruction) []bpf.Instruction {
	return append([]bpf.Instruction{
		bpf.JumpIf{Cond: bpf.JumpLessThan, Val: bound, SkipTrue: 1},
		bpf.Jump{Skip: uint32(len(then))},
	}, then...)
}

// leave, within a section, jumps to its end.
const leave = ^uint32(0)

// section is for packets of one IP version; all others pass over it, and so
// does what leaves it by such a jump.
func section(version uint32, in []bpf.Instruction) []bpf.Instruction {
	p := append([]bpf.Instruction{
		bpf.LoadAbsolute{Off: networkHeader, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: version, SkipTrue: 1},
		bpf.Jump{Skip: leave},
	}, in...)
	for i, in := range p {
		if in == (bpf.Jump{Skip: leave}) {
			p[i] = bpf.Jump{Skip: uint32(len(p) - i - 1)}
		}
	}
	return p
}

// byWeight divides the range of the kernel's 32-bit random number among the targets.
func byWeight(targets []Target) []bpf.Instruction {
	last := targets[len(targets)-1]
	if len(targets) == 1 {
		return []bpf.Instruction{bpf.RetConstant{Val: last.Index}}
	}
	whole, sum := total(targets), uint64(0)
	p := []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtRand}}
	for _, t := range targets[:len(targets)-1] {
		sum += uint64(t.Weight)
		bound := uint32(ipc.StickyBound(sum, whole)) // sum/whole of 2^32
		p = append(p, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: bound, SkipTrue: 1}, bpf.RetConstant{Val: t.Index})
	}
	return append(p, bpf.RetConstant{Val: last.Index})
}
