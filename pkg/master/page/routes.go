package page

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

const (
	maxBody  = 4 << 10          // bytes of what a page asks for
	maxLines = 1000             // of a worker's output at once
	doWait   = 10 * time.Second // for the outcome of what a page asked for; the page shows what comes later
)

//go:embed assets
var assets embed.FS

// types are those of what is embedded.
var types = map[string]string{
	".html": "text/html; charset=utf-8", ".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8",
}

// policy has the browser run and load what is embedded and nothing else, and show it in no other page.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

// again is all that is said to whoever has no session.
const again = "This page is for those who were let in. Run `masterd page` again, and open the address that it prints."

// answer is all that is answered. Each request passes the checks in this order: the name that it came
// by is the page's own, or a name that leads here would make another page the same origin (DNS
// rebinding); it has a session, or a token that becomes one.
func (t *site) answer(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", policy)
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cache-Control", "no-store")
	if r.Host != t.host && r.Host != "localhost:"+t.port {
		http.Error(w, again, http.StatusForbidden)
		return
	}
	what := r.Method + " " + r.URL.Path
	if token := r.URL.Query().Get("token"); token != "" && what == "GET /" {
		t.enter(w, r, token)
		return
	}
	who := t.session(r)
	switch {
	case who == nil, isData(what) && !same(key(r), who.key):
		http.Error(w, again, http.StatusForbidden)
	case what == "GET /events":
		t.events(w, r, who)
	case what == "GET /logs":
		t.logs(w, r)
	case what == "POST /do":
		t.do(w, r, who)
	case r.Method == http.MethodGet:
		asset(w, r)
	default:
		http.Error(w, "There is no such thing here.", http.StatusMethodNotAllowed)
	}
}

// cookie is the name of the session's. Cookies know no ports: each page has one of its own.
func (t *site) cookie() string { return "masterd-page-" + t.port }

// enter makes a session of a token.
func (t *site) enter(w http.ResponseWriter, r *http.Request, token string) {
	s, ok := t.passes.redeem(token)
	if !ok {
		http.Error(w, again, http.StatusForbidden)
		return
	}
	http.SetCookie(w, &http.Cookie{Name: t.cookie(), Value: s.secret, Path: "/", HttpOnly: true,
		SameSite: http.SameSiteStrictMode})
	http.Redirect(w, r, "/#key="+s.key, http.StatusSeeOther)
}

// isData reports whether more than a session is needed.
func isData(what string) bool {
	return what == "GET /events" || what == "GET /logs" || what == "POST /do"
}

// key is what a page has of its session besides the cookie. A browser sends that to whatever answers
// on another port of the same name, which may be another user's. The key it keeps for this origin
// alone, port and all: it comes in the fragment of an address, which is sent to nobody, and goes back
// in a header, or where the browser sets none, as for a stream, in the query.
func key(r *http.Request) string {
	if k := r.Header.Get("X-Masterd-Page"); k != "" {
		return k
	}
	return r.URL.Query().Get("key")
}

func (t *site) session(r *http.Request) *session {
	c, err := r.Cookie(t.cookie())
	if err != nil {
		return nil
	}
	return t.passes.session(c.Value)
}

// asset answers with a file that is embedded.
func asset(w http.ResponseWriter, r *http.Request) {
	name := strings.TrimPrefix(r.URL.Path, "/")
	if name == "" {
		name = "index.html"
	}
	text, err := assets.ReadFile("assets/" + name)
	kind := types[path.Ext(name)]
	if err != nil || kind == "" {
		http.Error(w, "There is no such thing here.", http.StatusNotFound)
		return
	}
	w.Header().Set("Content-Type", kind)
	_, _ = w.Write(text)
}

// lines are the last of a worker's output.
type lines struct {
	Lines []string `json:"lines"`
}

func (t *site) logs(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	worker, err := strconv.ParseUint(q.Get("worker"), 10, 64)
	n, bad := strconv.ParseUint(q.Get("lines"), 10, 16)
	if err != nil || bad != nil {
		http.Error(w, "Ask for /logs?worker=NUMBER&lines=NUMBER.", http.StatusBadRequest)
		return
	}
	said := lines{[]string{}}
	for _, l := range t.s.o.Source.Lines(worker, int(min(n, maxLines))) {
		said.Lines = append(said.Lines, l.Text)
	}
	answerJSON(w, http.StatusOK, said)
}

// deed is what a page asks for.
type deed struct {
	Do  string `json:"do"`
	All bool   `json:"all"`
	Why string `json:"why"`
}

// done is what became of it.
type done struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason"`
}

// do changes something in the name of the session's person. No other page can have a browser ask for
// it: it would have another origin, and cannot send the header without asking first.
func (t *site) do(w http.ResponseWriter, r *http.Request, who *session) {
	refuse := func(status int, why string) { answerJSON(w, status, done{Reason: why}) }
	switch {
	case r.Header.Get("X-Masterd-Page") == "" || r.Header.Get("Origin") != "http://"+r.Host:
		refuse(http.StatusForbidden, "Only the page itself may ask for this.")
		return
	case !who.act:
		refuse(http.StatusForbidden, "This page is for looking. `masterd page --act` opens one that may change things.")
		return
	}
	rc := http.NewResponseController(w)
	_ = rc.SetReadDeadline(time.Now().Add(headerTimeout))
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	_ = rc.SetReadDeadline(time.Time{})
	var what deed
	if err == nil {
		err = json.Unmarshal(body, &what)
	}
	if err != nil {
		refuse(http.StatusBadRequest, "What the page asks for cannot be read.")
		return
	}
	events, err := who.person.Act(what.Do, what.All, what.Why)
	if p := (*api.Problem)(nil); errors.As(err, &p) {
		refuse(p.Status, p.Message)
		return
	} else if err != nil {
		refuse(http.StatusInternalServerError, err.Error())
		return
	}
	answerJSON(w, http.StatusOK, outcome(r.Context(), events))
}

// outcome waits for what became of a deed, for a while.
func outcome(ctx context.Context, events <-chan api.Event) done {
	late := time.NewTimer(doWait)
	defer late.Stop()
	for {
		select {
		case ev, more := <-events:
			switch {
			case !more:
				return done{Reason: "The master is ending; what became of it is not known."}
			case ev.Outcome != nil:
				o := ev.Outcome
				return done{o.Result == api.ResultDone || o.Result == api.ResultAccepted, o.Reason}
			}
		case <-late.C:
			return done{true, "It is under way."}
		case <-ctx.Done():
			return done{}
		}
	}
}

func answerJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v)
}
