// The live page: what the master says, kept here and drawn where it has changed.

import { drawActions, setLive, setMay } from "./actions.js";
import { countdown, now, resetClock, setClock } from "./clock.js";
import { attr, byId, el, keyed, line, text } from "./dom.js";
import { drawGenerations } from "./generations.js";
import { drawHistory } from "./history.js";
import { drawListeners } from "./listeners.js";
import { drawLogs } from "./logs.js";
import { drawRollout } from "./rollout.js";
import { follow } from "./stream.js";
import { addPoint, drawTraffic, setRecent } from "./traffic.js";
import { brief, clean, moment, named, span, stamp } from "./words.js";

const maxEntries = 100;

let first = ""; // the version of masterd that this page is of
let status = null;
let history = []; // newest first

const handlers = {
  hello(hello) {
    resetClock();
    setMay(hello.may);
    first ||= hello.version ?? "";
    attr(document.body, "data-older", hello.version && hello.version !== first ? "yes" : null);
  },
  status(next) {
    status = next;
    setClock(moment(next.now));
    drawStatus();
  },
  recent(recent) {
    setRecent(recent);
    setClock(moment(recent.points?.at(-1)?.at));
    drawTraffic(history);
  },
  point(point) {
    addPoint(point);
    setClock(moment(point.at));
    drawTraffic(history);
    drawStatus(); // ages go on where nothing else happens
  },
  history(entries) {
    history = (entries ?? []).toSorted((a, b) => moment(b.at) - moment(a.at)).slice(0, maxEntries);
    drawPast();
  },
  entry(entry) {
    history = [entry, ...history].slice(0, maxEntries);
    drawPast();
  },
};

function drawPast() {
  drawHistory(history);
  drawTraffic(history);
  drawStatus();
}

function drawStatus() {
  if (!status) {
    return;
  }
  drawHead();
  drawActions(status);
  drawRollout(status, history);
  drawGenerations(status);
  drawListeners(status);
  drawLogs(status, history);
}

function drawHead() {
  const service = named(status.service);
  text(byId("service"), service);
  text(byId("state"), clean(status.state));
  attr(byId("state"), "data-state", status.state);
  line(byId("environment"), named(status.environment));
  const r = status.rollout;
  const title = `${service}: ${clean(status.state)}${r ? `, ${named(r.stage)}` : ""}`;
  if (document.title !== title) {
    document.title = title;
  }
  const m = status.master ?? {};
  const older = document.body.dataset.older ? " (load this page anew: it is of another masterd)" : "";
  const up = `masterd ${named(m.version)}, pid ${m.pid}, up ${span(now() - moment(m.since))}${older}`;
  text(byId("master"), m.pid ? up : ""); // one that ends may not know itself
  const a = status.active;
  const by = a ? `${a.by ? `, by ${brief(a.by)}` : ""}${a.why ? ` (${brief(a.why)})` : ""}` : "";
  const since = a && `since ${stamp(moment(a.since))} (${span(now() - moment(a.since))})`;
  text(byId("deployment"), !a ? "No version has the traffic."
    : `${named(a.version?.label)}, generation ${a.generation}, ${since}, ${a.baked ? "baked" : "not baked yet"}${by}`);
  drawReasons();
}

// drawReasons lists why all is not as it should be, and what waits for its time.
function drawReasons() {
  const reasons = (status.reasons ?? []).map((r) => ({ say: clean(r) }));
  if (status.hold) {
    reasons.push({ say: `Held by ${brief(status.hold.by)}: ${brief(status.hold.reason)}` });
  }
  if (status.file_differs) {
    reasons.push({ say: clean(status.file_differs) });
  }
  if (status.waits) {
    const what = `An automatic reload by ${brief(status.waits.by)} waits`;
    reasons.push({ say: `${what}: ${brief(status.waits.why)}`, until: moment(status.waits.until) });
  }
  if (status.drains) {
    reasons.push({ say: "A stop is announced: workers begin to drain", until: moment(status.drains) });
  }
  const due = status.rollback_target?.due;
  if (due) {
    reasons.push({ say: `Back to ${named(status.rollback_target.version)} unless it is promoted`, until: moment(due) });
  }
  keyed(byId("reasons"), reasons, (r) => r.say, () => el("li"), (node, r) =>
    countdown(node, r.until ?? NaN, (left) => left > 0 ? `${r.say}, in ${span(left)}` : r.say));
}

const banners = {
  live: "",
  lost: "The connection to the master is lost. What is shown is as it was then; it is tried again by itself.",
  ended: "This session has ended. Run “masterd page” again: it prints a new address.",
};

follow((kind, data) => handlers[kind](data), (state, why) => {
  if (document.body.dataset.connection !== state) {
    document.body.dataset.connection = state;
    setLive(state === "live");
  }
  text(byId("banner"), `${banners[state]} ${why ?? ""}`.trim());
});
