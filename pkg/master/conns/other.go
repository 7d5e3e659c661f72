//go:build !linux

package conns

import (
	"errors"
	"net/netip"
)

// Has needs Linux.
func Has([]int, []uint64) ([]uint64, error) { return nil, errors.ErrUnsupported }

// Of needs Linux.
func Of([]int, []netip.AddrPort, []string) (Open, error) {
	return Open{}, errors.New("whose connections are open can be told on Linux only")
}
