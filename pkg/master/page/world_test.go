package page

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/pkg/master/recent"
)

const address = "127.0.0.1:4711"

// pipes is a listener without a network, so that a bubble's clock goes on.
type pipes struct {
	come   chan net.Conn
	closed chan struct{}
	close  func()
}

type name string

func (n name) Network() string { return "tcp" }
func (n name) String() string  { return string(n) }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.come:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}
func (p *pipes) Addr() net.Addr { return name(address) }
func (p *pipes) Close() error   { p.close(); return nil }

// person may what a test says.
type person struct {
	mu           sync.Mutex
	look, change bool
	asked        []string
	result       func() (<-chan api.Event, error)
}

func (p *person) May() (bool, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.look, p.change
}

func (p *person) set(look, change bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.look, p.change = look, change
}

func (p *person) Act(do string, all bool, why string) (<-chan api.Event, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if all {
		do += " all"
	}
	p.asked = append(p.asked, do+": "+why)
	return p.result()
}

func (p *person) has() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.asked)
}

func ended(o api.Outcome) func() (<-chan api.Event, error) {
	return func() (<-chan api.Event, error) {
		c := make(chan api.Event, 2)
		c <- api.Event{Stage: &api.Stage{Stage: "serving"}}
		c <- api.Event{Outcome: &o}
		close(c)
		return c, nil
	}
}

// world is what there is to see, and a server that shows it.
type world struct {
	*Server
	t  *testing.T
	ln *pipes // the last that was opened

	mu      sync.Mutex
	refuse  error // why no address is to be had
	status  api.Status
	looks   int
	bug     bool // in what makes the status
	points  []recent.Point
	entries []api.Entry
	more    chan struct{}
	alice   *person           // may everything
	keys    map[string]string // of sessions, by their cookies
}

// begin plays a test on the clock of a bubble.
func begin(t *testing.T, configured string, play func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{t: t, more: make(chan struct{}), keys: map[string]string{}, status: api.Status{Service: "shop", State: "serving"},
			alice: &person{look: true, change: true, result: ended(api.Outcome{Result: api.ResultDone})}}
		w.Server = New(Options{Address: configured, Version: "1.2.3", Log: zap.NewNop(), Listen: w.listen, Source: Source{
			Status: w.now, Recent: w.recent, History: func(n int) Reader { return w.reader(n) },
			Lines: func(worker uint64, n int) []api.LogLine {
				return []api.LogLine{{Worker: worker, Text: "one"}, {Worker: worker, Text: "two"}}[:min(n, 2)]
			},
		}})
		defer w.Close()
		w.Keep()
		play(w)
	})
}

func (w *world) listen(at string) (net.Listener, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at != anyPort && at != address {
		w.t.Errorf("%s is listened on", at)
	}
	if w.refuse != nil {
		return nil, w.refuse
	}
	p := &pipes{come: make(chan net.Conn), closed: make(chan struct{})}
	p.close = sync.OnceFunc(func() { close(p.closed) })
	w.ln = p
	return p, nil
}

func (w *world) now() api.Status {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.looks++
	if w.bug {
		panic("a bug")
	}
	st := w.status
	st.Now = time.Now()
	st.Generations = slices.Clone(st.Generations)
	for i := range st.Generations {
		st.Generations[i].Workers = slices.Clone(st.Generations[i].Workers)
	}
	return st
}

func (w *world) recent(since time.Time) (points []recent.Point) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.points {
		if p.At.After(since) {
			points = append(points, p)
		}
	}
	return points
}

// change does so to what there is to see.
func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

func (w *world) happens(e api.Entry) {
	w.change(func() {
		w.entries = append(w.entries, e)
		close(w.more)
		w.more = make(chan struct{})
	})
}

type reader struct {
	w  *world
	at int
}

func (w *world) reader(n int) *reader {
	w.mu.Lock()
	defer w.mu.Unlock()
	return &reader{w, max(0, len(w.entries)-n)}
}

func (r *reader) Next() ([]api.Entry, <-chan struct{}) {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	all := r.w.entries[r.at:]
	r.at = len(r.w.entries)
	return slices.Clone(all), r.w.more
}

