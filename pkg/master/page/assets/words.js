// How numbers, times and texts from elsewhere are written; the same forms as `masterd status`.

// Whatever could reverse the reading order, hide, or stand for nothing is shown as an escape.
const unprintable = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Cn}\p{Zl}\p{Zp}]/gu;
const maxText = 2000; // characters of one text; the longest sentence of masterd's has a quarter

function escape(c) {
  const n = c.codePointAt(0);
  if (c === "\n" || c === "\r" || c === "\t") {
    return " ";
  }
  return n < 0x100 ? "\\x" + n.toString(16).padStart(2, "0") : "\\u" + n.toString(16).padStart(4, "0");
}

// clean makes text from elsewhere safe to read on one line.
export function clean(s) {
  s = String(s ?? "");
  if (s.length > maxText) {
    s = s.slice(0, maxText) + "…";
  }
  return s.replace(unprintable, escape);
}

// cleanOutput keeps tabs: programs align their output with them.
export function cleanOutput(s) {
  return String(s ?? "").split("\t").map(clean).join("\t");
}

const maxBrief = 200;

// brief is what somebody typed, or an address: cut to a line or two.
export function brief(s) {
  return shorten(s, maxBrief);
}

function shorten(s, most) {
  const chars = [...clean(s)];
  return chars.length > most ? chars.slice(0, most - 1).join("") + "…" : chars.join("");
}

const maxName = 64;

// named is a name of somebody's choice, cut to what a heading or a cell has room for.
export function named(s) {
  return shorten(s, maxName);
}

function two(a, unitA, b, unitB) {
  return b === 0 ? `${a}${unitA}` : `${a}${unitA} ${b}${unitB}`;
}

// span is a length of time in milliseconds: "1m 5s".
export function span(ms) {
  const s = Math.max(Math.round(ms / 1000), 0);
  if (s < 60) {
    return `${s}s`;
  }
  if (s < 3600) {
    return two(Math.floor(s / 60), "m", s % 60, "s");
  }
  if (s < 86400) {
    return two(Math.floor(s / 3600), "h", Math.floor(s % 3600 / 60), "m");
  }
  return two(Math.floor(s / 86400), "d", Math.floor(s % 86400 / 3600), "h");
}

// millis is a time of which fractions of a second matter.
export function millis(ms) {
  if (ms >= 60000) {
    return span(ms);
  }
  return ms >= 1000 ? `${(ms / 1000).toFixed(2)}s` : `${Number(ms.toPrecision(2))}ms`;
}

// goDuration reads what Go writes: "1m30s" in milliseconds.
export function goDuration(s) {
  const units = { h: 3600000, m: 60000, s: 1000, ms: 1, "µs": 0.001, us: 0.001, ns: 0.000001 };
  let ms = 0;
  for (const [, n, unit] of String(s ?? "").matchAll(/([0-9.]+)(h|ms|m|s|µs|us|ns)/g)) {
    ms += Number(n) * units[unit];
  }
  return ms;
}

// size is a number of bytes: "45.2 MiB".
export function size(n) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (n >= 1024 && unit < units.length - 1) {
    n /= 1024;
    unit++;
  }
  return unit === 0 ? `${n} B` : `${n.toFixed(1)} ${units[unit]}`;
}

const amounts = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

// amount is a count: "12,345".
export function amount(n) {
  return amounts.format(Math.max(Number(n) || 0, 0));
}

// percent is written as short as it is exact.
export function percent(n) {
  return `${Number((Number(n) || 0).toFixed(2))}%`;
}

// rate is how many in a second.
export function rate(n) {
  return n < 10 ? `${Number(n.toFixed(1))}/s` : `${amount(n)}/s`;
}

const mostShown = 999999;

// evidence is what speaks against a version.
export function evidence(n) {
  return n > mostShown ? `over ${mostShown}` : (Number(n) || 0).toFixed(1);
}

const pad = (n) => String(n).padStart(2, "0");

// moment reads a time of the API's; none: NaN.
export function moment(s) {
  return s ? Date.parse(s) : NaN;
}

// clock is the time of a day: "11:57:55".
export function clock(at) {
  const d = new Date(at);
  return `${pad(d.getHours())}:${pad(d.getMinutes())}:${pad(d.getSeconds())}`;
}

// stamp is a time with its day.
export function stamp(at) {
  const d = new Date(at);
  return `${d.getFullYear()}-${pad(d.getMonth() + 1)}-${pad(d.getDate())} ${clock(at)}`;
}

// count is a number with its noun.
export function count(n, one, many) {
  return `${amount(n)} ${Number(n) === 1 ? one : many}`;
}
