// Package ginworker is the little that a Gin application wants beside
// pkg/worker: an engine set up for production, answers that say who gave them,
// and the notice to leave by a *gin.Context.
package ginworker

import (
	"context"
	"os"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/worker"
)

// Headers that Identify sets.
const (
	HeaderVersion = "X-Worker-Version"
	HeaderPID     = "X-Worker-Pid"
)

// New is gin.New in release mode (unless GIN_MODE says otherwise) with
// recovery from panics, and with [Routes]. A *gin.Context is a full context of its request in it.
func New() *gin.Engine {
	if os.Getenv(gin.EnvGinMode) == "" {
		gin.SetMode(gin.ReleaseMode)
	}
	r := gin.New()
	r.ContextWithFallback = true
	r.Use(Routes(), gin.Recovery())
	return r
}

// Identify has every answer say which version and which process gave it.
func Identify(version string) gin.HandlerFunc {
	v, pid := []string{version}, []string{strconv.Itoa(os.Getpid())}
	return func(c *gin.Context) {
		h := c.Writer.Header()
		h[HeaderVersion], h[HeaderPID] = v, pid // shared: no allocation for each answer
	}
}

// Leaving is worker.Leaving. A *gin.Context must not be used once its handler has
// returned; what this returns may be.
func Leaving(c *gin.Context) <-chan struct{} {
	return worker.Leaving(c.Request.Context())
}

// LeavingContext is worker.LeavingContext, of the request's context.
func LeavingContext(c *gin.Context) (leaving context.Context, cancel context.CancelFunc) {
	return worker.LeavingContext(c.Request.Context())
}

// AfterLeaving is worker.AfterLeaving, of the request's context.
func AfterLeaving(c *gin.Context, f func()) (stop func() bool) {
	return worker.AfterLeaving(c.Request.Context(), f)
}
