package browser

import (
	"context"
	"flag"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp/kb"

	"github.com/masterd/masterd/pkg/api"
	"github.com/masterd/masterd/test/service"
	"github.com/masterd/masterd/test/service/servicetest"
)

var programs = flag.String("programs", "../../bin", "directory with masterd and demo-worker")

// hostileWhy is what somebody who may reload wants to do to those who look.
const hostileWhy = `<img src=x onerror="window.ran=1"><script>window.ran=1</script>`

const (
	stageTime = 60 * time.Second     // for a rollout to come to where a test waits for it
	clients   = 4                    // that ask the demo, each again and again on new connections
	pause     = 5 * time.Millisecond // between two requests of one of them
)

// demo is a real masterd, with a canary of two steps that wait for a person.
func demo(t *testing.T) *service.Service {
	t.Helper()
	dir, err := filepath.Abs(*programs)
	if err != nil {
		t.Fatal(err)
	}
	p := service.Built(dir)
	for _, path := range []string{p.Masterd, p.Demo} {
		if _, err := os.Stat(path); err != nil {
			t.Fatalf("there is no masterd to try: %v; make browser builds it", err)
		}
	}
	s := servicetest.New(t, p)
	s.Config.Set("rollout.canary.steps", []any{map[string]any{"weight": "20%"}, map[string]any{"weight": "60%"}}).
		Set("rollout.analysis", map[string]any{"delay": "0"}).
		Set("worker.processes", 2)
	return s
}

// reload begins one of a version that differs by a variable.
func reload(t *testing.T, s *service.Service, label, key, value string, flags ...string) {
	t.Helper()
	s.Config.Set("worker.env."+key, value)
	if err := s.Write(); err != nil {
		t.Fatal(err)
	}
	if out, code := s.CLI(t.Context(), append([]string{"reload", "--detach", "--label", label}, flags...)...); code != 0 {
		t.Fatalf("reload ended with %d: %s", code, out)
	}
}

func wait(t *testing.T, s *service.Service, what string, ok func(api.Status) bool) {
	t.Helper()
	if err := s.Wait(t.Context(), stageTime, what, ok); err != nil {
		t.Fatal(err)
	}
}

// load asks for as long as the test runs. Errors are what some versions are here for.
func load(t *testing.T, s *service.Service) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		all.Wait()
	})
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	for range clients {
		all.Go(func() {
			for ctx.Err() == nil {
				if r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.Addr+"/ping", nil); err == nil {
					if res, err := client.Do(r); err == nil {
						_ = res.Body.Close()
					}
				}
				select {
				case <-ctx.Done():
				case <-time.After(pause):
				}
			}
		})
	}
}

// address is what `masterd page` prints.
func address(t *testing.T, s *service.Service, flags ...string) string {
	t.Helper()
	out, code := s.CLI(t.Context(), append([]string{"page", "--no-open"}, flags...)...)
	if code != 0 || !strings.HasPrefix(out, "http://127.0.0.1:") {
		t.Fatalf("masterd page ended with %d: %s", code, out)
	}
	return strings.TrimSpace(out)
}

// refused looks that somebody without a session is.
func refused(t *testing.T, url string) {
	t.Helper()
	res, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	if res.StatusCode != http.StatusForbidden {
		t.Errorf("%s was answered %s", strings.Split(url, "?")[0], res.Status)
	}
}

