package serve

import (
	"context"
	"net"
	"net/http"
	"reflect"
	"sync"

	"github.com/masterd/masterd/pkg/worker/internal/measure"
	"github.com/masterd/masterd/pkg/worker/internal/migrate"
)

type connKey struct{}

// withConn has the contexts of a connection's requests know the connection.
func withConn(next func(context.Context, net.Conn) context.Context) func(context.Context, net.Conn) context.Context {
	return func(ctx context.Context, c net.Conn) context.Context {
		if next != nil {
			ctx = next(ctx, c)
		}
		if m := clientConn(c); m != nil {
			ctx = context.WithValue(ctx, connKey{}, m)
		}
		return ctx
	}
}

// UnitOf is what is compared of the connection on which a request came; one that counts for
// nobody where the context knows none.
func UnitOf(request context.Context) *measure.Unit {
	if m, _ := request.Value(connKey{}).(*migrate.Conn); m != nil {
		return &m.Unit
	}
	return new(measure.Unit)
}

// RequestContext is ctx, or the context of its request where it hides that: a *gin.Context has
// the request in a field, and passes on nothing of its context unless the engine was told to.
func RequestContext(ctx context.Context) context.Context {
	if SignalOf(ctx) != nil {
		return ctx
	}
	v := reflect.Indirect(reflect.ValueOf(ctx))
	if v.Kind() != reflect.Struct {
		return ctx
	}
	f, ok := v.Type().FieldByName("Request")
	if !ok || f.Type != reflect.TypeFor[*http.Request]() {
		return ctx
	}
	if of, err := v.FieldByIndexErr(f.Index); err == nil && of.CanInterface() && !of.IsNil() {
		return of.Interface().(*http.Request).Context()
	}
	return ctx
}

// AfterLeaving has f called once, in a goroutine of its own, when the signal that ctx knows is
// set. The end of ctx stops it, but not that of a request whose handler has returned and
// left its connection to others: then the end of the connection does.
func AfterLeaving(ctx context.Context, f func()) (stop func() bool) {
	ctx = RequestContext(ctx)
	s := SignalOf(ctx)
	if s == nil {
		s = NewSignal() // nobody sets it
	}
	var w watch
	cancel := s.AfterFunc(func() {
		w.end()
		f()
	})
	conn, _ := ctx.Value(connKey{}).(*migrate.Conn)
	ended := func() { cancel() }
	switch {
	case conn == nil:
		w.begin(ctx, ended)
	case ctx.Done() == nil: // of context.WithoutCancel
		w.begin(conn.Life(), ended)
	default:
		w.begin(ctx, func() {
			if life := conn.Outlived(); life != nil {
				w.begin(life, ended)
			} else {
				ended()
			}
		})
	}
	return func() bool {
		w.end()
		return cancel()
	}
}

// watch waits for the end of a context, and then perhaps of another one, until it is ended
// itself. A connection that lives long leaves nothing of it behind.
type watch struct {
	mu   sync.Mutex
	over bool
	stop func() bool
}

func (w *watch) begin(ctx context.Context, ended func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.over {
		w.stop = context.AfterFunc(ctx, ended)
	}
}

func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over = true
	if w.stop != nil {
		w.stop()
	}
}
