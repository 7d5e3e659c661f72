package steer

import (
	"math/bits"
	"net/netip"

	"golang.org/x/net/bpf"
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
)

// Target is a socket, by its index in the kernel's array, with its weight.
type Target struct {
	Index  uint32
	Weight uint32
}

// Program picks the socket of a new connection: the reserved one, or one of
// the targets at random by weight. index gives, for each slot, the kernel's
// index of its socket; it is nearly always the slot itself. ipv4 and ipv6 say
// which packets can come.
//
// Every path returns the index of a socket that is there: with an invalid one
// the kernel would fall back to a hash over all sockets, assigned or not.
func Program(index []uint32, targets []Target, ipv4, ipv6 bool) []bpf.Instruction {
	slots := uint32(len(index))
	exact := toReserved(index)
	var p []bpf.Instruction
	if ipv4 {
		p = append(p, section(4, []bpf.Instruction{
			bpf.LoadAbsolute{Off: ipv4Source, Size: 4},
			bpf.ALUOpConstant{Op: bpf.ALUOpSub, Val: reservedIPv4}, // others wrap to something huge
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: slots, SkipTrue: 1},
			bpf.Jump{Skip: leave},
		}, exact)...)
	}
	if ipv6 {
		var in []bpf.Instruction
		for word, want := range []uint32{0, 0, 0, 1} { // ::1
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
			bpf.JumpIf{Cond: bpf.JumpLessThan, Val: slots, SkipTrue: 1},
			bpf.Jump{Skip: leave},
		), exact)...)
	}
	return append(p, byWeight(targets)...)
}

// leave, within a section, jumps to its end.
const leave = ^uint32(0)

// section is for packets of one IP version; all others pass over it, and so
// does what leaves it by such a jump.
func section(version uint32, parts ...[]bpf.Instruction) []bpf.Instruction {
	p := []bpf.Instruction{
		bpf.LoadAbsolute{Off: networkHeader, Size: 1},
		bpf.ALUOpConstant{Op: bpf.ALUOpShiftRight, Val: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: version, SkipTrue: 1},
		bpf.Jump{Skip: leave},
	}
	for _, part := range parts {
		p = append(p, part...)
	}
	for i, in := range p {
		if in == (bpf.Jump{Skip: leave}) {
			p[i] = bpf.Jump{Skip: uint32(len(p) - i - 1)}
		}
	}
	return p
}

// toReserved returns the socket of the slot in the accumulator. Only sockets
// that have moved cost an instruction.
func toReserved(index []uint32) []bpf.Instruction {
	var p []bpf.Instruction
	for slot, at := range index {
		if uint32(slot) != at {
			p = append(p, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(slot), SkipFalse: 1}, bpf.RetConstant{Val: at})
		}
	}
	return append(p, bpf.RetA{})
}

// byWeight divides the range of the kernel's 32-bit random number among the targets.
func byWeight(targets []Target) []bpf.Instruction {
	last := targets[len(targets)-1]
	if len(targets) == 1 {
		return []bpf.Instruction{bpf.RetConstant{Val: last.Index}}
	}
	var total, below uint64
	for _, t := range targets {
		total += uint64(t.Weight)
	}
	p := []bpf.Instruction{bpf.LoadExtension{Num: bpf.ExtRand}}
	for _, t := range targets[:len(targets)-1] {
		below += uint64(t.Weight)
		bound, _ := bits.Div64(below>>32, below<<32, total) // below/total of 2^32
		p = append(p, bpf.JumpIf{Cond: bpf.JumpGreaterOrEqual, Val: uint32(bound), SkipTrue: 1},
			bpf.RetConstant{Val: t.Index})
	}
	return append(p, bpf.RetConstant{Val: last.Index})
}
