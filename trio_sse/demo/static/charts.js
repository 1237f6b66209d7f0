// Lines over the last five minutes, drawn by uPlot, with the times without a connection shaded.

import { clockMinute } from "./format.js";

const WINDOW_SECONDS = 300;
const BREAK_SECONDS = 3.5; // with a sample each second, a longer pause interrupts the line
const DROPPED_AT_ONCE = 60; // so that the arrays move once a minute, not each second
const FONT = '11px -apple-system, BlinkMacSystemFont, "Segoe UI", Roboto, Ubuntu, "Noto Sans", Arial, sans-serif';

const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Chart {
  #plot;
  #at = [];
  #values;
  #bands = [];
  #label = "";
  #lines;
  #onHover;

  // `lines` are {color, isFilled}, with names of custom properties as colors; `range` returns the scale's
  // [low, high] for the highest visible value; `onHover` receives {at, values}, or null when the pointer leaves.
  constructor(element, { lines, range, format, axisWidth, onHover }) {
    this.#lines = lines;
    this.#values = lines.map(() => []);
    this.#onHover = onHover;
    const size = () => ({ width: element.clientWidth, height: element.clientHeight });
    this.#plot = new uPlot(this.#options({ range, format, axisWidth, size: size() }), this.#data(), element);
    new ResizeObserver(() => this.#plot.setSize(size())).observe(element);
  }

  push(at, values) {
    const last = this.#at.at(-1);
    if (last !== undefined && at <= last) {
      if (last - at < BREAK_SECONDS) return;
      this.#drop(this.#at.length); // the server's clock was set back
    } else if (at - last > BREAK_SECONDS) {
      this.#append((at + last) / 2, values.map(() => null));
    }
    this.#append(at, values);
    const old = this.#at.findIndex((kept) => kept >= at - WINDOW_SECONDS - BREAK_SECONDS);
    if (old >= DROPPED_AT_ONCE) this.#drop(old);
  }

  // Draw up to `end`. `bands` are {from, to, kind}, where kind is "away" or "lost". All times here are the
  // server's. The label is for the last band that is "away".
  draw(end, bands, label = "") {
    this.#bands = bands.filter((band) => band.to > end - WINDOW_SECONDS);
    this.#label = label;
    this.#plot.batch(() => {
      this.#plot.setData(this.#data(), false);
      this.#plot.setScale("x", { min: end - WINDOW_SECONDS, max: end });
    });
    this.#hover();
  }

  get latest() {
    return this.#at.at(-1);
  }

  // The highest stored value of each line; about all stored values are visible.
  get highest() {
    return this.#values.map((values) => Math.max(0, ...values));
  }

  #append(at, values) {
    this.#at.push(at);
    values.forEach((value, index) => this.#values[index].push(value));
  }

  #drop(number) {
    this.#at.splice(0, number);
    for (const values of this.#values) values.splice(0, number);
  }

  #data() {
    return [this.#at, ...this.#values];
  }

  #options({ range, format, axisWidth, size }) {
    const axis = { stroke: () => color("--muted"), font: FONT, ticks: { show: false } };
    const splits = (plot, index, low, high) => [low, (low + high) / 2, high];
    return {
      ...size,
      legend: { show: false },
      padding: [10, 8, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 7 }, sync: { key: "machine" } },
      scales: {
        x: { time: true, auto: false },
        y: { range: (plot, low, high) => range(high ?? 0) },
      },
      axes: [
        { ...axis, size: 24, gap: 6, space: 64, incrs: [60, 120, 300], grid: { show: false },
          values: (plot, times) => times.map(clockMinute) },
        { ...axis, size: axisWidth, gap: 8, splits, values: (plot, values) => values.map(format),
          grid: { stroke: () => color("--grid"), width: 1 } },
      ],
      series: [{}, ...this.#lines.map(series)],
      hooks: {
        drawClear: [(plot) => this.#drawBands(plot)],
        draw: [(plot) => this.#drawLatest(plot)],
        setCursor: [() => this.#hover()],
      },
    };
  }

  #drawBands(plot) {
    const { left, top, width, height } = plot.bbox;
    const labelled = this.#label && this.#bands.findLast((band) => band.kind === "away");
    for (const band of this.#bands) {
      const { from, to, kind } = band;
      const start = Math.max(left, plot.valToPos(from, "x", true));
      const end = Math.min(left + width, Math.max(start + 2 * devicePixelRatio, plot.valToPos(to, "x", true)));
      const tint = color(`--band-${kind}`);
      plot.ctx.fillStyle = `${tint}33`;
      plot.ctx.fillRect(start, top, end - start, height);
      plot.ctx.fillStyle = tint;
      plot.ctx.fillRect(start, top, end - start, 3 * devicePixelRatio);
      if (band === labelled) drawLabel(plot, this.#label, start, end);
    }
  }

  #drawLatest(plot) {
    const last = this.#at.length - 1;
    this.#values.forEach((values, index) => {
      if (last < 0 || values[last] === null) return;
      plot.ctx.fillStyle = color(this.#lines[index].color);
      plot.ctx.beginPath();
      plot.ctx.arc(
        plot.valToPos(this.#at[last], "x", true), plot.valToPos(values[last], "y", true),
        3 * devicePixelRatio, 0, 2 * Math.PI,
      );
      plot.ctx.fill();
    });
  }

  #hover() {
    const { left } = this.#plot.cursor;
    const index = left >= 0 ? this.#plot.posToIdx(left) : -1; // the line moves under a resting pointer
    const values = this.#values.map((line) => line[index] ?? null);
    this.#onHover(values[0] === null ? null : { at: this.#at[index], values });
  }
}

function series(line) {
  const fill = (plot) => {
    const { top, height } = plot.bbox;
    const gradient = plot.ctx.createLinearGradient(0, top, 0, top + height);
    gradient.addColorStop(0, `${color(line.color)}4d`);
    gradient.addColorStop(1, `${color(line.color)}0a`);
    return gradient;
  };
  return {
    stroke: () => color(line.color),
    width: 1.75,
    fill: line.isFilled ? fill : undefined,
    points: { show: false },
  };
}

function drawLabel(plot, text, start, end) {
  const { ctx, bbox } = plot;
  const margin = 5 * devicePixelRatio;
  ctx.save();
  ctx.font = FONT.replace("11px", `600 ${11 * devicePixelRatio}px`);
  ctx.textBaseline = "top";
  ctx.fillStyle = color("--band-label");
  const fits = end + margin + ctx.measureText(text).width < bbox.left + bbox.width;
  ctx.textAlign = fits ? "left" : "right";
  ctx.fillText(text, fits ? end + margin : start - margin, bbox.top + 2 * devicePixelRatio);
  ctx.restore();
}
