package migrate

import "context"

// life is how long a connection is open, as a context. A connection that nobody asks about
// has none. The connection's mu guards it.
type life struct {
	ctx      context.Context // nil: nobody has asked
	cancel   context.CancelFunc
	over     bool            // the connection is closed
	hijacker context.Context // of the request whose handler has taken the connection; nil: none has
}

func (l *life) context() context.Context {
	if l.ctx == nil {
		l.ctx, l.cancel = context.WithCancel(context.Background())
		if l.over {
			l.cancel()
		}
	}
	return l.ctx
}

func (l *life) end() {
	l.over = true
	if l.cancel != nil {
		l.cancel()
	}
}

// Life is a context that ends when the connection is closed here.
func (c *Conn) Life() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.life.context()
}

// Hijacked notes that the handler of a request with this context has taken the connection.
func (c *Conn) Hijacked(by context.Context) {
	c.mu.Lock()
	c.life.hijacker = by
	c.mu.Unlock()
}

// Outlived is the connection's life, if it has outlived the handler that has taken it: net/http
// ends the request's context then, though the connection goes on. Else nil.
func (c *Conn) Outlived() context.Context {
	c.mu.Lock()
	defer c.mu.Unlock()
	if h := c.life.hijacker; h == nil || h.Err() == nil {
		return nil
	}
	return c.life.context()
}
