//go:build !masterd_dies

package main

// effect gives what is told before each command of the rollout machine is carried
// out: nothing, but in a build for tests, see dies.go.
func effect() func(command string) { return nil }
