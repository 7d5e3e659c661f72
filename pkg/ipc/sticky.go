package ipc

import (
	"encoding/binary"
	"math/bits"
	"net/netip"
)

// StickyHash maps a client's address to a number that is spread evenly over 32 bits, anew for
// each salt. While a canary has a share of the clients, a client belongs to the candidate if
// its hash is below [StickyBound] of that share, so it stays there while the share grows. The
// kernel computes the same function for each new connection.
//
// An IPv4-mapped IPv6 address counts as IPv4, a zone does not count, and the zero Addr counts
// as "::".
//
// The hash is the salt, mixed; then each 32-bit word of the address, one or four in network
// order, is XORed into it, and it is mixed again.
func StickyHash(salt uint32, addr netip.Addr) uint32 {
	all := addr.As16()
	words := all[:]
	if addr.Unmap().Is4() {
		words = all[12:]
	}
	h := mix(salt)
	for ; len(words) > 0; words = words[4:] {
		h = mix(h ^ binary.BigEndian.Uint32(words))
	}
	return h
}

// mix has each bit of the result depend on all bits of h. It follows the 32-bit finaliser of
// Austin Appleby's MurmurHash3 (fmix32), which classic BPF has all the operations for.
func mix(h uint32) uint32 {
	h ^= h >> 16
	h *= 0x85ebca6b
	h ^= h >> 13
	h *= 0xc2b2ae35
	return h ^ h>>16
}

// StickyBound is the number that part/whole of all hashes are below, rounded down: 2^32 for
// the whole. Neither may be zero or 2^63 or more.
func StickyBound(part, whole uint64) uint64 {
	if part >= whole {
		return 1 << 32
	}
	bound, _ := bits.Div64(part>>32, part<<32, whole)
	return bound
}
