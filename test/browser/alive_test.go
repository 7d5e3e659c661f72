package browser

import (
	"net/http"
	"testing"
	"time"

	"github.com/masterd/masterd/pkg/api"
)

// What is injected does not run, and is heard of: so an empty list of violations elsewhere says
// something.
func TestThePolicyHolds(t *testing.T) {
	t.Parallel()
	b := newTab(t, 1920)
	b.open(play(t, canary(3)).URL)
	b.quiet()
	eval[bool](b, `(() => {
		const script = document.createElement("script");
		script.textContent = "window.ran = 1";
		document.body.append(script);
		const div = document.createElement("div");
		div.innerHTML = "<img src='x:y' onerror='window.ran = 2'><i style='color: red'>";
		document.body.append(div);
		return true;
	})()`)
	b.until(`["script-src-elem", "script-src-attr", "style-src-attr", "img-src"].every((d) => violations.some((v) => v.startsWith(d)))`)
	if eval[bool](b, "window.ran !== undefined") {
		t.Error("an inline script ran")
	}
}

func TestALostConnectionComesBack(t *testing.T) {
	t.Parallel()
	m := play(t, canary(3), "abort")
	b := newTab(t, 360)
	b.open(m.URL)
	m.set(func(m *master) { m.away = true })
	m.cut()
	b.says("#banner", "The connection to the master is lost.")
	b.says("#generations", "Generation 8: v1.3.0")
	b.until(`document.querySelector("#do-abort").disabled`)
	b.clean()
	b.picture("lost-360-light")
	m.set(func(m *master) {
		m.away = false
		m.status = serving()
	})
	b.until(`document.body.dataset.connection === "live" && document.querySelector("#banner").textContent === ""`)
	b.until(`!document.querySelector("#generations").textContent.includes("v1.3.0")`)

	m.set(func(m *master) { m.refuse = http.StatusServiceUnavailable })
	m.cut()
	b.says("#banner", "The master says: no more pages")
	m.set(func(m *master) { m.refuse = 0 })
	b.until(`document.body.dataset.connection === "live"`)
	m.set(func(m *master) { m.refuse = http.StatusForbidden })
	m.cut()
	b.says("#banner", "Run “masterd page” again")
	b.says("#generations", "Generation 7: v1.2.3")
	before := eval[float64](b, "timers")
	b.rest()
	if n := eval[float64](b, "timers") - before; n > 0 {
		t.Errorf("%v timers were set after the session had ended", n)
	}
	b.clean()
}

// rest is a while in which nothing is to happen.
func (b *tab) rest() {
	b.t.Helper()
	eval[bool](b, "window.begun = performance.now(), true")
	b.until("performance.now() - begun > 3000")
}

// A page that lies open costs nothing: no timer, nothing drawn. While a deadline counts down
// there is a timer a second.
func TestAtRestNothingHappens(t *testing.T) {
	t.Parallel()
	m := play(t, canary(3))
	b := newTab(t, 1920)
	b.open(m.URL)
	before := eval[float64](b, "timers")
	b.rest()
	if n := eval[float64](b, "timers") - before; n < 2 || n > 5 {
		t.Errorf("%v timers in three seconds of a countdown", n)
	}
	m.send("status", serving())
	b.says("#rollout-what", "None is on its way.")
	b.until(`(window.was = window.is, window.is = timers, was === is)`)
	eval[bool](b, `(window.drawn = 0, new MutationObserver((all) => window.drawn += all.length)
		.observe(document, {subtree: true, childList: true, attributes: true, characterData: true}), true)`)
	before = eval[float64](b, "timers")
	b.rest()
	if timers, drawn := eval[float64](b, "timers")-before, eval[float64](b, "drawn"); timers > 0 || drawn > 0 {
		t.Errorf("%v timers and %v changes in three seconds of rest", timers, drawn)
	}
	b.quiet()
}

func TestWhatChangesIsDrawnInItsPlace(t *testing.T) {
	t.Parallel()
	m := play(t, canary(3))
	b := newTab(t, 1920)
	b.open(m.URL)
	eval[bool](b, `(() => {
		window.button = document.querySelector('[aria-label="Logs of worker 12"]');
		button.focus();
		getSelection().selectAllChildren(document.querySelector("#rollout-why"));
		return true;
	})()`)
	next := canary(55)
	next.Generations[0].Workers[0].Open = 777
	next.Generations[1].Workers = append(next.Generations[1].Workers, worker(18, "checking", time.Second))
	next.Generations[1].Recent = &api.Recent{Requests: [5]uint64{1: 41_220, 4: 3}, P50MS: 2.48, P99MS: 31}
	next.Rollout.Inconclusive = "rollback"
	m.send("status", next)
	b.says(".workers", "checking")
	b.says(`.generation[data-phase="canary"] .recent`, "41,223 requests in 10 s, 3 errors (5xx), p50 2.5ms, p99 31ms")
	b.says("#rollout-left", "waits for more connections to be judged by")
	b.says("#rollout-left", "without enough it is taken back")
	b.says(`.generation[data-phase="active"] tbody`, "777")
	if !eval[bool](b, `document.activeElement === button && button.isConnected`) {
		t.Error("the focus was lost")
	}
	if got := eval[string](b, "getSelection().toString()"); got != "Why: hotfix of the checkout" {
		t.Errorf("%q is selected", got)
	}
	b.until(`document.querySelector("#curve path.series").getAttribute("d").includes("L")`)
	b.quiet()
}

// A screen reader hears of stages, and not of each number.
func TestStagesAreSaid(t *testing.T) {
	t.Parallel()
	m := play(t, canary(3))
	b := newTab(t, 1920)
	b.open(m.URL)
	b.says("#announcer", "reload to v1.3.0: canary, step 2 of 3, 12.5% of new connections")
	eval[bool](b, `(window.said = [], new MutationObserver(() => said.push(document.querySelector("#announcer").textContent))
		.observe(document.querySelector("#announcer"), {childList: true, characterData: true, subtree: true}), true)`)
	m.send("status", canary(40))
	b.says("#evidence-text", "40.0 of the 100")
	st, e := rolledBack()
	m.send("status", st)
	m.send("entry", e)
	b.says("#announcer", "reload to v1.3.0 was rolled back at stage canary")
	b.says("#rollout-ended", "6 of its 52 connections had one")
	b.says(`#stages [data-is="failed"]`, "canary")
	b.says("#failures", "rolled back")
	b.says("#marks", "v1.3.0: was rolled back")
	if said := eval[[]string](b, "said"); len(said) != 1 {
		t.Errorf("it was said: %q", said)
	}
	b.quiet()
}

func TestAFailureShowsItsLastLines(t *testing.T) {
	t.Parallel()
	st, all := crashLoop()
	m := play(t, st)
	m.set(func(m *master) {
		m.history = all
		m.logs["21"] = []string{"panic: runtime error", "<script>window.ran=1</script>"}
	})
	b := newTab(t, 360)
	b.open(m.URL)
	b.click("#failures details summary")
	b.says("#failures pre", "panic: runtime error\n<script>window.ran=1</script>")
	b.clean()
	b.picture("failure-360-light")
	m.send("entry", api.Entry{At: time.Now(), What: "crash", Outcome: "failed", Worker: 22, Reason: "Worker 22 ended.", N: 120})
	b.says("#failures li:first-child", "Worker 22 ended.")
	b.until(`document.querySelector("#failures details[open] pre").textContent.includes("panic")`) // stays open
	b.quiet()
}
