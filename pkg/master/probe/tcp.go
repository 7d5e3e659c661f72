package probe

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
)

// checkTCP passes when a connection is taken and not closed at once. What the
// worker may say first (a greeting) passes, too.
func checkTCP(ctx context.Context, dial Dialer) error {
	started := time.Now()
	conn, err := dial(ctx)
	if err != nil {
		return fmt.Errorf("tcp: %w", explain(ctx, started, "connection", err))
	}
	defer conn.Close()
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("tcp: %w", explain(ctx, started, "connection", err))
	}
	until := time.Now().Add(closedSoon)
	if d, ok := ctx.Deadline(); ok && d.Before(until) {
		until = d
	}
	if err := conn.SetReadDeadline(until); err != nil {
		return fmt.Errorf("tcp: %w", err)
	}
	var b [1]byte
	if _, err = conn.Read(b[:]); err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("tcp: the connection was taken and closed at once: %w", explain(ctx, started, "life in it", err))
	}
	return nil
}