// dial comes as a browser does.
func (w *world) dial() net.Conn {
	w.t.Helper()
	mine, its := net.Pipe()
	select {
	case w.ln.come <- its:
	case <-w.ln.closed:
		its.Close()
	}
	return mine
}

// ask is one request on a connection of its own.
func (w *world) ask(method, path, cookie, body string, headers ...string) (*http.Response, string) {
	w.t.Helper()
	resp := w.open(method, path, cookie, body, headers...)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	return resp, string(text)
}

type closes struct {
	io.ReadCloser
	conn net.Conn
}

// Close closes the connection first: a body that is closed reads what is left of it.
func (c closes) Close() error { return errors.Join(c.conn.Close(), c.ReadCloser.Close()) }

// open is the same, with a body that is yet to be read.
func (w *world) open(method, path, cookie, body string, headers ...string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+address+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if cookie != "" {
		req.Header.Set("Cookie", cookie)
		req.Header.Set(keyHeader, w.keys[cookie])
	}
	for _, h := range headers {
		k, v, _ := strings.Cut(h, ": ")
		if k == "Host" {
			req.Host = v
		} else {
			req.Header.Set(k, v)
		}
	}
	conn := w.dial()
	if err := req.Write(conn); err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		w.t.Fatalf("%s %s: %v", method, path, err)
	}
	resp.Body = closes{resp.Body, conn}
	return resp
}

// token asks for the page as a person.
func (w *world) token(p *person, act bool) string {
	w.t.Helper()
	page, err := w.Open(p, act)
	if err != nil {
		w.t.Fatal(err)
	}
	path, ok := strings.CutPrefix(page.URL, "http://"+address)
	if !ok {
		w.t.Fatalf("the page is at %s", page.URL)
	}
	return path
}

// keyHeader is what a page's key is sent in.
const keyHeader = "X-Masterd-Page"

// enter comes in as a person, and returns the session's cookie. What is asked for with that has the
// session's key, too, unless its headers have another one.
func (w *world) enter(p *person, act bool) (cookie string) {
	w.t.Helper()
	resp, _ := w.ask("GET", w.token(p, act), "", "")
	key, ok := strings.CutPrefix(resp.Header.Get("Location"), "/#key=")
	if resp.StatusCode != http.StatusSeeOther || len(key) < 26 || !ok || len(resp.Cookies()) != 1 {
		w.t.Fatalf("a token is answered %s, %v", resp.Status, resp.Header)
	}
	c := resp.Cookies()[0]
	cookie = c.Name + "=" + c.Value
	w.keys[cookie] = key
	return cookie
}

// event is one of a stream.
type event struct{ kind, data string }

// events are a page that looks.
type events struct {
	w     *world
	body  io.ReadCloser
	lines *bufio.Reader
}

func (w *world) look(cookie string) *events {
	w.t.Helper()
	resp := w.open("GET", "/events", cookie, "")
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		w.t.Fatalf("a stream is answered %s", resp.Status)
	}
	return &events{w, resp.Body, bufio.NewReader(resp.Body)}
}

// next is what comes next; the kind ":" is a heartbeat, "" the end.
func (e *events) next() (ev event) {
	for {
		line, err := e.lines.ReadString('\n')
		if err != nil {
			return event{}
		}
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, ":"):
			ev.kind = ":"
		case line == "":
			return ev
		}
		if v, ok := strings.CutPrefix(line, "event: "); ok {
			ev.kind = v
		}
		if v, ok := strings.CutPrefix(line, "data: "); ok {
			ev.data = v
		}
	}
}

// wants reads on up to an event of a kind, past heartbeats.
func (e *events) wants(kind string) string {
	e.w.t.Helper()
	ev := e.next()
	for ev.kind == ":" {
		ev = e.next()
	}
	if ev.kind != kind {
		e.w.t.Fatalf("%q came, %.200s; want %s", ev.kind, ev.data, kind)
	}
	return ev.data
}

// begins reads what each stream begins with.
func (e *events) begins() {
	e.w.t.Helper()
	for _, kind := range []string{"hello", "status", "recent", "history"} {
		e.wants(kind)
	}
}
