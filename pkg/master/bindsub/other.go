//go:build !linux

package bindsub

import "errors"

// Room is for Linux.
type Room struct{}

// Begin says that there is none here.
func Begin(Options) (*Room, error) {
	return nil, errors.New("a worker's calls of bind can be answered on Linux only")
}

// Close is for Linux.
func (*Room) Close() {}

// KeepAgain is for Linux.
func (*Room) KeepAgain() {}
