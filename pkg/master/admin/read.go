package admin

import (
	"context"
	"net/http"
	"strconv"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/api"
)

func (s *Server) status(c *gin.Context) {
	st := s.o.Backend.Status()
	st.Listeners, st.Generations = notNil(st.Listeners), notNil(st.Generations)
	c.PureJSON(http.StatusOK, st)
}

func (s *Server) versions(c *gin.Context) {
	c.PureJSON(http.StatusOK, api.Versions{Schema: api.Schema, Versions: notNil(s.o.Backend.Versions())})
}

func (s *Server) diffVersions(c *gin.Context) {
	a, b := c.Query("a"), c.Query("b")
	if a == "" || b == "" {
		fail(c, http.StatusBadRequest, "A comparison needs two versions: /v1/versions/diff?a=VERSION&b=VERSION.")
		return
	}
	lines, err := s.o.Backend.DiffVersions(a, b)
	if err != nil {
		answerError(c, err)
		return
	}
	c.PureJSON(http.StatusOK, api.Diff{Lines: notNil(lines)})
}

func (s *Server) history(c *gin.Context) {
	n, ok := number(c, "n", api.DefaultHistory, 1, api.MaxHistory)
	if !ok {
		return
	}
	h := s.o.Backend.History(int(n))
	h.Schema, h.Entries = api.Schema, notNil(h.Entries)
	c.PureJSON(http.StatusOK, h)
}

// events streams entries of the history, oldest first.
func (s *Server) events(c *gin.Context) {
	n, ok := number(c, "n", api.DefaultHistory, 0, api.MaxHistory)
	if !ok {
		return
	}
	since, ok := number(c, "since", 0, 0, 1<<63-1)
	if !ok {
		return
	}
	follow, ok := yes(c, "follow")
	if !ok {
		return
	}
	after := &since
	if c.Query("since") == "" {
		after = nil
	}
	ctx, cancel := context.WithCancel(c.Request.Context())
	defer cancel()
	stream(c, s.o.Backend.Events(ctx, after, int(n), follow), s.ending)
}

// logs streams lines until there are no more, or for as long as the reader
// wants more and the server lives.
func (s *Server) logs(c *gin.Context) {
	worker, ok := number(c, "worker", 0, 0, 1<<63-1)
	if !ok {
		return
	}
	n, ok := number(c, "n", api.DefaultLogLines, 0, api.MaxLogLines)
	if !ok {
		return
	}
	follow, ok := yes(c, "follow")
	if !ok {
		return
	}
	ctx, cancel := context.WithCancel(c.Request.Context())
	defer cancel()
	lines, err := s.o.Backend.Logs(ctx, peerOf(c).cred.UID, worker, int(n), follow)
	if err != nil {
		answerError(c, err)
		return
	}
	stream(c, lines, s.ending)
}

func (s *Server) openAPI(c *gin.Context) {
	c.Data(http.StatusOK, "application/yaml", []byte(api.OpenAPI()))
}

// number reads a number from the query. Not ok: the request was answered.
func number(c *gin.Context, name string, fallback, least, most uint64) (n uint64, ok bool) {
	q := c.Query(name)
	if q == "" {
		return fallback, true
	}
	n, err := strconv.ParseUint(q, 10, 64)
	if err != nil || n < least || n > most {
		fail(c, http.StatusBadRequest, "%s is %q; it can be a number from %d to %d.", name, q, least, most)
		return 0, false
	}
	return n, true
}

// yes reads true or false, which it is without, from the query. Not ok: the request was
// answered.
func yes(c *gin.Context, name string) (is, ok bool) {
	q := c.Query(name)
	if q == "" {
		return false, true
	}
	is, err := strconv.ParseBool(q)
	if err != nil {
		fail(c, http.StatusBadRequest, "%s is %q; it can be true or false.", name, q)
		return false, false
	}
	return is, true
}

// notNil makes an empty list of none: null is nobody's idea of a list.
func notNil[T any](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
