//go:build !linux

package main

// first tells whether this process is the first of a PID namespace, which there
// are on Linux only.
func first() bool { return false }

func (a *app) runFirst() error { return nil }
