// The public addresses, and how many connections wait there to be accepted.

import { attr, byId, cell, el, keyed, show, text } from "./dom.js";
import { amount, brief, named, percent } from "./words.js";

const nearlyFull = 0.8; // of a queue, from which on it is marked

// drawListeners shows them.
export function drawListeners(status) {
  const listeners = status.listeners ?? [];
  show(byId("listeners-section"), listeners.length > 0);
  keyed(byId("listeners").tBodies[0], listeners, (l) => l.name, () => el("tr", { role: "row" },
    el("th", { scope: "row", role: "rowheader", "data-label": "Listener" }), cell("Address"), cell("Waiting", "number"),
    cell("Limit", "number"), bar()), update);
}

function bar() {
  const node = cell("Filled", "filled");
  node.append(el("div", { class: "bar" }, el("div", { class: "fill" })), el("span"));
  return node;
}

function update(row, l) {
  const limit = Math.max(l.queue_limit || 0, 0);
  const part = limit > 0 ? Math.min(Math.max(l.queue || 0, 0) / limit, 1) : 0;
  text(row.children[0], named(l.name));
  text(row.children[1], brief(l.address));
  attr(row.children[1], "title", l.reason ? brief(l.reason) : null);
  text(row.children[2], amount(l.queue));
  text(row.children[3], limit > 0 ? amount(limit) : "-");
  const fill = row.children[4].firstElementChild;
  fill.firstElementChild.style.setProperty("--part", part);
  text(row.children[4].lastElementChild, limit > 0 ? percent(Math.round(part * 1000) / 10) : "-");
  attr(row, "data-full", part >= nearlyFull ? "yes" : null);
}
