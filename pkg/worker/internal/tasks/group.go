// Package tasks waits for goroutines.
package tasks

import "sync"

// Group is a sync.WaitGroup with the Go method that it has in the standard library as of Go
// 1.25: the SDK still builds with the one before.
type Group struct{ sync.WaitGroup }

// Go calls f in a goroutine that Wait waits for.
func (g *Group) Go(f func()) {
	g.Add(1)
	go func() {
		defer g.Done()
		f()
	}()
}
