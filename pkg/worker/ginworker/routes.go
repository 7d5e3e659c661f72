package ginworker

import (
	"maps"
	"sync"
	"sync/atomic"

	"github.com/gin-gonic/gin"
)

// maxPatterns is how many routes of an engine get their names. The worker counts fewer apart.
const maxPatterns = 1024

// Routes has the worker count requests by their route: it sets the request's Pattern, as
// net/http's own router does, to the method and the template that Gin has found ("GET
// /users/:id"). Requests without a route have none, and count as those of "other".
//
// [New] uses it. In an engine that was made otherwise it should come first: a middleware before
// it that replaces the request (c.Request = c.Request.WithContext(ctx)) hides from the worker
// what is set after that. So does an http.Handler around the engine that does so.
func Routes() gin.HandlerFunc {
	var p patterns
	p.known.Store(&map[route]string{})
	return func(c *gin.Context) {
		if path := c.FullPath(); path != "" {
			c.Request.Pattern = p.of(route{c.Request.Method, path})
		}
	}
}

type route struct{ method, path string }

// patterns are the names of routes, so that none is made for each request.
type patterns struct {
	known atomic.Pointer[map[route]string] // never changed, but replaced
	mu    sync.Mutex                       // of who replaces it
}

// of is empty for a route that is one too many.
func (p *patterns) of(r route) string {
	known := *p.known.Load()
	pattern, ok := known[r]
	if ok || len(known) >= maxPatterns {
		return pattern
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	more := maps.Clone(*p.known.Load())
	pattern = r.method + " " + r.path
	more[r] = pattern
	p.known.Store(&more)
	return pattern
}
