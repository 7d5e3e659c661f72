package browser

import (
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"

	"github.com/masterd/masterd/pkg/api"
)

func (b *tab) click(selector string) {
	b.t.Helper()
	b.run(chromedp.Click(selector, chromedp.NodeVisible))
}

// offered are the buttons that are there.
func (b *tab) offered() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("#actions button")].filter((n) => n.checkVisibility()).map((n) => n.textContent)`)
}

func TestPromoteAsksOnce(t *testing.T) {
	t.Parallel()
	m := play(t, canary(3), "promote", "abort", "rollback", "hold")
	b := newTab(t, 1920)
	b.open(m.URL)
	none := func(after string) {
		t.Helper()
		b.until(`!document.querySelector("#ask").open`)
		if got := m.asked(); len(got) > 0 {
			t.Fatalf("after %s the master was asked for %v", after, got)
		}
	}
	b.click("#do-promote")
	b.says("#ask-text", "v1.3.0 gets 50% of new connections, step 3 of 3.")
	b.picture("dialog-1920-light")
	b.click("#ask-cancel")
	none("Cancel")
	b.click("#do-promote")
	b.until(`document.querySelector("#ask").open`)
	b.press(kb.Escape)
	none("Escape")

	b.click("#do-promote")
	b.run(chromedp.SendKeys("#ask-why", "orders look <b>well</b>", chromedp.NodeVisible))
	// Somebody impatient: a click, another one, and Enter, all before an answer can have come.
	eval[bool](b, `(() => { const c = document.querySelector("#ask-confirm"); c.click(); c.click(); c.form.requestSubmit(); return true; })()`)
	b.says("#ask-answer", "generation 8 has it")
	if eval[bool](b, `document.querySelector("#ask-confirm").checkVisibility()`) {
		t.Error("it can be asked for again in the same dialog")
	}
	b.press(kb.Enter)
	b.click("#ask-cancel")
	b.until(`!document.querySelector("#ask").open`)
	want := []asked{{Do: "promote", Why: "orders look <b>well</b>", header: "1"}}
	if got := m.asked(); !slices.Equal(got, want) {
		t.Errorf("the master was asked for %v, not %v", got, want)
	}

	m.set(func(m *master) { m.answer = answer{Reason: "a newer rollout has taken its place"} })
	b.click("#do-promote-all")
	b.click("#ask-confirm")
	b.says("#ask-answer", "It was refused: a newer rollout has taken its place")
	want = append(want, asked{Do: "promote", All: true, header: "1"})
	if got := m.asked(); !slices.Equal(got, want) {
		t.Errorf("the master was asked for %v, not %v", got, want)
	}
	b.quiet()
}

// What is confirmed is what was read: a step that has come meanwhile is another question.
func TestAQuestionThatHasChangedIsNotAsked(t *testing.T) {
	t.Parallel()
	m := play(t, canary(3), "promote")
	b := newTab(t, 360)
	b.open(m.URL)
	b.click("#do-promote")
	b.until(`document.querySelector("#ask").open && !document.querySelector("#ask-confirm").disabled`)
	b.clean()
	b.picture("dialog-360-light")
	next := canary(3)
	next.Rollout.Step = 3
	m.send("status", next)
	b.until(`document.querySelector("#ask-confirm").disabled`)
	b.says("#ask-changed", "has changed meanwhile")
	eval[bool](b, `(() => { document.querySelector("#ask-form").requestSubmit(); return true; })()`)
	m.send("status", serving())
	b.says("#rollout-what", "None is on its way.")
	b.click("#ask-cancel")
	b.until(`!document.querySelector("#ask").open && document.activeElement.id === "service"`)
	if got := m.asked(); len(got) > 0 {
		t.Errorf("the master was asked for %v", got)
	}
	b.quiet()
}

func TestOnlyWhatIsAllowedIsOffered(t *testing.T) {
	t.Parallel()
	held := serving()
	held.Hold = &api.Hold{Reason: "exam week", By: "bob (uid 1001)"}
	nothingToGoBackTo := serving()
	nothingToGoBackTo.RollbackTarget = &api.RollbackTarget{Refused: "there is no version to go back to"}
	last := canary(1)
	last.Rollout.Step = 3
	baking := canary(1)
	baking.Rollout.Stage, baking.Rollout.Step = "bake", 0
	all := []string{"promote", "abort", "rollback", "hold"}
	b := newTab(t, 1920)
	for _, x := range []struct {
		name string
		may  []string
		st   api.Status
		want []string
	}{
		{"reading only", nil, canary(1), []string{}},
		{"one thing", []string{"abort"}, canary(1), []string{"Abort"}},
		{"a canary", all, canary(1), []string{"Promote", "Promote all", "Abort", "Roll back", "Hold"}},
		{"its last step", all, last, []string{"Promote", "Abort", "Roll back", "Hold"}},
		{"a bake", all, baking, []string{"Promote", "Roll back", "Hold"}},
		{"at rest", all, serving(), []string{"Roll back", "Hold"}},
		{"held", all, held, []string{"Roll back"}},
		{"no version before", all, nothingToGoBackTo, []string{"Hold"}},
	} {
		m := play(t, x.st, x.may...)
		b.open(m.URL)
		if got := b.offered(); !slices.Equal(got, x.want) {
			t.Errorf("%s: %q is offered, not %q", x.name, got, x.want)
		}
	}
	b.quiet()
}

func TestByKeyboardAlone(t *testing.T) {
	t.Parallel()
	m := play(t, canary(3), "promote", "abort", "rollback", "hold")
	m.set(func(m *master) {
		m.history = past()
		m.logs["13"] = []string{"listening on :8080", "\x1b[31mred\x1b[0m <b>bold</b>\ttab"}
	})
	b := newTab(t, 1920)
	b.open(m.URL)

	b.tabTo("#do-abort")
	b.press(kb.Enter)
	b.until(`document.querySelector("#ask").open && document.activeElement.id === "ask-title"`)
	for range 8 { // nothing behind the dialog can have the focus
		b.press(kb.Tab)
		if at := eval[string](b, `document.activeElement.closest("header, main")?.id ?? ""`); at != "" {
			t.Fatalf("Tab leads out of the dialog, to %s", at)
		}
	}
	b.tabTo("#ask-why")
	b.press("n", "o")
	b.tabTo("#ask-confirm")
	b.press(kb.Enter)
	b.until(`document.activeElement.id === "ask-answer" && document.activeElement.textContent.startsWith("Done")`)
	b.press(kb.Escape)
	b.until(`document.activeElement.id === "do-abort"`) // back where it began
	if got, want := m.asked(), []asked{{Do: "abort", Why: "no", header: "1"}}; !slices.Equal(got, want) {
		t.Errorf("the master was asked for %v, not %v", got, want)
	}

	b.tabTo(`[aria-label="Logs of worker 13"]`)
	b.press(kb.Enter)
	b.says("#logs", "listening on :8080\n\\x1b[31mred\\x1b[0m <b>bold</b>\ttab")
	b.tabTo("#logs")
	b.tabTo(`[aria-label="Latency"][role=slider]`)
	b.press(kb.ArrowLeft)
	b.until(`/^\d\d:\d\d:\d\d: [\d.]+ms, [\d.]+ms$/.test(document.activeElement.getAttribute("aria-valuetext"))`)
	b.tabTo(`.scroll`)
	b.quiet()
}
