// What a worker printed last, on demand.

import { attr, byId, el, keyed, show, text } from "./dom.js";
import { headers } from "./session.js";
import { clean, clock, cleanOutput, moment, named } from "./words.js";

const lines = 200; // of a worker's output that are fetched
const listed = 200; // workers that can be chosen

let asked = 0; // how often this page has asked

// fetchLines asks the master for a worker's last lines, as texts.
export async function fetchLines(worker, most = lines) {
  const answer = await fetch(`/logs?worker=${encodeURIComponent(worker)}&lines=${most}`, { headers, cache: "no-store" });
  if (!answer.ok) {
    throw new Error(`the master answered ${answer.status} ${answer.statusText}`);
  }
  return ((await answer.json()).lines ?? []).map((l) => {
    if (typeof l === "string") {
      return cleanOutput(l);
    }
    const at = Number.isNaN(moment(l.at)) ? "" : `${clock(moment(l.at))} `;
    return `${at}${l.stream && l.stream !== "stdout" ? `${clean(l.stream)} ` : ""}${cleanOutput(l.text)}`;
  });
}

// drawLogs lists the workers that can be chosen: those that are there, then those of failures.
export function drawLogs(status, history) {
  const there = (status.generations ?? []).flatMap((g) =>
    (g.workers ?? []).map((w) => ({ id: w.id, label: `${w.id}: ${w.phase}, ${named(g.version?.label)}` })));
  const gone = history.filter((e) => e.worker > 0)
    .map((e) => ({ id: e.worker, label: `${e.worker}: ${named(e.what)}` }));
  const all = new Map([...there.reverse(), ...gone.reverse()].reverse().map((w) => [w.id, w]));
  const chosen = asked > 0 ? byId("logs-worker").value : "";
  if (chosen && !all.has(Number(chosen))) {
    all.set(Number(chosen), { id: Number(chosen), label: `${chosen}: gone` });
  }
  const sorted = [...all.values()].sort((a, b) => b.id - a.id).slice(0, listed);
  keyed(byId("logs-worker"), sorted, (w) => w.id, (w) => el("option", { value: w.id }),
    (node, w) => text(node, w.label));
}

// openLogs shows a worker's last lines and goes there.
export async function openLogs(worker) {
  const select = byId("logs-worker");
  select.value = String(worker);
  byId("logs-title").scrollIntoView({ block: "nearest" });
  select.focus();
  await load(worker);
}

async function load(worker) {
  const mine = ++asked;
  text(byId("logs-note"), `Worker ${worker}: asking…`);
  let got = [];
  let note = "";
  try {
    got = await fetchLines(worker);
    note = got.length === 0 ? `Worker ${worker} has printed nothing that is kept.`
      : `Worker ${worker}, its last ${got.length} lines, as of ${clock(Date.now())}.`;
  } catch (err) {
    note = `The lines of worker ${worker} could not be fetched: ${err.message}`;
  }
  if (mine !== asked) {
    return; // somebody has asked for another one since
  }
  const out = byId("logs");
  text(byId("logs-note"), note);
  text(out, got.join("\n"));
  show(out, got.length > 0);
  attr(out, "aria-label", `Last lines of worker ${worker}`);
  out.scrollTop = out.scrollHeight;
}

byId("logs-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const worker = byId("logs-worker").value;
  if (worker) {
    load(worker);
  }
});