// TestWithARealMaster goes through a night: a canary is promoted, one is taken back by its errors,
// a version crashes, and the master ends.
func TestWithARealMaster(t *testing.T) {
	t.Parallel()
	b := newTab(t, 1920)
	s := demo(t)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	load(t, s)
	url := address(t, s, "--act")
	b.open(url)
	refused(t, url) // once used, to nobody else
	root := strings.Split(url, "?")[0]
	for _, path := range []string{"", "events", "app.js", "logs?worker=1&lines=1"} {
		refused(t, root+path)
	}
	if at := eval[string](b, "location.href"); strings.Contains(at, "token") || strings.Contains(at, "key") {
		t.Errorf("a secret stays in the address: %s", at)
	}
	b.says("#service", "demo")
	b.quiet()

	reload(t, s, "v2", "RELEASE", "v2", "--reason", hostileWhy)
	wait(t, s, "the first step", func(st api.Status) bool {
		return st.Rollout != nil && st.Rollout.Step == 1 && st.Rollout.Stage == "canary"
	})
	b.says("#rollout-left", "Canary, step 1 of 2, 20% of new connections")
	b.says("#rollout-why", "Why: "+hostileWhy)
	b.click("#do-promote")
	b.says("#ask-text", "60% of new connections, step 2 of 2")
	b.click("#ask-confirm")
	b.says("#ask-answer", "Done.")
	b.click("#ask-cancel")
	wait(t, s, "the second step", func(st api.Status) bool { return st.Rollout != nil && st.Rollout.Step == 2 })
	b.says("#rollout-left", "step 2 of 2")
	b.says("#traffic", "Now ")
	b.pictures("real-canary")
	eval[bool](b, `(document.querySelector("#service").focus(), true)`)
	b.tabTo("#do-promote")
	b.press(kb.Enter)
	b.tabTo("#ask-confirm")
	b.press(kb.Enter)
	b.says("#ask-answer", "Done.")
	b.press(kb.Escape)
	wait(t, s, "v2 to be baked", func(st api.Status) bool { return st.Rollout == nil && st.Active.Generation == 2 })
	b.says("#deployment", "generation 2")
	promoted := 0
	h, err := s.API.History(t.Context(), api.MaxHistory)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range h {
		if e.What == "promote" {
			promoted++
		}
	}
	if promoted != 2 {
		t.Errorf("%d promotes are in the history, and there were two", promoted)
	}

	reload(t, s, "v3", "DEMO_FAIL_PERCENT", "60")
	b.says("#rollout-ended", "reload to v3 was rolled back at stage canary")
	b.says("#outcome", "The new version does worse.")
	b.pictures("real-rolled-back")

	reload(t, s, "v4", "DEMO_CRASH_AFTER", "3s", "--skip-canary")
	b.says("#failures", "exit status 3")
	b.pictures("real-crash")
	b.says("#history", "crash")
	if eval[bool](b, `window.ran !== undefined || document.querySelector("main img, header img") !== null`) {
		t.Error("a name was more than a name")
	}
	b.quiet()

	eval[bool](b, `(() => { const s = document.createElement("script"); s.textContent = "window.ran = 1"; document.body.append(s); return true; })()`)
	b.until(`violations.length === 1 && window.ran === undefined`)
	if err := s.Stop(); err != nil {
		t.Error(err)
	}
	b.says("#banner", "The connection to the master is lost.")
}

// Who may look and no more is offered nothing, and cannot do it by hand either.
func TestLookingOnly(t *testing.T) {
	t.Parallel()
	b := newTab(t, 360)
	s := demo(t)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.open(address(t, s))
	if got := b.offered(); len(got) > 0 {
		t.Errorf("%q is offered", got)
	}
	b.quiet()
	eval[bool](b, `(fetch("/do", {method: "POST", headers: {"X-Masterd-Page": localStorage.getItem("masterd-key")}, body: '{"do": "hold", "why": "x"}'})
		.then((r) => window.answered = r.status), true)`)
	b.until(`window.answered === 403`)
	if st, err := s.API.Status(t.Context()); err != nil || st.Hold != nil {
		t.Errorf("it was held all the same: %v, %v", st.Hold, err)
	}
}

// pictures takes one of each kind, and looks that nothing scrolls sideways.
func (b *tab) pictures(name string) {
	b.t.Helper()
	for _, scheme := range []string{"dark", "light"} {
		b.scheme(scheme)
		b.size(360)
		b.clean()
		b.picture(name + "-360-" + scheme)
		b.size(1920)
		b.clean()
		b.picture(name + "-1920-" + scheme)
	}
}
