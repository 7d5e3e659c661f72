package probe

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// Warm makes the warm-up requests to w, some at a time, each on a connection of
// its own. made is how many were answered or failed, failed how many were not
// answered or with a status of 500 or more. err is set when ctx ended before
// all were made, or when all failed: then it says how the first did.
func (c *Checker) Warm(ctx context.Context, w Worker, dial Dialer) (made, failed int, err error) {
	if c.warmup == nil {
		return 0, 0, nil
	}
	want := int64(c.health.Warmup.Requests)
	var next, bad, done atomic.Int64
	var first sync.Once
	var cause error
	fail := func(err error) {
		bad.Add(1)
		first.Do(func() { cause = err })
	}
	var all sync.WaitGroup
	for range min(want, int64(max(1, c.health.Warmup.Concurrency))) {
		all.Go(func() {
			for !over(ctx) && next.Add(1) <= want {
				a, err := c.warmOnce(ctx, dial)
				if err != nil && over(ctx) {
					return // cut off: neither made nor failed
				}
				done.Add(1)
				switch {
				case err != nil:
					fail(err)
				case a.status >= 500:
					fail(fmt.Errorf("status %d", a.status))
				}
			}
		})
	}
	all.Wait()
	made, failed = int(done.Load()), int(bad.Load())
	what := fmt.Sprintf("warm-up of worker %d, GET %s", w.ID, c.warmup.path)
	switch {
	case int64(made) < want:
		err := context.DeadlineExceeded
		if errors.Is(ctx.Err(), context.Canceled) {
			err = context.Canceled
		}
		return made, failed, fmt.Errorf("%s: %d of %d requests made when its time was over: %w", what, made, want, err)
	case failed == made:
		return made, failed, fmt.Errorf("%s: all %d requests failed, the first: %w", what, made, cause)
	}
	return made, failed, nil
}

// over tells whether a context has ended. A connection notices its deadline a
// moment before the context does.
func over(ctx context.Context) bool {
	d, ok := ctx.Deadline()
	return ctx.Err() != nil || ok && !time.Now().Before(d)
}

func (c *Checker) warmOnce(ctx context.Context, dial Dialer) (answer, error) {
	ctx, cancel := context.WithTimeout(ctx, maxCheck)
	defer cancel()
	return c.warmup.do(ctx, dial)
}
