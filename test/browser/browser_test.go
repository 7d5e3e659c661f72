package browser

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const (
	patience    = 20 * time.Second      // for a fact on the page
	poll        = 25 * time.Millisecond // after which it is looked for again
	actionLimit = time.Minute           // of one thing that the browser is asked for
)

// chromium is the browser's path. Without it a test skips, but not where CI is promised one.
func chromium(t *testing.T) string {
	t.Helper()
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("there is no chromium, and CI needs one: apt-get install chromium")
	}
	t.Skip("there is no chromium: apt-get install chromium")
	return ""
}

// tab is one page of the browser, and what went wrong there.
type tab struct {
	t     *testing.T
	ctx   context.Context
	width int64

	mu       sync.Mutex
	problems []string // of the console, and uncaught
	network  []string // requests that failed; where a connection is cut they are to be expected
}

// shared is the browser of all tests; each has a tab. It is started by the first that needs it.
var shared struct {
	sync.Mutex
	ctx context.Context
	end func() error
}

func TestMain(m *testing.M) {
	code := m.Run()
	if shared.end != nil {
		if err := shared.end(); err != nil && code == 0 {
			fmt.Fprintln(os.Stderr, "the browser did not end well:", err)
			code = 1
		}
	}
	os.Exit(code)
}

func startBrowser(t *testing.T) context.Context {
	t.Helper()
	path := chromium(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.ctx != nil {
		return shared.ctx
	}
	dir, err := os.MkdirTemp("", "masterd-browser-")
	if err != nil {
		t.Fatal(err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(dir),
		chromedp.NoSandbox, chromedp.DisableGPU, chromedp.WSURLReadTimeout(time.Minute))
	allocator, endAllocator := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, _ := chromedp.NewContext(allocator)
	end := func() error {
		err := chromedp.Cancel(ctx) // waits for the browser to end
		endAllocator()
		return errors.Join(err, os.RemoveAll(dir))
	}
	if err := chromedp.Do(ctx); err != nil {
		t.Fatal("the browser cannot be started:", errors.Join(err, end()))
	}
	shared.ctx, shared.end = ctx, end
	return ctx
}

// newTab opens one that ends with the test, and nothing in it yet.
func newTab(t *testing.T, width int64) *tab {
	t.Helper()
	ctx, endTab := chromedp.NewContext(startBrowser(t))
	b := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Error("the tab:", err)
		}
		endTab()
	})
	if err := chromedp.Listen(ctx, b.listen); err != nil {
		t.Fatal(err)
	}
	// Each tab is as one that somebody looks at.
	call(b, emulation.SetFocusEmulationEnabled, emulation.SetFocusEmulationEnabledParams{Enabled: true})
	call(b, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: `window.violations = []; window.timers = 0;
		window.setTimeout = ((set) => (...a) => { window.timers++; return set(...a); })(window.setTimeout);
		document.addEventListener("securitypolicyviolation", (e) => violations.push(e.violatedDirective + " " + e.blockedURI));`})
	b.size(width)
	return b
}

// listen is called by the goroutine that reads what the browser says.
func (b *tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch e := event.(type) {
	case *runtime.EventExceptionThrown:
		d := e.ExceptionDetails
		text := fmt.Sprintf("%s:%d: %s", d.URL, d.LineNumber+1, d.Text)
		if d.Exception != nil {
			text += " " + d.Exception.Description
		}
		b.problems = append(b.problems, text)
	case *runtime.EventConsoleAPICalled:
		if len(e.Args) > 0 && (e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning) {
			b.problems = append(b.problems, fmt.Sprintf("console.%s: %s", e.Type, e.Args[0].Value))
		}
	case *log.EventEntryAdded:
		switch text := e.Entry.Text + " " + e.Entry.URL; {
		case e.Entry.Source == log.EntrySourceNetwork:
			b.network = append(b.network, text)
		case e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning:
			b.problems = append(b.problems, text)
		}
	}
}

// within gives an action the time that it may take.
func (b *tab) within() (context.Context, context.CancelFunc) {
	return context.WithTimeout(b.ctx, actionLimit)
}

