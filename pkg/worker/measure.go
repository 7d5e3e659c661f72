package worker

import (
	"context"
	"log/slog"

	"github.com/masterd/masterd/pkg/worker/internal/measure"
	"github.com/masterd/masterd/pkg/worker/internal/serve"
)

// measures are the program's, and not a worker's: what counts need not know one.
var measures = measure.NewProgram(slog.Default)

// Count adds n to a measure of the program's own:
//
//	worker.Count("orders_failed", 1)
//
// The master has the sum over all processes of the service, which no reload takes anything from.
// With n of zero the measure is there before the first is counted; one below zero is ignored.
//
// A name has letters, digits and underscores (a-z, A-Z, 0-9, _), no digit first, and at most
// 64 bytes; a program has at most 32, counted and observed together,
// and each is the one or the other. Names are for what there are few of: never put an id, a
// path or an address into one. What is over these limits is ignored, and logged once, by
// [slog.Default].
//
// It may be called by any goroutine, and at any time: before Run, and in a program that runs
// without a master, where nobody sees the numbers. It allocates nothing, and after a name's
// first call takes no lock.
func Count(name string, n int) { measures.Count(name, n) }

// CountContext is [Count] of what a request has met. ctx is the request's context, or one that was
// made of it; of a *gin.Context, either.
//
//	worker.CountContext(r.Context(), "orders_failed", 1)
//
// So masterd can compare a new version with the one beside it by the connections on which this was
// counted (rollout.analysis.measures), which it cannot by sums.
func CountContext(ctx context.Context, name string, n int) {
	measures.Count(name, n)
	if n > 0 {
		serve.UnitOf(serve.RequestContext(ctx)).Counted(name)
	}
}

// Observe notes one value of a measure of the program's own. The master has how many there
// were, their sum, and the last of each worker:
//
//	stats := db.Stats()
//	worker.Observe("db_pool_ratio", float64(stats.InUse)/float64(stats.MaxOpenConnections))
//
// By convention a measure whose name ends in _ratio tells from 0 to 1 how full something is: a
// pool, a queue, a budget. Observe it when it changes, or every few seconds in a function of
// [Worker.OnActive]. The alert rules that masterd has look at those, and warn at 80 %.
//
// A value that is no number, or infinite, is ignored. For names, limits and callers see [Count].
func Observe(name string, value float64) { measures.Observe(name, value) }
