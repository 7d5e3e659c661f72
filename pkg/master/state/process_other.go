//go:build !linux

package state

func commandOf(pid int) string { return "" }
