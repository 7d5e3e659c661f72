//go:build !masterd_turns

package main

import "time"

// turn gives what is told of each turn of the master's loop: nothing, but in a build for
// tests, see turns.go.
func turn() func(what string, took time.Duration) { return nil }
