package main

import (
	"context"
	"errors"
	"testing"
)

// A session that breaks is begun again; the end of the context ends it for good.
func TestABrokenSessionIsBegunAgain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	lost := errors.New("connection reset")
	sessions, broken := 0, 0
	again(ctx, func(ctx context.Context) error {
		if sessions++; sessions < 3 {
			return lost
		}
		cancel()
		<-ctx.Done()
		return ctx.Err()
	}, func(err error) {
		if broken++; !errors.Is(err, lost) {
			t.Errorf("it broke of %v", err)
		}
	})
	if sessions != 3 || broken != 2 {
		t.Errorf("%d sessions and %d breaks, want 3 and 2", sessions, broken)
	}
}
