//go:build !linux

package fdpass

func interrupter() func() { return func() {} }
func closeQueued(int)     {}
