//go:build !masterd_turns

package main

// turn gives what makes each turn of the master's loop: nothing, but in a build for
// tests, see turns.go.
func turn() func(do func(), what func() string) { return nil }
