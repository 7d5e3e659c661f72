//go:build !linux

package listen

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/config"
)

// Set needs Linux.
type Set struct{}

// Open says that steering needs Linux.
func Open(Options) (*Set, error) {
	return nil, fmt.Errorf("opening the listeners: this needs Linux")
}

// Try finds nothing.
func Try(config.Listener, []int) error { return nil }

// Close does nothing.
func (*Set) Close() error { return nil }

// Name is never called.
func (*Set) Name(int, []config.Listener) {}

// Slots is never called: there is no Set.
func (*Set) Slots() int { return 0 }

// Grow is never called.
func (*Set) Grow(int) error { return nil }

// Man is never called.
func (*Set) Man(int, []string, uint64) ([]File, error) { return nil, nil }

// Quarantine is never called.
func (*Set) Quarantine(int) {}

// Steer is never called.
func (*Set) Steer([]Share) error { return nil }

// Shared is never called.
func (*Set) Shared() []string { return nil }

// Add is never called.
func (*Set) Add([]config.Listener) error { return nil }

// Settle is never called.
func (*Set) Settle([]config.Listener) error { return nil }

// Retain is never called.
func (*Set) Retain([]config.Listener) {}

// Status is never called.
func (*Set) Status() []api.Listener { return nil }

// Addr is never called.
func (*Set) Addr(string) string { return "" }

// ProbeDial is never called.
func (*Set) ProbeDial(context.Context, int, string) (net.Conn, error) { return nil, nil }

// KeepAgain is never called.
func (*Set) KeepAgain() {}

// Manned is never called.
func (*Set) Manned(int, []string, uint64) error { return nil }

// Leave is never called.
func (*Set) Leave() error { return nil }

// Ebb is never called.
func (*Set) Ebb(int) func() bool { return nil }

// Places is never called.
func (*Set) Places(int, []string) ([]Place, error) { return nil, nil }

// Holders finds nobody.
func Holders(netip.AddrPort, bool) ([]Process, error) { return nil, nil }
