package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// serve answers on a Unix socket until the test ends, and returns a client.
func serve(t *testing.T, h http.HandlerFunc) *Client {
	t.Helper()
	path := socket(t)
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	done := make(chan struct{})
	go func() { defer close(done); srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done })
	return NewClient(path, "")
}

// socket is a path short enough for a socket, in a directory of the test's.
func socket(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "api")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "admin.sock")
}

func wantFault(t *testing.T, err error, kind FaultKind, text string) {
	t.Helper()
	var f *Fault
	if !errors.As(err, &f) || f.Kind != kind {
		t.Fatalf("got %v (%T), want a fault of kind %d", err, err, kind)
	}
	if !strings.Contains(err.Error(), text) {
		t.Errorf("the error is %q, want something with %q", err, text)
	}
}

func TestNobodyListens(t *testing.T) {
	path := socket(t)
	_, err := NewClient(path, "").Status(t.Context())
	wantFault(t, err, NoMaster, "no master is running behind "+path)

	// A socket that a dead master left behind is no master either.
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	wantFault(t, NewClient(path, "").Alive(t.Context()), NoMaster, "no master")
	_, err = NewClient(path, "").Reload(t.Context(), ReloadRequest{}, nil)
	wantFault(t, err, NoMaster, "no master")
}

func TestPathThatNoSocketCanHave(t *testing.T) {
	_, err := NewClient("/"+strings.Repeat("x", 200), "").Status(t.Context())
	wantFault(t, err, Unreachable, "cannot connect to /xxx")
}

func TestStream(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		var req ReloadRequest
		if err := json.NewDecoder(r.Body).Decode(&req); err != nil || r.Method != "POST" || r.URL.Path != "/v1/reload" || req.Label != "v2" {
			t.Errorf("asked %s %s %+v, %v", r.Method, r.URL.Path, req, err)
		}
		fmt.Fprintln(w, `{"stage":{"stage":"start","unheard_of":1}}`)
		fmt.Fprintln(w, `{}`)
		fmt.Fprintln(w, `{"stage":{"stage":"check"}}`)
		fmt.Fprintln(w, `{"outcome":{"result":"done","generation":7}}`)
	})
	var stages []string
	o, err := c.Reload(t.Context(), ReloadRequest{Label: "v2"}, func(s Stage) { stages = append(stages, s.Stage) })
	if err != nil || o.Generation != 7 || strings.Join(stages, " ") != "start check" {
		t.Errorf("got %+v, %v after %v", o, err, stages)
	}
}

func TestStreamThatBreaks(t *testing.T) {
	for name, end := range map[string]func(http.ResponseWriter){
		"ends without an outcome": func(http.ResponseWriter) {},
		"is cut": func(w http.ResponseWriter) {
			c, _, err := http.NewResponseController(w).Hijack()
			if err == nil {
				c.Close()
			}
		},
		"is garbage": func(w http.ResponseWriter) { fmt.Fprint(w, "\x00\x01 what?") },
	} {
		t.Run(name, func(t *testing.T) {
			c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				fmt.Fprintln(w, `{"stage":{"stage":"start"}}`)
				http.NewResponseController(w).Flush()
				end(w)
			})
			_, err := c.Rollback(t.Context(), RollbackRequest{}, nil)
			wantFault(t, err, Broken, "broke")
		})
	}
}

func TestNoAnswerAtAll(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			c.Close()
		}
	})
	_, err := c.Stop(t.Context(), StopRequest{}, nil)
	wantFault(t, err, Broken, "broke")
}

func TestImpatience(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	why := errors.New("enough")
	ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Millisecond, why)
	defer cancel()
	_, err := c.Reload(ctx, ReloadRequest{}, nil)
	wantFault(t, err, Expired, "enough")
	if !errors.Is(err, why) {
		t.Errorf("%v does not wrap its cause", err)
	}
}

func TestRefusal(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(409)
		if r.URL.Path == "/v1/hold" {
			fmt.Fprint(w, "<html>who are you?")
			return
		}
		fmt.Fprint(w, `{"error":"Not now.","result":"held"}`)
	})
	_, err := c.Reload(t.Context(), ReloadRequest{}, nil)
	var p *Problem
	if !errors.As(err, &p) || p.Status != 409 || p.Message != "Not now." || p.Result != ResultHeld {
		t.Errorf("got %+v", err)
	}
	_, err = c.Hold(t.Context(), ReasonRequest{}, nil)
	if !errors.As(err, &p) || !strings.Contains(p.Message, "is it a masterd?") {
		t.Errorf("got %v", err)
	}
}

func TestReferencesAreEscaped(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got, want := r.URL.EscapedPath(), "/v1/versions/feature%2Fx%3F%20y/pin"; got != want {
			t.Errorf("asked for %s, want %s", got, want)
		}
		fmt.Fprint(w, `{"id":"1"}`)
	})
	if v, err := c.PinVersion(t.Context(), "feature/x? y", true); err != nil || v.ID != "1" {
		t.Errorf("got %+v, %v", v, err)
	}
}

func TestLogs(t *testing.T) {
	c := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if got := r.URL.RawQuery; got != "follow=true&n=5&worker=3" {
			t.Errorf("asked with %s", got)
		}
		fmt.Fprintln(w, `{"text":"a"}`)
		fmt.Fprintln(w, `{"text":"b"}`)
	})
	var got string
	line := func(l LogLine) error { got += l.Text; return nil }
	if err := c.Logs(t.Context(), 3, 5, true, line); err != nil || got != "ab" {
		t.Errorf("got %q, %v", got, err)
	}
	enough := errors.New("enough")
	if err := c.Logs(t.Context(), 3, 5, true, func(LogLine) error { return enough }); err != enough {
		t.Errorf("got %v, want what the function returned", err)
	}
}

func TestDuration(t *testing.T) {
	b, err := json.Marshal(ReloadRequest{Confirm: Duration(10 * time.Minute)})
	if err != nil || string(b) != `{"confirm":"10m0s"}` {
		t.Errorf("got %s, %v", b, err)
	}
	var r ReloadRequest
	if err := json.Unmarshal([]byte(`{"confirm":600}`), &r); err == nil || !strings.Contains(err.Error(), "with a unit") {
		t.Errorf("a bare number: %v", err)
	}
	if err := json.Unmarshal([]byte(`{"confirm":"90s"}`), &r); err != nil || r.Confirm != Duration(90*time.Second) {
		t.Errorf("got %v, %v", r.Confirm, err)
	}
}
