package steer

import (
	"fmt"
	"slices"
)

// Array is the kernel's array of a pool: the sockets, by their numbers, in the order of
// their listen(2). It cannot be read back, so it is followed. The master's own socket has
// the highest number, which is called own here.
type Array []int

// Index is a socket's place; -1: it does not listen.
func (a Array) Index(socket int) int { return slices.Index(a, socket) }

// Join is what the kernel does when a socket listens that did not: it is the last. One
// that takes another's place stays there: it was the last, and fills the hole of that.
func (a *Array) Join(socket int) {
	if a.Index(socket) < 0 {
		*a = append(*a, socket)
	}
}

// Leave is what the kernel does when a socket listens no more: the last fills the hole.
func (a *Array) Leave(socket int) {
	at, last := a.Index(socket), len(*a)-1
	if at < 0 {
		return
	}
	(*a)[at] = (*a)[last]
	*a = (*a)[:last]
}

// Renamed is the array with another number for one of its sockets.
func (a Array) Renamed(from, to int) Array {
	b := slices.Clone(a)
	if at := b.Index(from); at >= 0 {
		b[at] = to
	}
	return b
}

// Indices are the places by socket. Of one that cannot listen any more it is that of the
// master's own.
func (a Array) Indices(own int) []uint32 {
	at := make([]uint32, own+1)
	for i := range at {
		at[i] = uint32(max(0, a.Index(own)))
	}
	for i, socket := range a {
		at[socket] = uint32(i)
	}
	return at
}

// Kept is the array as it is kept for another master; see [OwnOrder].
func (a Array) Kept(own int) []int { return a.Renamed(own, OwnOrder) }

// ReadArray reads what was kept.
func ReadArray(kept []int, own int) (a Array, err error) {
	for _, socket := range kept {
		if socket == OwnOrder {
			socket = own
		}
		if socket < 0 || socket > own || a.Index(socket) >= 0 {
			return nil, fmt.Errorf("the order of the slots %v is not one of %d sockets", kept, own+1)
		}
		a = append(a, socket)
	}
	return a, nil
}
