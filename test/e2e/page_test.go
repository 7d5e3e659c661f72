package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"strings"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
)

// pageEvents are what a page is told: kinds and data, until it ends.
type pageEvents struct {
	t     *testing.T
	lines *bufio.Scanner
}

// openPage comes in by what masterd page prints, and looks.
func openPage(ctx context.Context, t *testing.T, url string) (c *http.Client, base, key string, e *pageEvents) {
	t.Helper()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c = &http.Client{Jar: jar, Transport: &http.Transport{}}
	t.Cleanup(c.CloseIdleConnections)
	base, _, _ = strings.Cut(url, "/?")
	for _, u := range []string{url, base + "/events?key="} {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, u+key, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil || resp.StatusCode != http.StatusOK {
			t.Fatalf("%s: %v, %v", u, resp, err)
		}
		t.Cleanup(func() { resp.Body.Close() })
		if u == url {
			_, key, _ = strings.Cut(resp.Request.URL.Fragment, "key=")
		}
		e = &pageEvents{t, bufio.NewScanner(resp.Body)}
		e.lines.Buffer(nil, 4<<20)
	}
	return c, base, key, e
}

// status waits for one; not there: the stream has ended.
func (e *pageEvents) status(what string, is func(api.Status) bool) bool {
	e.t.Helper()
	kind := ""
	for e.lines.Scan() {
		if v, ok := strings.CutPrefix(e.lines.Text(), "event: "); ok {
			kind = v
		}
		data, ok := strings.CutPrefix(e.lines.Text(), "data: ")
		if !ok || kind != "status" {
			continue
		}
		var st api.Status
		if err := json.Unmarshal([]byte(data), &st); err != nil {
			e.t.Fatalf("waiting for %s: %v: %s", what, err, data)
		}
		if is(st) {
			return true
		}
	}
	return false
}

// A page sees a reload and acts in its person's name. An upgrade cuts it and does not wait for it; the
// next master has the address, and not the session.
func TestLivePage(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	address, err := service.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	s := started(t, func(c service.Config) { c.Set("admin.page", address) })
	enter := func() (*http.Client, string, string, *pageEvents) {
		return openPage(ctx, t, strings.TrimSpace(cli(t, s, 0, "page", "--act")))
	}
	c, base, key, e := enter()
	next(t, s, 2, "serving")
	if !e.status("generation 2", func(st api.Status) bool { return st.Active != nil && st.Active.Generation == 2 }) {
		t.Fatal("the stream has ended before the reload was told")
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/do", strings.NewReader(`{"do":"hold","why":"exams"}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Masterd-Page", key)
	req.Header.Set("Origin", base)
	resp, err := c.Do(req)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("a hold: %v, %v", resp, err)
	}
	resp.Body.Close()
	if !e.status("a hold", func(st api.Status) bool { return st.Hold != nil && st.Hold.Reason == "exams" }) {
		t.Fatal("the stream has ended before the hold was told")
	}
	cli(t, s, 0, "upgrade")
	if e.status("nothing", func(api.Status) bool { return false }) {
		t.Error("the stream goes on")
	}
	eventually(t, "the next master has the page", func() bool {
		resp, err := c.Get(base + "/")
		if err != nil {
			return false
		}
		resp.Body.Close()
		return resp.StatusCode == http.StatusForbidden
	})
	_, _, _, e = enter()
	if !e.status("a hold", func(st api.Status) bool { return st.Hold != nil }) {
		t.Error("the next stream has ended")
	}
}
