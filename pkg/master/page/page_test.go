package page

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
)

// A token is good once, for two minutes, and only whole.
func TestTokenOnce(t *testing.T) {
	begin(t, "", func(w *world) {
		path := w.token(w.alice, false)
		for _, wrong := range []string{path[:len(path)-1], path + "x", "/?token=x", strings.ToLower(path)} {
			if resp, text := w.ask("GET", wrong, "", ""); resp.StatusCode != 403 || !strings.Contains(text, "masterd page") {
				t.Errorf("%s is answered %s %s", wrong, resp.Status, text)
			}
		}
		resp, _ := w.ask("GET", path, "", "")
		c := resp.Cookies()
		if resp.StatusCode != http.StatusSeeOther || len(c) != 1 || !c[0].HttpOnly || c[0].SameSite != http.SameSiteStrictMode ||
			c[0].Path != "/" || c[0].MaxAge != 0 || !c[0].Expires.IsZero() || len(c[0].Value) < 26 {
			t.Fatalf("it is answered %s with %v", resp.Status, c)
		}
		cookie := c[0].Name + "=" + c[0].Value
		if resp, text := w.ask("GET", path, "", ""); resp.StatusCode != 403 || !strings.Contains(text, "masterd page") {
			t.Errorf("the second time it is answered %s %s", resp.Status, text)
		}
		if resp, _ := w.ask("GET", path, cookie, ""); resp.StatusCode != 403 {
			t.Errorf("the second time, with a session, it is answered %s", resp.Status)
		}
		if resp, text := w.ask("GET", "/", cookie, ""); resp.StatusCode != 200 || !strings.Contains(text, "<html") {
			t.Errorf("the page is answered %s %s", resp.Status, text)
		}
		old := w.token(w.alice, false)
		time.Sleep(tokenLives)
		if resp, _ := w.ask("GET", old, "", ""); resp.StatusCode != 403 {
			t.Errorf("an old token is answered %s", resp.Status)
		}
	})
}

// Nothing is there for those without a session, and all is for who may look.
func TestNoSession(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, false)
		name, secret, _ := strings.Cut(cookie, "=")
		for _, path := range []string{"/", "/app.js", "/index.html", "/events", "/logs?worker=1&lines=2", "/none"} {
			for _, c := range []string{"", name + "=", name + "=" + secret[1:], "masterd-page-1=" + secret, "session=" + secret} {
				if resp, text := w.ask("GET", path, c, ""); resp.StatusCode != 403 || text != again+"\n" {
					t.Errorf("%s with the cookie %q is answered %s %s", path, c, resp.Status, text)
				}
			}
		}
		if resp, _ := w.ask("POST", "/do", "", `{"do":"abort"}`); resp.StatusCode != 403 {
			t.Errorf("POST /do is answered %s", resp.Status)
		}
		for path, code := range map[string]int{"/": 200, "/index.html": 200, "/none": 404, "/../page.go": 404, "/assets/": 404,
			"/logs": 400, "/logs?worker=x&lines=1": 400, "/logs?worker=1&lines=-1": 400} {
			if resp, _ := w.ask("GET", path, cookie, ""); resp.StatusCode != code {
				t.Errorf("%s is answered %s, not %d", path, resp.Status, code)
			}
		}
		if resp, text := w.ask("GET", "/logs?worker=3&lines=200", cookie, ""); resp.StatusCode != 200 ||
			text != `{"lines":["one","two"]}`+"\n" {
			t.Errorf("lines are answered %s %s", resp.Status, text)
		}
		if resp, _ := w.ask("POST", "/", cookie, ""); resp.StatusCode != 405 {
			t.Errorf("POST / is answered %s", resp.Status)
		}
		w.alice.set(false, false)
		if resp, _ := w.ask("GET", "/", cookie, ""); resp.StatusCode != 403 {
			t.Errorf("who may not look any more is answered %s", resp.Status)
		}
	})
}

