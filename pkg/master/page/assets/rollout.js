// The running rollout as a line of stages, or how the last one ended.

import { countdown, now, uncount } from "./clock.js";
import { attr, byId, el, keyed, line, show, text } from "./dom.js";
import { drawVerdict } from "./verdict.js";
import { brief, clean, goDuration, moment, named, percent, span, stamp } from "./words.js";

// In the order in which a rollout walks through them; some have conditions.
const order = ["prepare", "save", "drain", "start", "check", "warm-up", "activate", "steer", "min-ready", "canary",
  "serving", "bake", "confirm", "baked"];
const always = ["prepare", "start", "check", "warm-up", "activate", "steer", "serving", "bake", "baked"];
const passing = ["save", "drain", "min-ready", "confirm"]; // shown only where a rollout is at them
const whats = ["reload", "rollback", "start"];

const inconclusive = { pause: "it is paused", promote: "it goes on", rollback: "it is taken back" };

let seen = null; // the rollout that was shown last while it ran
let said = "";

// drawRollout shows the running one; else how the last one ended.
export function drawRollout(status, history) {
  if (status.rollout) {
    if (seen?.id !== status.rollout.id) {
      seen = null;
    }
    seen = status.rollout;
    draw(seen, null, status);
    announce(`${named(seen.what)}${to(seen.version)}: ${where(seen)}${seen.paused ? ", paused" : ""}`);
    return;
  }
  const last = history.find((e) => e.rollout > 0 && whats.includes(e.what) && (!seen || e.rollout === seen.id));
  if (!last) {
    draw(seen, null, status, seen ? "It has ended." : "Nothing is known of one.");
    return;
  }
  const { rollout: id, what, by, why, to: generation, version } = last;
  const was = { id, what, by, why, ...seen, generation, version };
  draw({ ...was, stage: last.stage || "baked", analysis: last.analysis ?? was.analysis }, last, status);
  if (seen) {
    announce(ending(last));
  }
}

// announce has a screen reader say what has changed: stages only, never numbers.
function announce(words) {
  if (said !== words) {
    said = words;
    text(byId("announcer"), words);
  }
}

// where is the stage, with the step of a canary.
function where(r) {
  const step = r.steps?.[r.step - 1];
  if (step && (r.stage === "canary" || r.stage === "steer")) {
    return `canary, step ${r.step} of ${r.steps.length}, ${percent(step.weight)} of new connections`;
  }
  return r.stage;
}

function ending(e) {
  const outcome = e.outcome === "rolled-back" ? "was rolled back" : e.outcome;
  const stage = e.outcome !== "done" && e.stage ? ` at stage ${e.stage}` : "";
  return `${named(e.what)}${to(e.version)} ${outcome}${stage}`;
}

function draw(r, ended, status, otherwise = "") {
  line(byId("rollout-ended"), "");
  for (const id of ["stages", "steps"]) {
    show(byId(id), Boolean(r));
  }
  if (!r) {
    text(byId("rollout-what"), `No rollout is on its way. ${otherwise}`);
    for (const id of ["rollout-left", "rollout-paused", "rollout-why"]) {
      line(byId(id), "");
    }
    drawVerdict(null, status);
    return;
  }
  const running = Boolean(status.rollout);
  text(byId("rollout-what"), `${running ? "" : "None is on its way. The last was "}` +
    `${running ? capital(named(r.what)) : named(r.what)} ${r.id}${to(r.version)}` +
    `${r.generation ? `, generation ${r.generation}` : ""}, by ${brief(r.by)}`);
  attr(byId("rollout"), "data-outcome", ended ? ended.outcome : running ? "running" : null);
  drawStages(r, ended, running);
  drawSteps(r, ended, running);
  drawLeft(r, running);
  line(byId("rollout-paused"), running && r.paused ? `Paused by ${brief(r.paused)}` : "");
  line(byId("rollout-why"), r.why ? `Why: ${brief(r.why)}` : "");
  if (ended) {
    line(byId("rollout-ended"), `${stamp(moment(ended.at))}: ${ending(ended)}. ${clean(ended.reason)}`.trim());
  } else if (!running) {
    line(byId("rollout-ended"), otherwise);
  }
  drawVerdict(r, status);
}

// to is where a rollout leads, once that is known.
const to = (version) => version ? ` to ${named(version)}` : "";

const capital = (s) => s.charAt(0).toUpperCase() + s.slice(1);

function drawStages(r, ended, running) {
  const stepping = r.steps?.length > 0;
  const current = stepping && r.step > 0 && r.stage === "steer" ? "canary" : r.stage;
  const names = order.filter((s) => always.includes(s) || s === current && (passing.includes(s) || s === "canary") ||
    s === "canary" && stepping);
  const at = names.indexOf(current);
  const make = (s) => el("li", {}, el("span", {}, s), el("span", { class: "unseen" }));
  keyed(byId("stages"), names, (s) => s, make, (node, s) => {
    const i = names.indexOf(s);
    const here = running ? "now" : ended ? "failed" : "ahead";
    const is = ended?.outcome === "done" || i < at ? "done" : i > at ? "ahead" : here;
    attr(node, "data-is", is);
    attr(node, "aria-current", is === "now" ? "step" : null);
    text(node.lastElementChild, is === "now" ? "" : `, ${is}`);
  });
}

function drawSteps(r, ended, running) {
  const steps = r.steps ?? [];
  show(byId("steps"), steps.length > 0);
  const here = running ? "now" : ended ? "failed" : "ahead";
  const past = order.indexOf(r.stage) > order.indexOf("canary");
  keyed(byId("steps"), steps.map((s, i) => ({ ...s, n: i + 1 })), (s) => s.n,
    () => el("li", {}, el("span", {}), el("span", { class: "unseen" })),
    (node, s) => {
      const all = past || ended?.outcome === "done";
      const is = all || s.n < r.step ? "done" : s.n > (r.step || 0) ? "ahead" : here;
      const hold = goDuration(s.hold);
      text(node.firstElementChild, `${percent(s.weight)} ${hold > 0 ? `for ${span(hold)}` : "until promoted"}`);
      attr(node, "data-is", is);
      attr(node, "aria-current", is === "now" ? "step" : null);
      text(node.lastElementChild, is === "now" ? "" : `, ${is}`);
    });
}

function drawLeft(r, running) {
  const node = byId("rollout-left");
  if (!running) {
    uncount(node);
    line(node, "");
    return;
  }
  show(node, true);
  const begun = moment(r.since);
  countdown(node, r.paused ? NaN : moment(r.deadline), (left) => {
    const lasts = Number.isNaN(begun) ? "" : `, for ${span(now() - begun)}`;
    const step = r.steps?.[r.step - 1];
    let end = "";
    if (r.paused) {
      end = ", the clock of its steps is stopped";
    } else if (r.when_inconclusive) {
      end = `, waits for more connections to be judged by, ${left > 0 ? `at most ${span(left)} more` : "too long by now"}; ` +
        `without enough ${inconclusive[r.when_inconclusive] ?? r.when_inconclusive}`;
    } else if (left > 0) {
      end = r.stage === "canary" ? `, ${span(left)} left` : `, at most ${span(left)} more`;
    } else if (left <= 0) {
      end = ", its time is over";
    } else if (r.stage === "canary" && step && goDuration(step.hold) === 0) {
      end = ", waits to be promoted";
    }
    return `${capital(where(r))}${lasts}${end}`;
  });
}
