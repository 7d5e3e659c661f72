// The connection to the master: it comes back by itself, also after this tab has slept.

import { eventsURL, headers } from "./session.js";
import { brief } from "./words.js";

const quiet = 35000; // a point comes every ten seconds: after so long without, it is asked anew
const answers = 10000; // in which that is answered, if anybody is there
const retryFirst = 1000;
const retryMost = 15000;
const kinds = ["hello", "status", "recent", "point", "history", "entry"];

// follow calls each with the kind and the data of what comes, and state with "live", "lost" or
// "ended". An ended session does not come back.
export function follow(each, state) {
  let source = null;
  let watchdog = 0;
  let retry = 0;
  let wait = retryFirst;
  let ended = false;

  function heard() {
    clearTimeout(watchdog);
    watchdog = setTimeout(() => open(), quiet);
  }

  function open() {
    clearTimeout(retry);
    source?.close();
    source = new EventSource(eventsURL);
    const mine = source;
    for (const kind of kinds) {
      mine.addEventListener(kind, (event) => {
        if (mine !== source) {
          return;
        }
        wait = retryFirst;
        heard();
        state("live");
        each(kind, JSON.parse(event.data));
      });
    }
    mine.addEventListener("error", () => {
      if (mine === source) {
        again();
      }
    });
    clearTimeout(watchdog);
    watchdog = setTimeout(again, answers);
  }

  // again says that the connection is lost, and looks why: an EventSource does not tell.
  async function again() {
    if (ended) {
      return;
    }
    source?.close();
    source = null;
    clearTimeout(watchdog);
    clearTimeout(retry);
    state("lost");
    const refused = await refusal();
    if (refused?.status === 403) {
      ended = true;
      state("ended");
      return;
    }
    if (source) {
      return; // somebody has come back to this tab meanwhile
    }
    if (refused) {
      state("lost", `The master says: ${brief(refused.words)}`);
    }
    retry = setTimeout(open, wait);
    wait = Math.min(wait * 2, retryMost);
  }

  function wake() {
    if (ended || document.hidden) {
      return;
    }
    wait = retryFirst;
    if (!source || source.readyState === EventSource.CLOSED) {
      open();
    }
  }

  document.addEventListener("visibilitychange", wake);
  window.addEventListener("online", wake);
  window.addEventListener("pageshow", wake);
  open();
}

// refusal is what a master that is there has against this page; null: nothing, or nobody is there.
async function refusal() {
  const stop = new AbortController();
  const late = setTimeout(() => stop.abort(), 5000);
  try {
    const answer = await fetch("/events", { headers, signal: stop.signal, cache: "no-store" });
    return answer.ok ? null : { status: answer.status, words: await answer.text() };
  } catch {
    return null;
  } finally {
    clearTimeout(late);
    stop.abort();
  }
}