// Every answer has the headers, whoever asks for whatever.
func TestPolicyOnAll(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, true)
		for _, c := range []struct{ method, path, cookie string }{
			{"GET", "/", cookie}, {"GET", "/", ""}, {"GET", "/none", cookie}, {"GET", "/?token=x", ""}, {"POST", "/do", cookie},
			{"GET", "/events", cookie}, {"GET", "/logs?worker=1&lines=1", cookie}, {"PUT", "/", cookie}, {"GET", w.token(w.alice, true), ""},
		} {
			resp := w.open(c.method, c.path, c.cookie, "")
			resp.Body.Close()
			h := resp.Header
			if h.Get("Content-Security-Policy") != policy || h.Get("X-Content-Type-Options") != "nosniff" ||
				h.Get("Referrer-Policy") != "no-referrer" || h.Get("Cache-Control") != "no-store" {
				t.Errorf("%s %s is answered %s with %v", c.method, c.path, resp.Status, h)
			}
		}
	})
	for _, want := range []string{"default-src 'none'", "script-src 'self'", "frame-ancestors 'none'"} {
		if !strings.Contains(policy, want) {
			t.Errorf("the policy lacks %s", want)
		}
	}
}

// A name that somebody else has made lead here gets nothing.
func TestOtherHosts(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie, path := w.enter(w.alice, true), w.token(w.alice, true)
		for _, host := range []string{"evil.example:4711", "127.0.0.1", "127.0.0.1:4712", "localhost", "localhost:80",
			"localhost.evil.example:4711", "[::1]:4711"} {
			for _, p := range []string{"/", "/events", path} {
				if resp, _ := w.ask("GET", p, cookie, "", "Host: "+host); resp.StatusCode != 403 || len(resp.Cookies()) > 0 {
					t.Errorf("%s asked for by %s is answered %s", p, host, resp.Status)
				}
			}
		}
		if resp, _ := w.ask("GET", "/", cookie, "", "Host: localhost:4711"); resp.StatusCode != 200 {
			t.Errorf("localhost is answered %s", resp.Status)
		}
	})
}

const own = "Origin: http://" + address

// What is asked for is done in the name of who has asked for the page, if the page itself asks.
func TestDo(t *testing.T) {
	begin(t, "", func(w *world) {
		acts, looks := w.enter(w.alice, true), w.enter(w.alice, false)
		header := keyHeader + ": " + w.keys[acts]
		const body = `{"do":"promote","all":true,"why":"good"}`
		for _, c := range []struct {
			what, cookie, body string
			headers            []string
			code               int
		}{
			{"no origin", acts, body, []string{header}, 403},
			{"another origin", acts, body, []string{header, "Origin: http://evil.example"}, 403},
			{"another port", acts, body, []string{header, "Origin: http://127.0.0.1:80"}, 403},
			{"no origin to speak of", acts, body, []string{header, "Origin: null"}, 403},
			{"https", acts, body, []string{header, "Origin: https://" + address}, 403},
			{"the other name's origin", acts, body, []string{header, "Origin: http://localhost:4711"}, 403},
			{"a page to look at", looks, body, []string{own}, 403},
			{"no session", "", body, []string{header, own}, 403},
			{"no JSON", acts, "promote", []string{header, own}, 400},
			{"too much", acts, `{"why":"` + strings.Repeat("x", maxBody) + `"}`, []string{header, own}, 400},
		} {
			resp, text := w.ask("POST", "/do", c.cookie, c.body, c.headers...)
			if resp.StatusCode != c.code || c.cookie != "" && !strings.HasPrefix(text, `{"ok":false,"reason":"`) {
				t.Errorf("%s: answered %s %s", c.what, resp.Status, text)
			}
		}
		if asked := w.alice.has(); len(asked) > 0 {
			t.Fatalf("%q was asked for", asked)
		}
		for _, c := range []struct {
			result func() (<-chan api.Event, error)
			code   int
			want   string
		}{
			{ended(api.Outcome{Result: api.ResultDone}), 200, `{"ok":true,"reason":""}`},
			{ended(api.Outcome{Result: api.ResultAccepted, Reason: "Later."}), 200, `{"ok":true,"reason":"Later."}`},
			{ended(api.Outcome{Result: api.ResultHeld, Reason: "Held."}), 200, `{"ok":false,"reason":"Held."}`},
			{func() (<-chan api.Event, error) { return nil, &api.Problem{Status: 409, Message: "No."} }, 409, `{"ok":false,"reason":"No."}`},
			{func() (<-chan api.Event, error) { return nil, errors.New("broken") }, 500, `{"ok":false,"reason":"broken"}`},
			{func() (<-chan api.Event, error) { return make(chan api.Event), nil }, 200, `{"ok":true,"reason":"It is under way."}`},
			{func() (<-chan api.Event, error) { c := make(chan api.Event); close(c); return c, nil }, 200,
				`{"ok":false,"reason":"The master is ending; what became of it is not known."}`},
		} {
			w.alice.mu.Lock()
			w.alice.result = c.result
			w.alice.mu.Unlock()
			resp, text := w.ask("POST", "/do", acts, body, header, own)
			if resp.StatusCode != c.code || strings.TrimSpace(text) != c.want {
				t.Errorf("answered %s %s, want %d %s", resp.Status, text, c.code, c.want)
			}
		}
		if asked := w.alice.has(); len(asked) != 7 || slices.ContainsFunc(asked, func(s string) bool { return s != "promote all: good" }) {
			t.Errorf("%q was asked for", asked)
		}
	})
}

