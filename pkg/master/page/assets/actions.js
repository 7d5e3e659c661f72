// What can be done from here. Each asks once, in a dialog, and says what was answered.

import { byId, el, line, show, text } from "./dom.js";
import { headers } from "./session.js";
import { brief, clean, named, percent } from "./words.js";

const actions = [
  { id: "promote", label: "Promote", do: "promote", about: aboutPromote },
  { id: "promote-all", label: "Promote all", do: "promote", all: true, about: aboutPromoteAll },
  { id: "abort", label: "Abort", do: "abort", about: aboutAbort },
  { id: "rollback", label: "Roll back", do: "rollback", about: aboutRollback },
  { id: "hold", label: "Hold", do: "hold", about: aboutHold },
];

let may = [];
let status = null;
let live = false;
let asking = null; // the action in the dialog, with what it was asked of
let posting = false;

// What an action is about is what it would do now, and a key that changes with it; null: the
// state does not allow it.
function aboutPromote(st) {
  const r = st.rollout;
  if (r?.stage === "canary" && r.steps?.length > 0) {
    const next = r.steps[r.step];
    const step = `step ${r.step + 1} of ${r.steps.length}`;
    const to = next ? `${percent(next.weight)} of new connections, ${step}` : "all new connections";
    return { key: `${r.id} ${r.step}`, text: `${named(r.version)} gets ${to}.` };
  }
  if (r?.stage === "bake") {
    return { key: `${r.id} bake`, text: `The bake of ${named(r.version)} ends now, as passed.` };
  }
  if (r?.stage === "confirm") {
    return { key: `${r.id} confirm`, text: `${named(r.version)} is kept; it is taken back otherwise.` };
  }
  return null;
}

function aboutPromoteAll(st) {
  const r = st.rollout;
  if (r?.stage === "canary" && r.step < r.steps?.length) {
    const rest = "the steps that are left are skipped";
    return { key: `${r.id} all`, text: `${named(r.version)} gets all new connections, and ${rest}.` };
  }
  return null;
}

function aboutAbort(st) {
  const r = st.rollout;
  if (r && !["serving", "bake", "confirm", "baked"].includes(r.stage) && r.what !== "start") {
    const to = r.version ? ` to ${named(r.version)}` : "";
    const back = r.stage === "canary" ? ", and all new connections go back" : "";
    return { key: `${r.id}`, text: `The ${named(r.what)}${to} is given up${back}.` };
  }
  if (!r && st.waits) {
    const by = brief(st.waits.by);
    return { key: `waits ${by}`, text: `The automatic reload by ${by} that waits is given up.` };
  }
  return null;
}

function aboutRollback(st) {
  const t = st.rollback_target;
  if (!t || t.refused || !t.version && !t.unmoved || st.state === "stopping") {
    return null;
  }
  const to = `${named(t.version)}${t.generation ? ` (generation ${t.generation})` : ""}`;
  const how = t.unmoved ? `The rollout is given up; ${to} has all the traffic.`
    : t.warm ? `All new connections go back to ${to}, at once.`
      : `${to} is started, and then gets all new connections.`;
  return { key: `${t.version} ${t.generation || 0} ${Boolean(t.unmoved)}`, text: how };
}

function aboutHold(st) {
  const what = "Reloads are refused until somebody types “masterd unhold”. Rolling back stays possible.";
  return st.hold ? null : { key: "hold", text: what };
}

// setMay takes what this session is allowed to do.
export function setMay(names) {
  may = names ?? [];
  draw();
}

// drawActions shows those that are allowed and make sense in this state.
export function drawActions(st) {
  status = st;
  draw();
}

// setLive has nothing be asked of a master that is not there.
export function setLive(is) {
  live = is;
  draw();
}

const buttons = actions.map((action) => {
  const node = el("button", { type: "button", id: `do-${action.id}`, hidden: "" }, action.label);
  node.addEventListener("click", () => ask(action));
  return { action, node };
});
byId("actions").append(...buttons.map((b) => b.node));

function draw() {
  show(byId("actions"), may.length > 0);
  for (const { action, node } of buttons) {
    const is = may.includes(action.do) && status && action.about(status);
    if (!is && node === document.activeElement) {
      byId("service").focus();
    }
    show(node, is);
    node.disabled = !live;
  }
  if (asking && !posting && !asking.answered) {
    const about = status && asking.action.about(status);
    const changed = !live ? "The connection is lost." : about?.key === asking.key ? ""
      : "What this would do has changed meanwhile: cancel, and look again.";
    line(byId("ask-changed"), changed);
    byId("ask-confirm").disabled = changed !== "";
  }
}

function ask(a) {
  const about = a.about(status);
  if (!about) {
    return;
  }
  asking = { action: a, key: about.key, answered: false };
  text(byId("ask-title"), `${a.label} ${named(status.service)}?`);
  text(byId("ask-text"), about.text);
  byId("ask-why").value = "";
  byId("ask-why").disabled = false;
  line(byId("ask-changed"), "");
  line(byId("ask-answer"), "");
  text(byId("ask-cancel"), "Cancel");
  text(byId("ask-confirm"), a.label);
  show(byId("ask-confirm"), true);
  byId("ask-confirm").disabled = false;
  byId("ask").showModal();
}

async function confirm() {
  if (!asking || posting || asking.answered || byId("ask-confirm").disabled) {
    return;
  }
  posting = true;
  byId("ask-confirm").disabled = true;
  byId("ask-why").disabled = true;
  line(byId("ask-answer"), "Asking the master…");
  const { action: a } = asking;
  let words;
  try {
    const answer = await fetch("/do", {
      method: "POST", headers: { ...headers, "Content-Type": "application/json" },
      body: JSON.stringify({ do: a.do, all: Boolean(a.all), why: byId("ask-why").value.trim() }),
    });
    words = await said(answer);
  } catch (err) {
    words = `No answer came (${err.message}). Whether it was done is not known: the page shows what comes of it.`;
  }
  posting = false;
  if (!asking) {
    return;
  }
  asking.answered = true;
  show(byId("ask-confirm"), false);
  text(byId("ask-cancel"), "Close");
  line(byId("ask-answer"), words);
  byId("ask-answer").focus();
}

async function said(answer) {
  let body = null;
  try {
    body = await answer.json();
  } catch {
    // it has none: the status says enough
  }
  const reason = clean(body?.reason ?? body?.error);
  if (body?.ok) {
    return `Done. ${reason}`.trim();
  }
  return `It was refused: ${reason || `${answer.status} ${answer.statusText}`}`;
}

byId("ask-form").addEventListener("submit", (event) => {
  event.preventDefault();
  confirm();
});
byId("ask-cancel").addEventListener("click", () => byId("ask").close());
byId("ask").addEventListener("close", () => {
  const back = asking && buttons.find((b) => b.action === asking.action)?.node;
  asking = null;
  (back && !back.hidden ? back : byId("service")).focus();
});
// A key that is held down on the button must not confirm what it has opened.
byId("ask").addEventListener("keydown", (event) => {
  if (event.repeat && event.key === "Enter") {
    event.preventDefault();
  }
});
