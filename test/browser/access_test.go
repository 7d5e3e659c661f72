package browser

import "testing"

// wrong finds what a screen reader or weak eyes stumble over.
const wrong = `(() => {
	const wrong = [];
	const shown = (n) => n.checkVisibility();
	for (const n of document.querySelectorAll("th:not([scope])")) { wrong.push("a table header without scope: " + n.textContent); }
	for (const n of document.querySelectorAll("section, article, [role=region], [role=meter], [role=slider], figure, dialog, table")) {
		const by = n.getAttribute("aria-labelledby");
		const named = by ? document.getElementById(by)?.textContent : n.getAttribute("aria-label") || n.caption?.textContent;
		if (shown(n) && !named) { wrong.push(n.tagName + "#" + n.id + " has no name"); }
	}
	for (const n of document.querySelectorAll("button, a, summary")) {
		if (shown(n) && !(n.getAttribute("aria-label") || n.textContent).trim()) { wrong.push("a control without a name: " + n.outerHTML); }
	}
	for (const n of document.querySelectorAll("input, select")) { if (n.labels.length === 0) { wrong.push(n.id + " has no label"); } }
	if (document.querySelectorAll("h1").length !== 1) { wrong.push("there is not one h1"); }
	let level = 0;
	for (const n of document.querySelectorAll("header :is(h1, h2, h3), main :is(h1, h2, h3)")) {
		const is = Number(n.tagName[1]);
		if (shown(n) && is > level + 1) { wrong.push("a heading skips a level: " + n.textContent); }
		if (shown(n)) { level = is; }
	}
	for (const name of ["header", "main"]) { if (!document.querySelector(name)) { wrong.push("there is no " + name); } }
	const live = [...document.querySelectorAll("[aria-live], [role=status], [role=alert]")].map((n) => n.id).join(" ");
	if (live !== "announcer banner ask-changed") { wrong.push("these speak by themselves: " + live); }
	const ids = [...document.querySelectorAll("[id]")].map((n) => n.id);
	for (const id of new Set(ids.filter((id, i) => ids.indexOf(id) !== i))) { wrong.push("there are two of #" + id); }

	const channels = (c) => c.match(/[\d.]+/g).map(Number);
	const light = ([r, g, b]) => [r, g, b].map((v) => v / 255).map((v) => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
		.reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
	const ground = (n) => {
		for (; n; n = n.parentElement) {
			const c = channels(getComputedStyle(n).backgroundColor);
			if (c.length < 4 || c[3] === 1) { return c; }
		}
		return [255, 255, 255];
	};
	const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
	let looked = 0;
	for (let n = texts.nextNode(); n; n = texts.nextNode()) {
		const p = n.parentElement;
		if (!n.textContent.trim() || !shown(p) || p.closest(":disabled, .unseen, script, style, noscript, option")) { continue; }
		const [a, b] = [light(channels(getComputedStyle(p).color)), light(ground(p))].sort((x, y) => y - x);
		looked++;
		if ((a + 0.05) / (b + 0.05) < 4.5) {
			wrong.push("hard to read, " + ((a + 0.05) / (b + 0.05)).toFixed(2) + ": " + n.textContent.slice(0, 40));
		}
	}
	if (looked < 100) { wrong.push("only " + looked + " texts were looked at"); }
	return wrong;
})()`

func TestEverybodyCanReadIt(t *testing.T) {
	t.Parallel()
	b := newTab(t, 1920)
	st, e := rolledBack()
	st.Rollout = canary(3).Rollout
	m := play(t, st, "promote", "abort", "rollback", "hold")
	m.set(func(m *master) { m.history = append(past(), e) })
	for _, scheme := range []string{"dark", "light"} {
		b.scheme(scheme)
		b.open(m.URL)
		b.says("#failures", "rolled back")
		for _, w := range eval[[]string](b, wrong) {
			t.Errorf("%s: %s", scheme, w)
		}
	}
	b.quiet()
}
