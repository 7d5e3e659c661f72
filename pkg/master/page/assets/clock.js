// The master's clock as this page knows it, and what counts down by it. There is a timer only
// while something does, and none while nobody looks.

import { text } from "./dom.js";

let ahead = NaN; // of the master's clock to this machine's, in milliseconds
let timer = 0;
const counting = new Map(); // by node: until when, and what it says

// resetClock forgets what was known: this machine's clock may have been set.
export function resetClock() {
  ahead = NaN;
}

// setClock takes the time of something that the master has just sent. It may have happened a while
// ago, so the latest counts.
export function setClock(at) {
  if (!Number.isNaN(at) && !(at - Date.now() <= ahead)) {
    ahead = at - Date.now();
  }
}

// now is the master's time.
export function now() {
  return Date.now() + (ahead || 0);
}

// countdown has a node say what say makes of the milliseconds that are left, until they are
// over. NaN: there is no deadline, and say gets NaN once.
export function countdown(node, until, say) {
  text(node, say(until - now()));
  if (until > now()) {
    counting.set(node, { until, say });
    schedule();
  } else {
    counting.delete(node);
  }
}

// uncount has a node say nothing more.
export function uncount(node) {
  counting.delete(node);
}

function schedule() {
  if (timer === 0 && counting.size > 0 && !document.hidden) {
    timer = setTimeout(tick, 1000 - now() % 1000);
  }
}

function tick() {
  timer = 0;
  for (const [node, { until, say }] of counting) {
    text(node, say(until - now()));
    if (until <= now() || !node.isConnected) {
      counting.delete(node);
    }
  }
  schedule();
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden && timer === 0) {
    tick();
  }
});