func (b *tab) run(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := b.within()
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func call[P, R any](b *tab, command cdp.Command[P, R], params P) R {
	b.t.Helper()
	ctx, cancel := b.within()
	defer cancel()
	r, err := chromedp.Call(ctx, command, params)
	if err != nil {
		b.t.Fatalf("%s: %v", command.Method, err)
	}
	return r
}

// open goes to an address and waits until the page has the status.
func (b *tab) open(url string) {
	b.t.Helper()
	b.run(chromedp.Navigate(url))
	b.until(`document.body.dataset.connection === "live" && document.title !== "masterd"`)
}

// eval is what an expression is in the page.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := b.within()
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%s: %v", expression, err)
	}
	return value
}

// until waits for something to be so.
func (b *tab) until(expression string) {
	b.t.Helper()
	for begun := time.Now(); !eval[bool](b, "Boolean("+expression+")"); time.Sleep(poll) {
		if time.Since(begun) > patience {
			b.t.Errorf("not so within %v: %s\nThe page says:\n%s", patience, expression, eval[string](b, "document.body.innerText"))
			b.quiet()
			b.t.FailNow()
		}
	}
}

// says waits until an element says something.
func (b *tab) says(selector, words string) {
	b.t.Helper()
	b.until(fmt.Sprintf("document.querySelector(%q)?.textContent.includes(%q)", selector, words))
}

// press presses keys, one after the other.
func (b *tab) press(keys ...string) {
	b.t.Helper()
	for _, key := range keys {
		b.run(chromedp.KeyEvent(key))
	}
}

// tabTo presses Tab until an element has the focus, and sees that it shows.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	for range 200 {
		if eval[bool](b, fmt.Sprintf("document.activeElement?.matches(%q)", selector)) {
			if !eval[bool](b, `getComputedStyle(document.activeElement).outlineStyle !== "none"`) {
				b.t.Errorf("%s has the focus, and nothing shows it", selector)
			}
			return
		}
		b.press(kb.Tab)
	}
	b.t.Fatalf("Tab does not lead to %s", selector)
}

// scheme has the page be looked at by somebody who likes it dark, or light.
func (b *tab) scheme(name string) {
	b.t.Helper()
	call(b, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}}})
}

// size has the window be so wide.
func (b *tab) size(width int64) {
	b.t.Helper()
	b.width = width
	call(b, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: 900, DeviceScaleFactor: 1,
		Mobile: width < 600})
}

// clean looks that nothing went wrong, and that nothing is wider than the window.
func (b *tab) clean() {
	b.t.Helper()
	// A phone zooms out until all fits, and says that it has become wider.
	if wide := eval[[]string](b, fmt.Sprintf(`((width) => document.documentElement.scrollWidth <= width ? [] :
		["scrolls: " + document.documentElement.scrollWidth + " of " + width,
			...[...document.querySelectorAll("body *")].filter((n) => n.getBoundingClientRect().right > width + 1)
				.map((n) => n.tagName + "#" + n.id + "." + n.className)])(%d)`, b.width)); len(wide) > 0 {
		b.t.Errorf("the page scrolls sideways: %q", wide)
	}
	if out := eval[[]string](b, `[...document.querySelectorAll("section")].flatMap((section) =>
		[...section.querySelectorAll("*")].filter((n) => n.checkVisibility() && !n.closest(".unseen, .scroll, pre, svg, option") &&
			n.getBoundingClientRect().right > section.getBoundingClientRect().right)
			.map((n) => n.tagName + "#" + n.id + "." + n.className + " of " + section.id))`); len(out) > 0 {
		b.t.Errorf("these stick out: %q", out)
	}
	if v := eval[[]string](b, "violations"); len(v) > 0 {
		b.t.Errorf("the policy was violated: %q", v)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.problems) > 0 {
		b.t.Errorf("the console says:\n%s", strings.Join(b.problems, "\n"))
	}
}

// quiet looks that no request failed either.
func (b *tab) quiet() {
	b.t.Helper()
	b.clean()
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.network) > 0 {
		b.t.Errorf("requests failed:\n%s", strings.Join(b.network, "\n"))
	}
}

// picture takes one of the whole page, for people, where BROWSER_PICTURES names a directory.
func (b *tab) picture(name string) {
	b.t.Helper()
	dir := os.Getenv("BROWSER_PICTURES")
	if dir == "" {
		return
	}
	ctx, cancel := b.within()
	defer cancel()
	png, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