// Who has a session's cookie and not its key, as a browser gives away the one, gets nothing of it.
func TestCookieWithoutKey(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie, other := w.enter(w.alice, true), w.enter(w.alice, true)
		for _, key := range []string{"", "1", w.keys[other], w.keys[cookie][1:], cookie} {
			for what, body := range map[string]string{"GET /events": "", "GET /events?key=" + key: "", "GET /logs?worker=3&lines=2": "",
				"GET /logs?worker=3&lines=2&key=" + key: "", "POST /do": `{"do":"abort"}`, "POST /do?key=" + key: `{"do":"abort"}`} {
				method, path, _ := strings.Cut(what, " ")
				if resp, text := w.ask(method, path, cookie, body, own, keyHeader+": "+key); resp.StatusCode != 403 || text != again+"\n" {
					t.Errorf("%s with the key %q is answered %s %s", what, key, resp.Status, text)
				}
			}
		}
		resp := w.open("GET", "/events?key="+w.keys[cookie], cookie, "", keyHeader+": ")
		if resp.Body.Close(); resp.StatusCode != 200 {
			t.Errorf("with its key it is answered %s", resp.Status)
		}
		// What changes something is asked for with a header, which another page has to ask for first.
		if resp, _ := w.ask("POST", "/do?key="+w.keys[cookie], cookie, `{"do":"abort"}`, own, keyHeader+": "); resp.StatusCode != 403 {
			t.Errorf("without a header it is answered %s", resp.Status)
		}
		if asked := w.alice.has(); len(asked) > 0 {
			t.Errorf("%q was asked for", asked)
		}
	})
}

// Who comes last finds a place: the oldest goes, with what it looks at.
func TestSessionsAreBounded(t *testing.T) {
	begin(t, "", func(w *world) {
		first := w.enter(w.alice, false)
		e := w.look(first)
		e.begins()
		second := w.enter(w.alice, false)
		for range maxSessions - 1 {
			w.enter(w.alice, false)
		}
		if ev := e.next(); ev.kind != "" {
			t.Errorf("the oldest session's stream goes on with %v", ev)
		}
		for cookie, code := range map[string]int{first: 403, second: 200} {
			if resp, _ := w.ask("GET", "/", cookie, ""); resp.StatusCode != code {
				t.Errorf("a session is answered %s, not %d", resp.Status, code)
			}
		}
		path := w.token(w.alice, false)
		for range maxTokens {
			w.token(w.alice, false)
		}
		if resp, _ := w.ask("GET", path, "", ""); resp.StatusCode != 403 {
			t.Errorf("the oldest of too many tokens is answered %s", resp.Status)
		}
	})
}

