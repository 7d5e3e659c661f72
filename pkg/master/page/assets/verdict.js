// What was compared of the two versions that a canary has serve, as it grows.

import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { attr, byId, cell, el, keyed, line, show, text } from "./dom.js";
import { amount, clean, evidence, named, percent } from "./words.js";

const outcomes = {
  fail: "The new version does worse.",
  pass: "No worse than the version before.",
  inconclusive: "Too few connections to tell yet.",
};
const maxSeen = 600; // looks at one rollout that the curve keeps

let drawn = 0; // the rollout that the curve is of
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
  text(byId("outcome"), `${outcomes[a.outcome] ?? clean(a.outcome)}${waits(a, Boolean(status.rollout))}`);
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

function waits(a, running) {
  if (a.unchanged) {
    return " Both are the same program, with the same configuration.";
  }
  if (a.cannot) {
    return ` Worker ${a.cannot} does not count its connections, so nothing is compared: build it with a newer SDK.`;
  }
  if (running && a.waits_for?.length > 0) {
    return ` It waits for worker ${a.waits_for.join(", ")}.`;
  }
  return "";
}

// measuresOf are all that are compared. The errors have evidence of their own only where
// nothing else acts: the analysis has that of all together.
function measuresOf(a) {
  const others = a.measures ?? [];
  const alone = !others.some((m) => m.acts);
  const errors = {
    name: "errors", acts: true, outcome: alone ? a.outcome : null, evidence: alone ? a.evidence : NaN,
    candidate: { connections: a.candidate?.connections, hit: a.candidate?.with_error },
    stable: { connections: a.stable?.connections, hit: a.stable?.with_error },
  };
  return [errors, ...others];
}

// noteOf is what there is to say of a measure besides its numbers.
function noteOf(m, a) {
  if (compared(m) === 0 && m.name !== "errors") {
    if (a.errors_only) {
      return `not compared: worker ${a.errors_only} counts errors alone, build it with a newer SDK`;
    }
    return m.name === "latency" ? "not compared: the version before has no route with 100 requests yet" : "";
  }
  const r = m.record;
  const notes = m.name === "latency" ? ["slow requests"] : [];
  if (!m.acts) {
    notes.push("only reported");
  }
  if (r && !m.acts && r.rollouts < r.wanted) {
    notes.push(`${r.rollouts} of ${r.wanted} reloads of an unchanged program are on record`);
  } else if (r?.slower > 0) {
    notes.push(`${r.slower} of ${r.rollouts} reloads of an unchanged program were slower, too`);
  }
  return notes.join("; ");
}

const compared = (m) => (m.candidate?.connections ?? 0) + (m.stable?.connections ?? 0);

function drawMeasures(r, a, status) {
  const before = (status.generations ?? []).find((g) =>
    g.id !== r.generation && (g.phase === "active" || g.phase === "parked"));
  text(byId("candidate-title"), `New: ${named(r.version)}`);
  text(byId("stable-title"), before && status.rollout ? `Before: ${named(before.version?.label)}` : "Before");
  const titles = [byId("candidate-title").textContent, byId("stable-title").textContent];
  keyed(byId("measures").tBodies[0], measuresOf(a), (m) => m.name, () => el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader", "data-label": "Measure" }, el("span"), el("small", { class: "dim" })),
    cell("Evidence", "number"), cell("New", "number"), cell("Before", "number")), (row, m) => {
    text(row.children[0].firstElementChild, named(m.name));
    line(row.children[0].lastElementChild, noteOf(m, a));
    attr(row, "data-outcome", m.outcome);
    text(row.children[1], Number.isFinite(m.evidence) && compared(m) > 0 ? evidence(m.evidence) : "-");
    [m.candidate, m.stable].forEach((side, i) => {
      text(row.children[2 + i], sideText(side));
      attr(row.children[2 + i], "data-label", titles[i]);
    });
  });
}

function sideText(side) {
  const all = side?.connections ?? 0;
  const hit = side?.hit ?? 0;
  return all > 0 ? `${amount(hit)} of ${amount(all)} connections (${percent(hit / all * 100)})` : "-";
}

// drawCurve keeps what this page has seen of the evidence, and draws it.
function drawCurve(r, a) {
  if (drawn !== r.id) {
    drawn = r.id;
    seen = [];
  }
  const known = seen.at(-1)?.values[0] === a.evidence;
  if (!known) {
    seen.push({ at: now(), values: [a.evidence] });
  }
  if (seen.length > maxSeen) { // every other one of the older half
    seen = seen.filter((_, i) => i % 2 === 0 || i > maxSeen / 2);
  }
  show(byId("curve"), seen.length > 1);
  if (seen.length < 2 || known && curve) {
    return;
  }
  curve ??= new Chart(byId("curve"), {
    title: "Evidence", series: [{ name: "evidence", kind: "warn" }], format: evidence, logarithmic: true, small: true,
  });
  curve.draw(seen, { from: seen[0].at, to: seen.at(-1).at, gap: Infinity, limit: a.wanted,
    label: `${amount(a.wanted)} is enough`,
    summary: `From ${evidence(seen[0].values[0])} to ${evidence(a.evidence)} since this page looks.` });
}
