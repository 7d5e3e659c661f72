//go:build !linux

package notify

import (
	"errors"
	"time"
)

// Room is for Linux.
type Room struct{}

// Open says that there is none here.
func Open(Options) (*Room, error) {
	return nil, errors.New("workers cannot be heard by sd_notify here: that needs Linux")
}

// Add is for Linux.
func (*Room) Add(Worker) (string, error) { return "", nil }

// Adopt is for Linux.
func (*Room) Adopt(Worker, int) error { return nil }

// KeepAgain is for Linux.
func (*Room) KeepAgain() {}

// PassPidfds is for Linux.
func (*Room) PassPidfds() {}

// Begin is for Linux.
func (*Room) Begin(uint64, int) {}

// Main is for Linux.
func (*Room) Main(uint64, int) {}

// Forget is for Linux.
func (*Room) Forget(uint64) {}

// Heard is for Linux.
func (*Room) Heard(uint64, time.Duration) {}

// Close is for Linux.
func (*Room) Close() {}

// Sweep is for Linux.
func (*Room) Sweep() error { return nil }

// Mend is for Linux.
func (*Room) Mend() (bool, error) { return false, nil }

// ID is for Linux.
func ID(string) (uint64, bool) { return 0, false }
