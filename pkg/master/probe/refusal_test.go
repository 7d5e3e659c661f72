package probe

import (
	"errors"
	"strings"
	"testing"
)

// A refusal names the key to set, in the same words each time; what a worker may answer
// while it comes up, or while it is ill, is none.
func TestRefusals(t *testing.T) {
	h := httpCheck()
	h.Path = "/healthz?full=1"
	r := newRequest(h, "GET", h.Path)
	for _, c := range []struct {
		a      answer
		says   string // empty: it is no refusal
		itself bool
	}{
		{a: answer{status: 404, body: []byte("404 page not found")}, says: "404 Not Found; set health.http.path to one that it answers"},
		{a: answer{status: 410}, says: "410 Gone; set health.http.path"},
		{a: answer{status: 401}, says: "health.http.headers"},
		{a: answer{status: 403}, says: "health.http.headers"},
		{a: answer{status: 405}, says: "405 Method Not Allowed; set health.http.method"},
		{a: answer{status: 400, body: []byte("Client sent an HTTP request to an HTTPS server.")}, says: "set health.http.scheme to https"},
		{a: answer{status: 400, body: []byte("Bad Request")}, says: "set health.http.host"},
		{a: answer{status: 421}, says: "set health.http.host"},
		{a: answer{status: 302, location: "/login"}, says: "302 Found (to /login); set health.http.path"},
		{a: answer{status: 301, location: "https://shop.example/healthz?full=1"}, says: "health.http.headers", itself: true},
		{a: answer{status: 308, location: "/healthz/"}, says: "health.http.path", itself: true},
		{a: answer{status: 302, location: "https://shop.example"}, says: "health.http.path"},
		{a: answer{status: 302, location: "::"}, says: "health.http.path"},
		{a: answer{status: 304}}, {a: answer{status: 408}}, {a: answer{status: 425}}, {a: answer{status: 429}},
		{a: answer{status: 204}}, {a: answer{status: 500}}, {a: answer{status: 503}}, {a: answer{status: 999}},
	} {
		err := r.refusedBy(c.a, "as it was")
		no, is := errors.AsType[*RefusedError](err)
		if is != (c.says != "") {
			t.Errorf("%d: %v", c.a.status, err)
		}
		if is && (!strings.Contains(no.Refusal(), c.says) || no.Itself != c.itself || err.Error() != "as it was") {
			t.Errorf("%d: %q, itself %v, %q", c.a.status, no.Refusal(), no.Itself, err)
		}
	}
}

// What differs from answer to answer is not in the refusal.
func TestARefusalIsTheSameEachTime(t *testing.T) {
	addr := serve(t, "http")
	h := httpCheck()
	h.Path = "/missing"
	no, is := errors.AsType[*RefusedError](check(t, h, addr))
	if !is || no.Refusal() != "GET /missing: 404 Not Found; set health.http.path to one that it answers, "+
		"or health.http.status to what it answers when it is well" {
		t.Errorf("%v", no)
	}
}
