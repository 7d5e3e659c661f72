package browser

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"sync"
	"testing"

	"github.com/masterd/masterd/pkg/api"
)

const (
	assets = "../../pkg/master/page/assets"
	policy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
		"frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
	backlog = 256 // events that one page may be behind
)

// master is one that is played: it says what a test has it say.
type master struct {
	URL string

	mu      sync.Mutex
	may     []string
	status  any
	recent  recent
	history []api.Entry
	refuse  int  // with this status
	away    bool // nobody is there
	answer  answer
	posts   []asked
	logs    map[string][]string
	pages   map[chan event]func() // who listens, and how each is cut off
}

type event struct {
	kind string
	data any
}

type point struct {
	At       string    `json:"at"`
	Requests [5]uint64 `json:"requests"`
	P50      float64   `json:"p50_ms"`
	P99      float64   `json:"p99_ms"`
}

type recent struct {
	Step   int     `json:"step_s"`
	Points []point `json:"points"`
}

// asked is what came to /do.
type asked struct {
	Do     string `json:"do"`
	All    bool   `json:"all"`
	Why    string `json:"why"`
	header string
}

type answer struct {
	OK     bool   `json:"ok"`
	Reason string `json:"reason"`
}

func play(t *testing.T, status any, may ...string) *master {
	t.Helper()
	m := &master{status: status, may: may, recent: lastHour(), answer: answer{OK: true, Reason: "generation 8 has it"},
		logs: map[string][]string{}, pages: map[chan event]func(){}}
	mux := http.NewServeMux()
	mux.Handle("GET /", http.FileServer(http.Dir(assets)))
	mux.HandleFunc("GET /events", m.events)
	mux.HandleFunc("GET /logs", m.lines)
	mux.HandleFunc("POST /do", m.do)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-store")
		m.mu.Lock()
		away := m.away
		m.mu.Unlock()
		if away {
			panic(http.ErrAbortHandler)
		}
		mux.ServeHTTP(w, r)
	}))
	m.URL = server.URL + "/#key=1" // as a master leads there
	t.Cleanup(func() {
		m.cut()
		server.Close()
	})
	return m
}

func (m *master) events(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	if m.refuse != 0 {
		http.Error(w, "no more pages", m.refuse)
		m.mu.Unlock()
		return
	}
	ch, gone := make(chan event, backlog), make(chan struct{})
	var once sync.Once
	m.pages[ch] = func() { once.Do(func() { close(gone) }) }
	first := []event{{"hello", map[string]any{"may": append([]string{}, m.may...), "version": "v1.0.0"}}, {"status", m.status},
		{"recent", m.recent}, {"history", append([]api.Entry{}, m.history...)}}
	m.mu.Unlock()
	defer func() {
		m.mu.Lock()
		delete(m.pages, ch)
		m.mu.Unlock()
	}()
	w.Header().Set("Content-Type", "text/event-stream")
	for _, e := range first {
		write(w, e)
	}
	for {
		select {
		case e := <-ch:
			write(w, e)
		case <-gone:
			panic(http.ErrAbortHandler) // as a master that dies
		case <-r.Context().Done():
			return
		}
	}
}

func write(w http.ResponseWriter, e event) {
	b, err := json.Marshal(e.data)
	if err != nil {
		panic(err)
	}
	fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.kind, b)
	w.(http.Flusher).Flush()
}

func (m *master) lines(w http.ResponseWriter, r *http.Request) {
	most, err := strconv.Atoi(r.FormValue("lines"))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	m.mu.Lock()
	lines := append([]string{}, m.logs[r.FormValue("worker")]...)
	m.mu.Unlock()
	_ = json.NewEncoder(w).Encode(map[string]any{"lines": lines[max(len(lines)-most, 0):]})
}

func (m *master) do(w http.ResponseWriter, r *http.Request) {
	var a asked
	b, err := io.ReadAll(r.Body)
	if err == nil {
		err = json.Unmarshal(b, &a)
	}
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	a.header = r.Header.Get("X-Masterd-Page")
	m.mu.Lock()
	m.posts = append(m.posts, a)
	answer := m.answer
	m.mu.Unlock()
	_ = json.NewEncoder(w).Encode(answer)
}

// send has all pages hear something.
func (m *master) send(kind string, data any) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch kind {
	case "status":
		m.status = data
	case "entry":
		m.history = append([]api.Entry{data.(api.Entry)}, m.history...)
	}
	for ch := range m.pages {
		ch <- event{kind, data}
	}
}

// asked is what was posted so far.
func (m *master) asked() []asked {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]asked{}, m.posts...)
}

// set changes what is played.
func (m *master) set(change func(m *master)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	change(m)
}

// cut ends all connections.
func (m *master) cut() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, end := range m.pages {
		end()
	}
}
