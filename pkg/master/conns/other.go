//go:build !linux

package conns

import (
	"errors"
	"net/netip"
)

// Of needs Linux.
func Of(int, []netip.AddrPort, []string) (Open, error) {
	return Open{}, errors.New("whose connections are open can be told on Linux only")
}
