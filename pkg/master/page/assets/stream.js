// The connection to the master: it comes back by itself, also after this tab has slept.

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
    source = new EventSource("/events");
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
    if (await forbidden()) {
      ended = true;
      state("ended");
      return;
    }
    clearTimeout(retry);
    retry = setTimeout(open, wait);
    wait = Math.min(wait * 2, retryMost);
  }

  function wake() {
    if (ended || document.hidden) {
      return;
    }
    wait = retryFirst;
    if (!source) {
      open();
    }
  }

  document.addEventListener("visibilitychange", wake);
  window.addEventListener("online", wake);
  window.addEventListener("pageshow", wake);
  open();
}

// forbidden reports whether the master is there and refuses this session.
async function forbidden() {
  const stop = new AbortController();
  const late = setTimeout(() => stop.abort(), 5000);
  try {
    return (await fetch("/events", { signal: stop.signal, cache: "no-store" })).status === 403;
  } catch {
    return false; // nobody is there
  } finally {
    clearTimeout(late);
    stop.abort();
  }
}