// Twelve hours are enough, for streams, too.
func TestSessionsEnd(t *testing.T) {
	begin(t, address, func(w *world) {
		synctest.Wait()
		cookie := w.enter(w.alice, false)
		e := w.look(cookie)
		begun := time.Now()
		for e.next().kind != "" {
		}
		if took := time.Since(begun); took != sessionLives {
			t.Errorf("a stream ends after %s", took)
		}
		if resp, _ := w.ask("GET", "/", cookie, ""); resp.StatusCode != 403 {
			t.Errorf("an old session is answered %s", resp.Status)
		}
	})
}

// Who may not look any more sees nothing any more.
func TestRightsThatWereTakenAway(t *testing.T) {
	begin(t, "", func(w *world) {
		e := w.look(w.enter(w.alice, false))
		e.begins()
		if ev := e.next(); ev.kind != ":" {
			t.Errorf("at rest %v is told", ev)
		}
		w.alice.set(false, false)
		begun := time.Now()
		if ev := e.next(); ev.kind != "" || time.Since(begun) > heartbeat {
			t.Errorf("after %s %v is told", time.Since(begun), ev)
		}
	})
}

// A page that nobody looks at costs no port.
func TestUnusedPageCloses(t *testing.T) {
	begin(t, "", func(w *world) {
		cookie := w.enter(w.alice, false)
		first := w.ln
		time.Sleep(unused - time.Second)
		w.ask("GET", "/", cookie, "")
		time.Sleep(unused - time.Second)
		e := w.look(cookie)
		e.begins()
		gone := make(chan struct{})
		go func() { // it reads on for hours
			defer close(gone)
			for begun := time.Now(); time.Since(begun) < 3*time.Hour; e.next() {
			}
			e.body.Close()
		}()
		<-gone
		time.Sleep(unused - time.Second)
		select {
		case <-first.closed:
			t.Fatal("it is closed while it was used")
		default:
		}
		time.Sleep(3 * time.Second)
		select {
		case <-first.closed:
		default:
			t.Fatal("it is open when nobody has looked")
		}
		again := w.enter(w.alice, false)
		if w.ln == first {
			t.Fatal("it was not opened again")
		}
		for c, code := range map[string]int{cookie: 403, again: 200} {
			if resp, _ := w.ask("GET", "/", c, ""); resp.StatusCode != code {
				t.Errorf("a session is answered %s, not %d", resp.Status, code)
			}
		}
	})
}

// A configured page stays, and has patience with a port that is another's.
func TestConfiguredPage(t *testing.T) {
	begin(t, address, func(w *world) {
		synctest.Wait()
		time.Sleep(24 * time.Hour)
		w.enter(w.alice, false)
	})
}

func TestConfiguredPortIsTaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, keys: map[string]string{}, refuse: errors.New("bind: address already in use"), alice: &person{look: true}}
		w.Server = New(Options{Address: address, Log: zap.NewNop(), Listen: w.listen})
		w.Keep()
		synctest.Wait()
		_, err := w.Open(w.alice, false)
		if p := (*api.Problem)(nil); !errors.As(err, &p) || p.Status != 503 || !strings.Contains(p.Message, "already in use") {
			t.Errorf("a port that is taken: %v", err)
		}
		w.change(func() { w.refuse = nil })
		time.Sleep(bindAgain)
		synctest.Wait()
		w.enter(w.alice, false)
		w.Close()
		if _, err := w.Open(w.alice, false); err == nil {
			t.Error("a page is opened at the end")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, refuse: errors.New("bind: address already in use")}
		w.Server = New(Options{Address: address, Log: zap.NewNop(), Listen: w.listen})
		w.Keep()
		time.Sleep(time.Minute)
		w.Close() // it never was free
	})
}

// Bad luck with a port is said, and the next who asks may have more.
func TestNoPort(t *testing.T) {
	begin(t, "", func(w *world) {
		w.change(func() { w.refuse = fmt.Errorf("no port") })
		if _, err := w.Open(w.alice, false); err == nil || !strings.Contains(err.Error(), "no port") {
			t.Errorf("%v", err)
		}
		w.change(func() { w.refuse = nil })
		w.enter(w.alice, false)
	})
}
