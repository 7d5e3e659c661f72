// The generations, newest first, each with its workers.

import { countdown, now, uncount } from "./clock.js";
import { attr, byId, cell, el, keyed, line, show, text } from "./dom.js";
import { openLogs } from "./logs.js";
import { amount, brief, clean, count, millis, moment, named, percent, size, span } from "./words.js";

const columns = [
  ["Worker", "number"], ["Phase", ""], ["PID", "number"], ["Age", "number"], ["In flight", "number"],
  ["Open", "number"], ["Requests", "number"], ["Memory", "number"], ["FDs", "number"], ["Restarts", "number"],
  ["Health", ""], ["Logs", ""],
];

// share is the part of new connections that a generation has, in percent.
export function share(g) {
  return g.share || g.weight || 0;
}

// phaseOf is that of a generation. A canary's candidate is called so: it has traffic.
function phaseOf(g, rollout) {
  return rollout?.generation === g.id && rollout.stage === "canary" ? "canary" : g.phase;
}

// drawGenerations shows them.
export function drawGenerations(status) {
  const generations = [...status.generations ?? []].reverse();
  show(byId("nothing-alive"), generations.length === 0);
  keyed(byId("generations"), generations, (g) => g.id, makeGeneration, (node, g) => updateGeneration(node, g, status));
}

function makeGeneration(g) {
  const title = `generation-${g.id}`;
  const head = columns.map(([name, kind]) =>
    el("th", { scope: "col", role: "columnheader", class: kind || null }, name));
  const node = el("article", { class: "generation", "aria-labelledby": title },
    el("h3", { id: title }),
    el("p", { class: "phase" }),
    el("p", { class: "recent dim" }),
    el("div", { class: "bar", "aria-hidden": "true" }, el("div", { class: "fill" })),
    el("table", { class: "cards workers", role: "table", "aria-labelledby": title },
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...head)),
      el("tbody", { role: "rowgroup" })),
    el("p", { class: "none dim" }, "No worker yet."));
  return node;
}

function updateGeneration(node, g, status) {
  const phase = phaseOf(g, status.rollout);
  const label = named(g.version?.label);
  attr(node, "data-phase", phase);
  text(node.querySelector("h3"), `Generation ${g.id}: ${label}`);
  attr(node.querySelector("h3"), "title", clean(g.version?.digest));
  const part = share(g);
  const words = [phase];
  if (part > 0 || phase === "active" || phase === "canary") {
    words.push(`${percent(part)} of new connections`);
  }
  if (g.since) {
    words.push(`for ${span(now() - moment(g.since))}`);
  }
  if (g.baked) {
    words.push("baked");
  }
  countdown(node.querySelector(".phase"), moment(g.deadline), (left) => {
    if (Number.isNaN(left)) {
      return words.join(", ");
    }
    return [...words, left > 0 ? `at most ${span(left)} more` : "overdue"].join(", ");
  });
  line(node.querySelector(".recent"), answered(g.recent));
  node.querySelector(".fill").style.setProperty("--part", Math.min(part / 100, 1));
  const workers = g.workers ?? [];
  show(node.querySelector(".none"), workers.length === 0);
  show(node.querySelector("table"), workers.length > 0);
  const body = node.querySelector("tbody");
  const rows = workers.flatMap((w) => {
    const notes = notesOf(g, w);
    return notes.length > 0 ? [{ key: w.id, worker: w }, { key: `${w.id} notes`, notes }] : [{ key: w.id, worker: w }];
  });
  keyed(body, rows, (r) => r.key, (r) => r.notes ? makeNotes() : makeWorker(r.worker),
    (row, r) => r.notes ? updateNotes(row, r.notes) : updateWorker(row, r.worker));
}

// answered is what its workers have answered lately; empty: that is not known, or nothing.
function answered(recent) {
  const sum = (recent?.requests ?? []).reduce((all, n) => all + n, 0);
  if (sum === 0) {
    return "";
  }
  return `${amount(sum)} requests in 10 s, ${amount(recent.requests[4])} errors (5xx), ` +
    `p50 ${millis(recent.p50_ms)}, p99 ${millis(recent.p99_ms)}`;
}

