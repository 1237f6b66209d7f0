// Charts of the last minutes, as SVG. Each has a line, an area below it, and a label at its highest value.

import { make, write } from "./dom.js";
import { clock } from "./format.js";

const SVG = "http://www.w3.org/2000/svg";
const SPAN = 300; // seconds, as the server keeps them
const GAP = 5; // a line is broken where there is nothing for so long
const HEIGHT = 72;

function shape(tag, attributes = {}) {
  const element = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
}

export class Chart {
  #title; #value; #highest; #svg; #lines; #cursor; #format; #lowestTop; #series;
  #samples = [];
  #width = 260;
  #at = null; // where the pointer is, in seconds

  // `series` are the names of numbers in a sample: one, or two that are drawn in one chart.
  constructor({ title, series, format, lowestTop = 1 }) {
    this.#title = title;
    this.#series = series;
    this.#format = format;
    this.#lowestTop = lowestTop;
    this.#value = make("b", "value", "\u2013");
    this.#highest = make("span", "highest");
    this.#svg = shape("svg", { role: "img", class: "chart", height: HEIGHT, "aria-label": title });
    this.#svg.append(shape("line", { class: "base", x1: 0, y1: HEIGHT - 0.5, x2: "100%", y2: HEIGHT - 0.5 }));
    this.#lines = series.map((_, place) => {
      const area = shape("path", { class: `area of-${place}` });
      const line = shape("path", { class: `line of-${place}` });
      this.#svg.append(area, line);
      return { area, line };
    });
    this.#cursor = shape("line", { class: "cursor", y1: 0, y2: HEIGHT, visibility: "hidden" });
    this.#svg.append(this.#cursor);
    const head = make("div", "chart-head", make("h3", "", title), this.#value);
    this.element = make("div", "card chart-card", head, this.#svg, this.#highest);
    new ResizeObserver(([entry]) => this.#resize(entry.contentRect.width)).observe(this.#svg);
    this.#svg.addEventListener("pointermove", (event) => this.#point(event.offsetX));
    this.#svg.addEventListener("pointerleave", () => this.#point(null));
  }

  show(samples) {
    this.#samples = samples;
    this.#draw();
  }

  #resize(width) {
    if (!width || width === this.#width) return;
    this.#width = width;
    this.#draw();
  }

  #point(x) {
    const newest = this.#samples.at(-1)?.at ?? 0;
    this.#at = x === null ? null : newest - SPAN * (1 - x / this.#width);
    this.#draw();
  }

  #draw() {
    const samples = this.#samples;
    const newest = samples.at(-1);
    if (!newest) return;
    const values = samples.flatMap((sample) => this.#series.map((name) => sample[name] ?? 0));
    const top = Math.max(this.#lowestTop, ...values);
    const x = (at) => (1 - (newest.at - at) / SPAN) * this.#width;
    const y = (value) => HEIGHT - 1 - (value / top) * (HEIGHT - 6);
    this.#series.forEach((name, place) => {
      const { line, area } = paths(samples, name, x, y);
      this.#lines[place].line.setAttribute("d", line);
      this.#lines[place].area.setAttribute("d", area);
    });
    const shown = this.#at === null ? newest : nearest(samples, this.#at);
    const text = this.#series.map((name) => this.#text(shown[name])).join(" / ");
    const when = this.#at === null ? "" : ` at ${clock(shown.at)}`;
    write(this.#value, text);
    write(this.#highest, when ? when.trim() : `highest ${this.#format(Math.max(...values))}`);
    this.#cursor.setAttribute("visibility", this.#at === null ? "hidden" : "visible");
    this.#cursor.setAttribute("x1", x(shown.at));
    this.#cursor.setAttribute("x2", x(shown.at));
    this.#svg.setAttribute("aria-label", `${this.#title}: ${text} now, highest ${this.#format(Math.max(...values))}`);
  }

  #text(value) {
    return value === null || value === undefined ? "\u2013" : this.#format(value);
  }
}

function nearest(samples, at) {
  return samples.reduce((best, one) => (Math.abs(one.at - at) < Math.abs(best.at - at) ? one : best));
}

function paths(samples, name, x, y) {
  let line = "", area = "", before = null;
  for (const sample of samples) {
    const value = sample[name];
    if (value === null || value === undefined) continue;
    const point = `${x(sample.at).toFixed(1)} ${y(value).toFixed(1)}`;
    if (before === null || sample.at - before.at > GAP) {
      if (before) area += `L${x(before.at).toFixed(1)} ${HEIGHT}Z`;
      line += `M${point}`;
      area += `M${x(sample.at).toFixed(1)} ${HEIGHT}L${point}`;
    } else {
      line += `L${point}`;
      area += `L${point}`;
    }
    before = sample;
  }
  if (before) area += `L${x(before.at).toFixed(1)} ${HEIGHT}Z`;
  return { line, area };
}
