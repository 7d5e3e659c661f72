//go:build !linux

package fdstore

import "errors"

// Store is for Linux.
type Store struct{}

// New says that there is none here.
func New(Options) (*Store, error) {
	return nil, errors.New("descriptors cannot be stored here: that needs Linux")
}

// Add is for Linux.
func (*Store) Add(string, []int, bool, int) error { return nil }

// Remove is for Linux.
func (*Store) Remove(string) {}

// Files is for Linux.
func (*Store) Files() ([]File, error) { return nil, nil }

// Count is for Linux.
func (*Store) Count() int { return 0 }

// Adopt is for Linux.
func (*Store) Adopt([]Held) {}

// KeepAgain is for Linux.
func (*Store) KeepAgain() {}

// Close is for Linux.
func (*Store) Close() {}
