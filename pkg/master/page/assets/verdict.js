// What was compared of the two versions that a canary has serve, as it grows.

import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { attr, byId, cell, el, keyed, show, text } from "./dom.js";
import { amount, clean, evidence, named, percent } from "./words.js";

const outcomes = {
  fail: "The new version does worse.",
  pass: "No worse than the version before.",
  inconclusive: "Too few connections to tell yet.",
};
const maxSeen = 600; // looks at one rollout that the curve keeps

let rollout = 0;
let seen = []; // of this rollout: when, and the evidence
let curve = null;

// drawVerdict shows what is known of a rollout; null: nothing.
export function drawVerdict(r, status) {
  const a = r?.analysis;
  show(byId("verdict"), a);
  if (!a) {
    return;
  }
  text(byId("verdict").querySelector("h3"), status.rollout ? "Verdict so far" : "Verdict");
  text(byId("outcome"), `${outcomes[a.outcome] ?? clean(a.outcome)}${waits(a)}`);
  attr(byId("outcome"), "data-outcome", a.outcome);
  const said = `Evidence against it: ${evidence(a.evidence)} of the ${amount(a.wanted)} that are enough.`;
  text(byId("evidence-text"), said);
  const bar = byId("evidence");
  attr(bar, "aria-valuemin", 0);
  attr(bar, "aria-valuemax", a.wanted);
  attr(bar, "aria-valuenow", Math.min(a.evidence, a.wanted));
  attr(bar, "aria-valuetext", said);
  bar.firstElementChild.style.setProperty("--part", a.wanted > 0 ? Math.min(a.evidence / a.wanted, 1) : 0);
  drawMeasures(r, a, status);
  drawCurve(r, a);
}

function waits(a) {
  if (a.cannot) {
    return ` Worker ${a.cannot} does not count its connections, so nothing is compared: build it with a newer SDK.`;
  }
  if (a.waits_for?.length > 0) {
    return ` It waits for worker ${a.waits_for.join(", ")}.`;
  }
  return "";
}

// measuresOf are all that are compared: an earlier masterd says of errors alone.
function measuresOf(a) {
  const errors = {
    name: "errors", evidence: a.evidence,
    candidate: { connections: a.candidate?.connections, hit: a.candidate?.with_error },
    stable: { connections: a.stable?.connections, hit: a.stable?.with_error },
  };
  return a.measures?.length > 0 ? a.measures : [errors];
}

function drawMeasures(r, a, status) {
  const before = (status.generations ?? []).find((g) =>
    g.id !== r.generation && (g.phase === "active" || g.phase === "parked"));
  text(byId("candidate-title"), `New: ${named(r.version)}`);
  text(byId("stable-title"), before && status.rollout ? `Before: ${named(before.version?.label)}` : "Before");
  const titles = [byId("candidate-title").textContent, byId("stable-title").textContent];
  keyed(byId("measures").tBodies[0], measuresOf(a), (m) => m.name, () => el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader", "data-label": "Measure" }), cell("Evidence", "number"),
    cell("New", "number"), cell("Before", "number")), (row, m) => {
    text(row.children[0], named(m.name));
    text(row.children[1], evidence(m.evidence));
    [m.candidate, m.stable].forEach((side, i) => {
      text(row.children[2 + i], sideText(side));
      attr(row.children[2 + i], "data-label", titles[i]);
    });
  });
}

function sideText(side) {
  const all = side?.connections ?? 0;
  const hit = side?.hit ?? side?.with_error ?? 0;
  return `${amount(hit)} of ${amount(all)} connections${all > 0 ? ` (${percent(hit / all * 100)})` : ""}`;
}

// drawCurve keeps what this page has seen of the evidence, and draws it.
function drawCurve(r, a) {
  if (rollout !== r.id) {
    rollout = r.id;
    seen = [];
  }
  const last = seen.at(-1);
  if (!last || last.values[0] !== a.evidence) {
    seen.push({ at: now(), values: [a.evidence] });
    if (seen.length > maxSeen) { // every other one of the older half
      seen = seen.filter((_, i) => i % 2 === 0 || i > maxSeen / 2);
    }
  } else if (seen.length < 2) {
    show(byId("curve"), false);
    return;
  }
  show(byId("curve"), seen.length >= 2);
  if (seen.length < 2) {
    return;
  }
  curve ??= new Chart(byId("curve"), {
    title: "Evidence", series: [{ name: "evidence", kind: "warn" }], format: evidence, logarithmic: true, small: true,
  });
  curve.draw(seen, { from: seen[0].at, to: seen.at(-1).at, gap: Infinity, limit: a.wanted,
    summary: `From ${evidence(seen[0].values[0])} to ${evidence(a.evidence)} since this page looks.` });
}
