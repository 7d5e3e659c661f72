package admin

import (
	"errors"
	"fmt"
	"net/http"
	"runtime/debug"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
)

// peerKey finds the connection of a request in its context.
type peerKey struct{}

func peerOf(c *gin.Context) *conn { return c.Request.Context().Value(peerKey{}).(*conn) }

// routes is everything the API answers. openapi.yaml says the same; a test
// compares them.
func (s *Server) routes() *gin.Engine {
	gin.SetMode(gin.ReleaseMode) // else gin prints its routes to standard output
	e := gin.New()
	e.UseRawPath = true // a version's label may hold a slash
	e.RedirectTrailingSlash = false
	e.HandleMethodNotAllowed = true
	e.Use(s.count, s.recover)

	read := e.Group("/v1", s.only(reader))
	read.GET("/status", s.status)
	read.GET("/versions", s.versions)
	read.GET("/versions/diff", s.diffVersions)
	read.GET("/history", s.history)
	read.GET("/events", s.events)
	read.GET("/logs", s.logs)
	read.GET("/openapi.yaml", s.openAPI)
	read.POST("/page", s.page)

	e.GET("/metrics", s.only(reader), gin.WrapH(s.o.Metrics))

	change := e.Group("/v1", s.only(operator))
	change.POST("/reload", s.reload)
	change.POST("/rollback", s.rollback)
	change.POST("/promote", s.promote)
	change.POST("/pause", s.pause)
	change.POST("/resume", s.resume)
	change.POST("/abort", s.abort)
	change.POST("/hold", s.hold)
	change.POST("/unhold", s.unhold)
	change.POST("/scale", s.scale)
	change.POST("/upgrade", s.upgrade)
	change.POST("/stop", s.stop)
	change.POST("/versions/:ref/pin", s.pin(true))
	change.POST("/versions/:ref/unpin", s.pin(false))

	e.NoRoute(s.only(reader), func(c *gin.Context) {
		fail(c, http.StatusNotFound, "There is no %s here; GET /v1/openapi.yaml tells what there is.", c.Request.URL.Path)
	})
	e.NoMethod(s.only(reader), func(c *gin.Context) {
		fail(c, http.StatusMethodNotAllowed, "%s cannot be asked with %s; GET /v1/openapi.yaml tells how.", c.Request.URL.Path, c.Request.Method)
	})
	return e
}

// count keeps the server from ending under a request.
func (s *Server) count(c *gin.Context) {
	if !s.begin(peerOf(c)) {
		c.Header("Connection", "close")
		fail(c, http.StatusServiceUnavailable, "The master is ending.")
	}
}

// recover turns a panic into an answer: no question may end the service.
func (s *Server) recover(c *gin.Context) {
	defer func() {
		if r := recover(); r != nil {
			s.log.Error("the admin API met a bug in masterd; please report it",
				zap.String("path", c.Request.URL.Path), zap.Any("panic", r), zap.ByteString("stack", debug.Stack()))
			if !c.Writer.Written() {
				fail(c, http.StatusInternalServerError, "The question met a bug in masterd; its log says more. The service itself is not affected.")
			}
			c.Abort()
		}
	}()
	c.Next()
}

// only lets those through who may do that much.
func (s *Server) only(want role) gin.HandlerFunc {
	return func(c *gin.Context) { s.allowed(c, want) }
}

// allowed reports whether a peer may do that much. Not allowed: the request was answered.
func (s *Server) allowed(c *gin.Context, want role) bool {
	p, a := peerOf(c), s.access.Load()
	if a.role(p.cred) >= want {
		return true
	}
	s.crowd.count(func(n *Counts) { n.Refused++ })
	// Debug: a stranger could fill the log with anything louder.
	s.log.Debug("refused a request to the admin API", zap.Uint32("uid", p.cred.UID), zap.Int("peer_pid", p.cred.PID), zap.String("path", c.Request.URL.Path))
	fail(c, http.StatusForbidden, "%s", a.refusal(p.cred, want))
	return false
}

// fail answers with a sentence and goes no further.
func fail(c *gin.Context, status int, format string, args ...any) {
	answerProblem(c, &api.Problem{Status: status, Message: fmt.Sprintf(format, args...)})
}

// answerError answers with whatever a backend's error says.
func answerError(c *gin.Context, err error) {
	var p *api.Problem
	if !errors.As(err, &p) {
		p = &api.Problem{Status: http.StatusInternalServerError, Message: err.Error()}
	}
	answerProblem(c, p)
}

func answerProblem(c *gin.Context, p *api.Problem) {
	c.Abort()
	c.PureJSON(p.Status, api.Error{Error: p.Message, Result: p.Result})
}
