// Requests, errors and latency of the last hour, with what was rolled out meanwhile.

import { Chart } from "./chart.js";
import { now } from "./clock.js";
import { byId, line } from "./dom.js";
import { clock, millis, moment, named, percent, rate } from "./words.js";

const hour = 3600000;
const least = 300000; // of it is shown, where a master is young
const maxMarks = 60;

let step = 10;
let points = [];
let charts = null;

// setRecent takes the last hour.
export function setRecent(recent) {
  step = recent.step_s || 10;
  points = (recent.points ?? []).map(read);
}

// addPoint takes one more.
export function addPoint(point) {
  const p = read(point);
  points = points.filter((q) => q.at > p.at - hour && q.at < p.at);
  points.push(p);
}

function read(p) {
  const all = (p.requests ?? []).reduce((sum, n) => sum + n, 0);
  const known = (ms) => all > 0 && Number.isFinite(ms) ? ms : NaN;
  return { at: moment(p.at), all, errors: p.requests?.[4] ?? 0, p50: known(p.p50_ms), p99: known(p.p99_ms) };
}

function make() {
  const parent = byId("traffic");
  return {
    rate: new Chart(parent, { title: "Requests", series: [{ name: "requests", kind: "main" }], format: rate }),
    errors: new Chart(parent, { title: "Errors", series: [{ name: "answered 5xx", kind: "bad" }], format: percent }),
    latency: new Chart(parent, { title: "Latency", format: millis,
      series: [{ name: "p50", kind: "main" }, { name: "p99", kind: "other" }] }),
  };
}

// drawTraffic draws what there is.
export function drawTraffic(history) {
  charts ??= make();
  const to = Math.max(now(), points.at(-1)?.at ?? 0);
  const from = Math.max(to - hour, Math.min(points[0]?.at ?? to - hour, to - least));
  const marks = marksOf(history, from);
  const view = { from, to, gap: step * 2500, marks };
  const of = (...values) => points.map((p) => ({ at: p.at, values: values.map((v) => v(p)) }));
  const last = points.at(-1);
  const most = (value) => points.reduce((best, p) => !best || value(p) > value(best) ? p : best, null);
  const share = (p) => p.all > 0 ? p.errors / p.all * 100 : NaN;
  const busiest = most((p) => p.all);
  const nothing = "Nothing is known of the last hour yet.";
  charts.rate.draw(of((p) => p.all / step), { ...view,
    summary: !last ? nothing
      : `Now ${rate(last.all / step)}; most ${rate(busiest.all / step)} at ${clock(busiest.at)}.` });
  const worst = most((p) => share(p) || 0);
  const errors = points.reduce((sum, p) => sum + p.errors, 0);
  charts.errors.draw(of(share), { ...view, least: 1, summary: !last ? nothing : errors === 0 ? "No request failed."
    : `Now ${percent(share(last) || 0)}; most ${percent(share(worst))} at ${clock(worst.at)}.` });
  const slowest = most((p) => p.p99 || 0);
  const measured = slowest && Number.isFinite(slowest.p99);
  const latest = points.findLast((p) => Number.isFinite(p.p50));
  const highest = measured && `highest p99 ${millis(slowest.p99)} at ${clock(slowest.at)}`;
  charts.latency.draw(of((p) => p.p50, (p) => p.p99), { ...view,
    summary: measured ? `Now p50 ${millis(latest.p50)}, p99 ${millis(latest.p99)}; ${highest}.` : nothing });
  line(byId("marks"), marks.length === 0 ? "" :
    `Marked: ${marks.slice(-6).map((m) => `${clock(m.at)} ${m.words}`).join("; ")}.`);
}

// marksOf are the moments at which traffic moved, and at which a rollout failed.
function marksOf(history, since) {
  const marks = new Map();
  for (const e of history) {
    const label = named(e.version);
    const moved = moment(e.switched) || (e.what === "switch" && e.outcome === "done" ? moment(e.at) : NaN);
    if (moved > since) {
      const kind = e.what === "rollback" ? "bad" : "good";
      marks.set(`${e.rollout} moved`, { at: moved, kind, words: `${label} has the traffic` });
    }
    const bad = ["failed", "rolled-back"].includes(e.outcome) && ["reload", "rollback", "start"].includes(e.what);
    const back = e.what === "rollback" && e.outcome === "done";
    if ((bad || back) && moment(e.at) > since) {
      const how = e.outcome === "failed" ? `${named(e.what)} failed` : "was rolled back";
      const words = back ? `rollback to ${label}` : `${label}: ${how}`;
      marks.set(`${e.rollout} ended`, { at: moment(e.at), kind: "bad", words });
    }
  }
  return [...marks.values()].sort((a, b) => a.at - b.at).slice(-maxMarks);
}
