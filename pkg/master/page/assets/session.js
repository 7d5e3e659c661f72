// The key of this page's session. A browser sends cookies to every port of a name; this it keeps for
// this page alone. It comes with the address that the master has led here.

const kept = "masterd-key";

const key = take();

function take() {
  const given = location.hash.match(/^#key=(\w+)$/)?.[1];
  if (given) {
    history.replaceState(null, "", location.pathname);
  }
  try {
    if (given) {
      localStorage.setItem(kept, given);
    }
    return given ?? localStorage.getItem(kept) ?? "";
  } catch {
    return given ?? ""; // a browser that keeps nothing: until this tab is closed
  }
}

// headers are those of what this page asks for.
export const headers = { "X-Masterd-Page": key };

// eventsURL is where the stream is, which can have no headers.
export const eventsURL = `/events?key=${encodeURIComponent(key)}`;
