package admin

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"github.com/gin-gonic/gin"

	"github.com/masterd/masterd/pkg/api"
)

// production is the environment whose services are not stopped by a slip of
// the hand.
const production = "production"

func (s *Server) reload(c *gin.Context) {
	owner := s.access.Load().privileged(peerOf(c).cred)
	ask := func(by string, r api.ReloadRequest) (<-chan api.Event, error) {
		return s.o.Backend.Reload(by, owner, r)
	}
	change(s, c, "reload", ask, func(r api.ReloadRequest) string {
		switch {
		case r.Until != "" && r.Until != "serving" && r.Until != "baked":
			return `until can be "serving" or "baked".`
		case r.Binary != "" && !filepath.IsAbs(r.Binary):
			return "binary has to be an absolute path: the master does not know your directory."
		case r.Confirm < 0:
			return "confirm cannot be negative."
		case r.Canary != "" && r.SkipCanary:
			return "canary gives this reload steps and skip_canary takes them away: send one of them."
		case len(r.Label) > api.MaxLabel:
			return "The label is too long: 64 bytes are the limit."
		}
		return tooLong(r.Reason)
	})
}

func (s *Server) rollback(c *gin.Context) {
	change(s, c, "rollback", s.o.Backend.Rollback, func(r api.RollbackRequest) string { return tooLong(r.Reason) })
}

func (s *Server) promote(c *gin.Context) {
	change(s, c, "promote", s.o.Backend.Promote, func(r api.PromoteRequest) string { return tooLong(r.Reason) })
}

func (s *Server) pause(c *gin.Context) {
	change(s, c, "pause", s.o.Backend.Pause, func(r api.ReasonRequest) string { return tooLong(r.Reason) })
}

func (s *Server) resume(c *gin.Context) {
	change(s, c, "resume", s.o.Backend.Resume, func(r api.ReasonRequest) string { return tooLong(r.Reason) })
}

func (s *Server) abort(c *gin.Context) {
	change(s, c, "abort", s.o.Backend.Abort, func(r api.ReasonRequest) string { return tooLong(r.Reason) })
}

func (s *Server) hold(c *gin.Context) {
	change(s, c, "hold", s.o.Backend.Hold, wrongHold)
}

func wrongHold(r api.ReasonRequest) string {
	if strings.TrimSpace(r.Reason) == "" {
		return "A hold needs a reason: the next one who wants to reload will ask for it."
	}
	return tooLong(r.Reason)
}

func (s *Server) unhold(c *gin.Context) {
	change(s, c, "unhold", s.o.Backend.Unhold, func(r api.ReasonRequest) string { return tooLong(r.Reason) })
}

func (s *Server) scale(c *gin.Context) {
	change(s, c, "scale", s.o.Backend.Scale, func(r api.ScaleRequest) string {
		if r.Processes < 1 {
			return "processes has to be at least 1; POST /v1/stop ends a service."
		}
		if r.Processes > api.MaxProcesses {
			return fmt.Sprintf("processes can be at most %d.", api.MaxProcesses)
		}
		return tooLong(r.Reason)
	})
}

// upgrade runs a program as the master's user: an operator who is not that user
// may not name one.
func (s *Server) upgrade(c *gin.Context) {
	if !s.access.Load().privileged(peerOf(c).cred) {
		fail(c, http.StatusForbidden, "Only root and the master's own user may replace masterd.")
		return
	}
	change(s, c, "upgrade", s.o.Backend.Upgrade, func(r api.UpgradeRequest) string {
		if r.Binary != "" && !filepath.IsAbs(r.Binary) {
			return "binary has to be an absolute path: the master does not know your directory."
		}
		if r.Binary != "" && r.MakeWay {
			return "binary is of a masterd that is to be started, and make_way is for one that runs already."
		}
		return tooLong(r.Reason)
	})
}

func (s *Server) stop(c *gin.Context) {
	var r api.StopRequest
	if !s.decode(c, &r) {
		return
	}
	a := s.access.Load()
	switch {
	case r.Now && r.Patient:
		fail(c, http.StatusBadRequest, "A stop cannot be both now and patient.")
		return
	case r.Confirm != "" && r.Confirm != a.service:
		fail(c, http.StatusConflict, "This is %s, not %s; nothing was stopped.", a.service, r.Confirm)
		return
	case r.Confirm == "" && a.environment == production:
		fail(c, http.StatusConflict, "%s is a production service; say its name to stop it: masterd stop --confirm %s.", a.service, a.service)
		return
	case tooLong(r.Reason) != "":
		fail(c, http.StatusBadRequest, "%s", tooLong(r.Reason))
		return
	}
	events, err := beginChange(s.person(c), "stop", s.o.Backend.Stop, r, "")
	if err != nil {
		answerError(c, err)
		return
	}
	stream(c, events, nil)
}

// pin keeps a version or lets it go.
func (s *Server) pin(on bool) gin.HandlerFunc {
	return func(c *gin.Context) {
		var none struct{}
		if !s.decode(c, &none) {
			return
		}
		p := s.person(c)
		p.begun("pin")
		v, err := s.o.Backend.PinVersion(p.by, c.Param("ref"), on)
		if err != nil {
			answerError(c, err)
			return
		}
		c.PureJSON(http.StatusOK, v)
	}
}

// change is what all changes have in common: a body read strictly and checked,
// a line in the log, and a stream of what comes of it.
func change[R any](s *Server, c *gin.Context, what string, do func(by string, r R) (<-chan api.Event, error), wrong func(R) string) {
	var r R
	if !s.decode(c, &r) {
		return
	}
	events, err := beginChange(s.person(c), what, do, r, wrong(r))
	if err != nil {
		answerError(c, err)
		return
	}
	stream(c, events, nil)
}

// beginChange begins one in a person's name, unless something is wrong with what was asked.
func beginChange[R any](p *Person, what string, do func(by string, r R) (<-chan api.Event, error), r R,
	wrong string) (<-chan api.Event, error) {
	if wrong != "" {
		return nil, &api.Problem{Status: http.StatusBadRequest, Message: wrong}
	}
	p.begun(what)
	return do(p.by, r)
}

func tooLong(reason string) string {
	if len(reason) > api.MaxReason {
		return "The reason is too long: 1024 bytes are the limit."
	}
	return ""
}
