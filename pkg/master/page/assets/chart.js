// A chart of lines over time. The drawing stretches with its place, so a window that changes
// its size costs nothing; words stand beside it, not in it.

import { attr, el, keyed, svg, text } from "./dom.js";
import { clock } from "./words.js";

const width = 1000; // of the drawing, in units of its own
const height = 100;
let made = 0;

export class Chart {
  // series are {name, kind}; a point is {at, values}, one value for each of them, NaN: unknown.
  constructor(parent, { title, series, format, logarithmic = false, small = false }) {
    Object.assign(this, { series, format, logarithmic, points: [], cursor: -1 });
    const id = `chart-${++made}`;
    const box = `0 0 ${width} ${height}`;
    this.drawing = svg("svg", { viewBox: box, preserveAspectRatio: "none", "aria-hidden": "true" });
    this.marks = svg("g", { class: "marks" });
    this.limit = svg("line", { class: "limit", x1: 0, x2: width, y1: -1, y2: -1 });
    this.paths = series.map((s) => svg("path", { class: `series ${s.kind}` }));
    this.hair = svg("line", { class: "hair", y1: 0, y2: height, x1: -1, x2: -1 });
    this.drawing.append(this.marks, this.limit, ...this.paths, this.hair);
    this.most = el("span", { class: "most" });
    this.from = el("span");
    this.to = el("span");
    this.readout = el("span", { class: "readout" });
    this.summary = el("p", { class: "summary", id: `${id}-summary` });
    this.plot = el("div", { class: "plot", tabindex: 0, role: "slider", "aria-label": title,
      "aria-describedby": `${id}-summary`, "aria-valuemin": 0, "aria-valuemax": 0, "aria-valuenow": 0,
      "aria-valuetext": "nothing yet" }, this.drawing, this.most);
    const keys = series.map((s) => el("span", { class: `key ${s.kind}` }, s.name));
    const legend = el("span", { class: "legend" }, ...keys);
    parent.append(el("figure", { class: small ? "chart small" : "chart", "aria-label": title },
      el("figcaption", {}, el("span", { class: "title" }, title), legend, this.readout), this.plot,
      el("div", { class: "axis dim", "aria-hidden": "true" }, this.from, this.to), this.summary));
    this.plot.addEventListener("pointermove", (e) => this.point(e.offsetX / this.plot.clientWidth));
    this.plot.addEventListener("pointerleave", () => this.look(-1));
    this.plot.addEventListener("blur", () => this.look(-1));
    this.plot.addEventListener("keydown", (e) => this.key(e));
  }

  // draw shows the points between two times. Points further apart than gap are not joined.
  draw(points, { from, to, gap, marks = [], limit = 0, least = 0, label, summary }) {
    Object.assign(this, { points, begin: from, end: Math.max(to, from + 1), gap });
    const values = points.flatMap((p) => p.values).filter(Number.isFinite);
    // What is far above its limit is far above: how far would make the rest flat.
    this.top = this.logarithmic ? Math.min(Math.max(limit * 2, ...values), limit * 10)
      : nice(Math.max(least, ...values));
    this.bottom = this.logarithmic ? Math.min(0.5, Math.max(Math.min(...values), 0.001)) : 0;
    this.paths.forEach((path, i) => attr(path, "d", this.path(i)));
    const y = limit > 0 ? this.y(limit) : -1;
    this.most.style.top = limit > 0 ? `${y}%` : "";
    attr(this.limit, "y1", y);
    attr(this.limit, "y2", y);
    text(this.most, label ?? this.format(this.top));
    text(this.from, clock(this.begin));
    text(this.to, clock(this.end));
    text(this.summary, summary);
    keyed(this.marks, marks.filter((m) => m.at >= from && m.at <= to), (m) => `${m.at} ${m.kind}`,
      () => svg("line", { y1: 0, y2: height }), (node, m) => {
        attr(node, "class", m.kind);
        attr(node, "x1", this.x(m.at));
        attr(node, "x2", this.x(m.at));
      });
    attr(this.plot, "aria-valuemax", Math.max(points.length - 1, 0));
    this.look(Math.min(this.cursor, points.length - 1));
  }

  x(at) {
    return ((at - this.begin) / (this.end - this.begin) * width).toFixed(1);
  }

  y(value) {
    const scale = this.logarithmic ? Math.log : (n) => n;
    const low = this.logarithmic ? Math.log(this.bottom) : 0;
    const part = (scale(Math.max(value, this.bottom)) - low) / (scale(this.top) - low);
    return (height - Math.min(Math.max(part, 0), 1) * (height - 2) - 1).toFixed(1);
  }

  path(i) {
    let d = "";
    let before = NaN;
    for (const p of this.points) {
      const value = p.values[i];
      if (!Number.isFinite(value)) {
        before = NaN;
        continue;
      }
      const joined = p.at - before <= this.gap;
      const at = `${this.x(p.at)} ${this.y(value)}`;
      d += joined ? `L${at}` : `M${at}h0.1`; // one that stands alone is a dot
      before = p.at;
    }
    return d;
  }

  // point looks at what is nearest to a part of the width.
  point(part) {
    const at = this.begin + part * (this.end - this.begin);
    let best = -1;
    this.points.forEach((p, i) => {
      if (best < 0 || Math.abs(p.at - at) < Math.abs(this.points[best].at - at)) {
        best = i;
      }
    });
    this.look(best);
  }

  key(event) {
    const last = this.points.length - 1;
    const from = this.cursor < 0 ? last : this.cursor;
    const to = { ArrowLeft: from - 1, ArrowDown: from - 1, ArrowRight: from + 1, ArrowUp: from + 1,
      PageDown: from - 30, PageUp: from + 30, Home: 0, End: last }[event.key];
    if (to !== undefined) {
      event.preventDefault();
      this.look(Math.min(Math.max(to, 0), last));
    }
  }

  // look says what a point is; -1: none.
  look(i) {
    this.cursor = i;
    const p = this.points[i];
    attr(this.hair, "x1", p ? this.x(p.at) : -1);
    attr(this.hair, "x2", p ? this.x(p.at) : -1);
    const values = p?.values.map((v) => Number.isFinite(v) ? this.format(v) : "-").join(", ");
    const words = p ? `${clock(p.at)}: ${values}` : "";
    text(this.readout, words);
    attr(this.plot, "aria-valuenow", Math.max(i, 0));
    attr(this.plot, "aria-valuetext", words || "the summary is below");
  }
}

// nice is the next number above that people read easily.
function nice(n) {
  if (!(n > 0)) {
    return 1;
  }
  const unit = 10 ** Math.floor(Math.log10(n));
  return unit * [1, 2, 5, 10].find((m) => m * unit >= n * 0.9999);
}
