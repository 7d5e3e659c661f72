package admin

import (
	"net/http"

	"github.com/gin-gonic/gin"
	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/ipc"
)

// Person is who has asked for a page, as the kernel names them. Later requests that come by another
// way than the socket are made in their name.
type Person struct {
	s    *Server
	cred ipc.Cred
	by   string
}

// May says what the person may do now, by the groups that are configured.
func (p *Person) May() (look, change bool) {
	r := p.s.access.Load().role(p.cred)
	return r >= reader, r >= operator
}

// Act asks for one of the changes that are made with a click, as the route of its name would: all is
// of a promotion alone. An error is as a [Backend]'s.
func (p *Person) Act(do string, all bool, why string) (<-chan api.Event, error) {
	if a := p.s.access.Load(); a.role(p.cred) < operator {
		p.s.crowd.count(func(n *Counts) { n.Refused++ })
		return nil, &api.Problem{Status: http.StatusForbidden, Message: a.refusal(p.cred, operator)}
	}
	b, reason := p.s.o.Backend, api.ReasonRequest{Reason: why}
	switch do {
	case "promote":
		return beginChange(p, do, b.Promote, api.PromoteRequest{All: all, Reason: why}, tooLong(why))
	case "rollback":
		return beginChange(p, do, b.Rollback, api.RollbackRequest{Reason: why}, tooLong(why))
	case "abort":
		return beginChange(p, do, b.Abort, reason, tooLong(why))
	case "hold":
		return beginChange(p, do, b.Hold, reason, wrongHold(reason))
	}
	return nil, &api.Problem{Status: http.StatusBadRequest, Message: "Of changes there are promote, abort, rollback and hold."}
}

func (s *Server) person(c *gin.Context) *Person {
	cred := peerOf(c).cred
	return &Person{s, cred, by(cred, c.GetHeader(api.SudoHeader))}
}

// page opens the page for who asks. To act from there is for those who may act here.
func (s *Server) page(c *gin.Context) {
	var r api.PageRequest
	if !s.decode(c, &r) {
		return
	}
	if r.Act && !s.allowed(c, operator) {
		return
	}
	p := s.person(c)
	p.begun("page")
	page, err := s.o.Page(p, r.Act)
	if err != nil {
		answerError(c, err)
		return
	}
	c.PureJSON(http.StatusOK, page)
}

func (p *Person) begun(what string) {
	p.s.log.Info("asked through the admin API", zap.String("what", what), zap.String("by", p.by),
		zap.Int("peer_pid", p.cred.PID))
}
