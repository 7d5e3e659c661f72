// What has happened: all of it, newest first, and by themselves the last failures.

import { now } from "./clock.js";
import { attr, byId, el, keyed, line, show, text } from "./dom.js";
import { fetchLines, openLogs } from "./logs.js";
import { brief, clean, moment, named, span, stamp } from "./words.js";

const failures = 5; // that are shown by themselves
const lastLines = 20; // of the worker behind a failure
const bad = ["failed", "rolled-back"];

const key = (e) => `${e.n || ""} ${e.at} ${e.what} ${e.rollout || ""} ${e.worker || ""}`;

// drawHistory shows both.
export function drawHistory(history) {
  show(byId("no-history"), history.length === 0);
  keyed(byId("history"), history, key, makeEntry, updateEntry);
  const failed = history.filter((e) => bad.includes(e.outcome)).slice(0, failures);
  show(byId("no-failures"), failed.length === 0);
  keyed(byId("failures"), failed, key, makeFailure, updateFailure);
}

function makeEntry() {
  const head = el("div", { class: "line" }, el("time", { class: "dim" }), el("span", { class: "what" }),
    el("span", { class: "badge" }));
  return el("li", {}, head, el("p", { class: "dim" }), el("p", { class: "dim" }), el("p", { class: "reason" }));
}

function updateEntry(node, e) {
  const [head, by, why, reason] = node.children;
  const [time, what, outcome] = head.children;
  text(time, stamp(moment(e.at)));
  attr(time, "datetime", clean(e.at));
  text(what, whatText(e));
  text(outcome, e.outcome === "rolled-back" ? "rolled back" : named(e.outcome));
  attr(outcome, "data-outcome", e.outcome);
  line(by, e.by ? `by ${brief(e.by)}` : "");
  line(why, e.why ? `why: ${brief(e.why)}` : "");
  line(reason, clean(e.reason));
}

function whatText(e) {
  const words = [named(e.what)];
  if (e.version) {
    words.push(named(e.version));
  }
  if (e.worker > 0) {
    words.push(`worker ${e.worker}`);
  }
  if (e.from > 0 && e.to > 0 && e.from !== e.to) {
    words.push(`generation ${e.from} → ${e.to}`);
  } else if (e.from > 0 || e.to > 0) {
    words.push(`generation ${e.to || e.from}`);
  }
  if (e.outcome && e.outcome !== "done" && e.stage) {
    words.push(`at stage ${named(e.stage)}`);
  }
  if (e.repeats > 0) {
    words.push(`and ${e.repeats} times more`);
  }
  return words.join(", ");
}

function makeFailure(e) {
  const node = el("li", {}, el("p", { class: "title" }), el("p", { class: "reason" }));
  if (e.worker > 0) {
    const title = `What worker ${e.worker} said last`;
    const out = el("pre", { tabindex: 0, role: "region", "aria-label": title, hidden: "" });
    const note = el("p", { class: "dim" });
    const more = el("button", { type: "button", class: "small" }, "All of its logs");
    more.addEventListener("click", () => openLogs(e.worker));
    const details = el("details", {}, el("summary", {}, title), note, out, more);
    details.addEventListener("toggle", () => details.open && lines(e.worker, note, out));
    node.append(details);
  }
  return node;
}

async function lines(worker, note, out) {
  line(note, out.hidden ? "Asking…" : "");
  try {
    const got = await fetchLines(worker, lastLines);
    text(out, got.slice(-lastLines).join("\n"));
    show(out, got.length > 0);
    line(note, got.length === 0 ? "Nothing of it is kept." : "");
  } catch (err) {
    line(note, `They could not be fetched: ${err.message}`);
  }
}

function updateFailure(node, e) {
  text(node.children[0], `${stamp(moment(e.at))}, ${span(now() - moment(e.at))} ago: ${whatText(e)}` +
    `${e.outcome === "rolled-back" ? ", rolled back" : ", failed"}`);
  line(node.children[1], clean(e.reason));
}
