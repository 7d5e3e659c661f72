package migrate

import (
	"math/rand/v2"
	"net"

	"github.com/masterd/masterd/pkg/ipc"
)

// A share of the connections. While a canary is under way the worker is active, and only a
// share of its idle connections is to go. Each connection draws one number for the rollout and
// goes as soon as the weight is above it. So after each step as many have gone as the weight says,
// and the same weight told again moves nobody: of those that stayed at w0, (w-w0)/(1-w0)
// go at w.
//
// math/rand/v2's own generator is right for that: it is uniform, locks nothing, is seeded by
// the system, and nobody gains by guessing which connections move.

// split is a share that was told. It is never changed.
type split struct {
	ipc.Split
	bound uint64 // hashes of clients' addresses that are below it belong to the share
}

func newSplit(s *ipc.Split) *split {
	if s == nil {
		return nil
	}
	return &split{*s, ipc.StickyBound(uint64(s.Weight), ipc.Whole)}
}

// lot is the number that a connection has drawn.
type lot struct {
	rollout uint64 // for this one; zero: it has drawn none
	number  uint32 // below ipc.Whole
}

// acceptedLot is that of a connection that is new: the kernel has drawn already, at the weight
// that was told last, so it is among those that stay.
func (s *Sender) acceptedLot() lot {
	if s == nil {
		return lot{}
	}
	d := s.split.Load()
	if d == nil || d.Salt != 0 || d.Weight >= ipc.Whole {
		return lot{}
	}
	return lot{d.Rollout, d.Weight + rand.Uint32N(ipc.Whole-d.Weight)}
}

// inShare tells whether the connection is among those that are to go. c.mu is held, and it can
// move.
func (c *Conn) inShare() bool {
	d := c.sender.split.Load()
	switch {
	case d == nil:
		return true // all are
	case d.Salt != 0:
		client, ok := c.stream.RemoteAddr().(*net.TCPAddr)
		return ok && uint64(ipc.StickyHash(d.Salt, client.AddrPort().Addr())) < d.bound
	case c.lot.rollout != d.Rollout:
		c.lot = lot{d.Rollout, rand.Uint32N(ipc.Whole)}
	}
	return c.lot.number < d.Weight
}
