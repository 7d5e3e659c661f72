package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// checkTCP passes when the worker has accepted a connection and does not close it at
// once. That connecting succeeds says nothing: the kernel completes the handshake on a
// socket that the master itself has open, and the master is one end of a pair. So the
// check ends its own side, and only a program that has the connection can say
// something or close it.
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
	switch _, err = conn.Read(b[:]); {
	case err == nil:
		return nil // it has greeted
	case !errors.Is(err, os.ErrDeadlineExceeded):
		return fmt.Errorf("tcp: the connection was taken and closed at once: %w", explain(ctx, started, "life in it", err))
	}
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok {
		return fmt.Errorf("tcp: a %T cannot be ended on one side; masterd is at fault", conn)
	}
	defer guard(ctx, conn)()
	if err := half.CloseWrite(); err != nil {
		return fmt.Errorf("tcp: %w", explain(ctx, started, "sign that it was accepted", err))
	}
	if _, err := conn.Read(b[:]); err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("tcp: the worker has not accepted the connection, or does not close it when its client does: %w",
			explain(ctx, started, "sign that it was accepted", err))
	}
	return nil
}
