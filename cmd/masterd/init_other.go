//go:build !linux

package main

import "github.com/masterd/masterd/pkg/master"

// first tells whether this process is the first of a PID namespace, which there
// are on Linux only.
func first() bool { return false }

func (a *app) runFirst(master.Self) error { return nil }
