package main

import (
	"context"
	"math/rand/v2"
	"time"
)

const (
	firstWait = 100 * time.Millisecond
	longest   = 30 * time.Second
	wasWell   = time.Minute // a session that held for so long was a good one
)

// again runs session, which connects and consumes until the connection breaks, until ctx
// ends: at once in the first version that does it, and after a wait each time that it broke.
// The wait doubles, and differs between processes: all of them lose a broker at one time.
func again(ctx context.Context, session func(context.Context) error, broke func(error)) {
	for wait := firstWait; ctx.Err() == nil; wait = min(2*wait, longest) {
		began := time.Now()
		err := session(ctx)
		if ctx.Err() != nil {
			return
		}
		broke(err)
		if time.Since(began) > wasWell {
			wait = firstWait
		}
		select {
		case <-ctx.Done():
		case <-time.After(wait/2 + rand.N(wait)):
		}
	}
}