function makeWorker(w) {
  const head = el("th", { scope: "row", role: "rowheader", class: "number", "data-label": "Worker" });
  const cells = columns.slice(1, -1).map(([name, kind]) => cell(name, kind));
  const button = el("button", { type: "button", class: "small", "aria-label": `Logs of worker ${w.id}` }, "Logs");
  button.addEventListener("click", () => openLogs(w.id));
  const last = cell("Logs");
  last.append(button);
  return el("tr", { role: "row", class: "worker" }, head, ...cells, last);
}

function updateWorker(row, w) {
  const serves = w.phase === "active" || w.phase === "parked";
  const counted = (n) => w.uncounted ? "-" : amount(n);
  const age = moment(w.started) > 0 ? moment(w.started) : moment(w.since);
  const health = w.healthy ? "healthy" : serves ? "sick" : "-";
  const values = [
    String(w.id), w.phase, w.pid ? String(w.pid) : "-", Number.isNaN(age) ? "-" : span(now() - age),
    counted(w.in_flight), counted(w.open), counted(w.requests), w.rss > 0 ? size(w.rss) : "-",
    w.fds ? amount(w.fds) : "-", amount(w.restarts), health,
  ];
  values.forEach((value, i) => {
    const node = row.children[i];
    if (columns[i][0] === "Phase" && w.phase === "backoff") {
      countdown(node, moment(w.deadline), (left) => left > 0 ? `backoff, ${span(left)}` : "backoff");
      return;
    }
    uncount(node);
    text(node, value);
  });
  attr(row, "data-phase", w.phase);
  attr(row, "data-health", health);
}

function makeNotes() {
  return el("tr", { role: "row", class: "notes" }, el("td", { role: "cell", colspan: columns.length }, el("ul")));
}

function updateNotes(row, notes) {
  keyed(row.querySelector("ul"), notes, (n) => n, () => el("li"), line);
}

// notesOf is what there is to say of a worker besides its numbers.
function notesOf(g, w) {
  const notes = [];
  const serves = w.phase === "active" || w.phase === "parked";
  if (w.says) {
    notes.push(`says: ${named(w.says)}`);
  }
  if (!w.healthy && w.last_probe) {
    notes.push(`last check: ${brief(w.last_probe)}`);
  }
  if (w.processes > 1) {
    notes.push(`${amount(w.processes)} processes`);
  }
  if (!serves && w.in_flight > 0 && w.longest_ms >= 1000) {
    notes.push(`its longest request has run for ${span(w.longest_ms)}`);
  }
  if (w.gives_to?.length > 0 && w.open > 0) {
    const what = w.phase === "active" ? "a part of its idle connections moves to" : "its idle connections move to";
    notes.push(`${what} ${w.gives_to.join(", ")}`);
  }
  if (w.clients) {
    const c = w.clients;
    notes.push(`${count(c.open, "connection is", "connections are")} open, ${amount(c.waiting)} wait for an answer, ` +
      `${amount(c.closed)} were closed`);
  }
  if (w.cut) {
    notes.push(`it has cut ${cutText(w.cut)}`);
  }
  if (w.fd_ratio >= 0.8) {
    notes.push(`it has ${percent(w.fd_ratio * 100)} of the descriptors that it may have`);
  }
  if (w.dropped_lines > 0) {
    notes.push(`${count(w.dropped_lines, "line of its output was", "lines of its output were")} dropped`);
  }
  return notes;
}

function cutText(c) {
  if (c.unknown) {
    return "what it had open, which only it knew";
  }
  const longest = c.longest_ms > 0 ? `, the longest after ${millis(c.longest_ms)}` : "";
  return `${count(c.connections, "connection", "connections")}, ${count(c.requests, "request", "requests")}${longest}`;
}
