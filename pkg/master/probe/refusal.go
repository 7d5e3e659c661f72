package probe

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
)

// RefusedError is an answer that does not say how the worker is: it refuses what was asked
// of it, and whoever has written the configuration has to ask for something else.
type RefusedError struct {
	text    string
	refusal string // without what differs from answer to answer
	Itself  bool   // a redirect to the same path in another form: no start of a program ends that
}

func (e *RefusedError) Error() string { return e.text }

// Refusal is the answer in the same words each time, and the key to set.
func (e *RefusedError) Refusal() string { return e.refusal }

// refusedBy is the error of an answer that did not pass, and was described as text; nil: it
// may be another one as the worker comes up, or recovers.
func (r *request) refusedBy(a answer, text string) error {
	said := strings.TrimSpace(fmt.Sprintf("%s %s: %d %s", r.method, r.path, a.status, http.StatusText(a.status)))
	e := &RefusedError{text: text}
	switch s := a.status; {
	case s == http.StatusNotModified, s < 300, s > 499,
		s == http.StatusRequestTimeout, s == http.StatusTooEarly, s == http.StatusTooManyRequests:
		return nil
	case s < 400:
		said += " (to " + oneLine(a.location) + ")"
		e.Itself = r.sameIn(a.location)
		e.refusal = said + "; set health.http.path to one that it answers by itself, or tell it of TLS in front of it (health.http.headers)"
	case s == http.StatusUnauthorized, s == http.StatusForbidden:
		e.refusal = said + "; set health.http.path to one that is open to all, or health.http.headers"
	case s == http.StatusMethodNotAllowed:
		e.refusal = said + "; set health.http.method"
	case s == http.StatusBadRequest && strings.Contains(string(a.body), "HTTPS"):
		e.refusal = said + "; it speaks TLS there: set health.http.scheme to https"
	case s == http.StatusBadRequest, s == http.StatusMisdirectedRequest:
		e.refusal = said + "; set health.http.host to a name that it knows"
	default:
		e.refusal = said + "; set health.http.path to one that it answers, or health.http.status to what it answers when it is well"
	}
	return e
}

// sameIn reports whether a redirect leads to the path that was asked for, with another
// scheme, host or slash at its end.
func (r *request) sameIn(location string) bool {
	to, err := url.Parse(location)
	if err != nil || to.Path == "" {
		return false
	}
	path, _, _ := strings.Cut(r.path, "?")
	return strings.TrimSuffix(to.Path, "/") == strings.TrimSuffix(path, "/")
}
