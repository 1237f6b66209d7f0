// The page: it shows the stream's events in charts and panels, and its connects and disconnects in the story.

import { Chart } from "./charts.js";
import { find, write } from "./dom.js";
import { bytes, clock, count, percent, rate, seconds } from "./format.js";
import { drawCores, drawProcesses, drawServer } from "./panels.js";
import { Story } from "./story.js";
import { Stream } from "./stream.js";

const SILENT_SECONDS = 5;
const TICK_MS = 200;
const STATUS = {
  connecting: "Connecting",
  "catching-up": "Catching up",
  live: "Live",
  reconnecting: "Reconnecting",
};

const latest = {}; // the newest data of each topic
const undrawn = new Set(); // topics with events since the last frame
let frame = 0;

// A number beside a chart: the newest, or the one under the pointer.
function readout(selector, show) {
  const element = find(selector);
  const note = element.querySelector(".at");
  return (hovered, newest) => {
    const values = hovered?.values ?? newest;
    if (values) show(element, values);
    write(note, hovered ? `at ${clock(hovered.at)}` : "");
  };
}

const into = (element, part, text) => write(element.querySelector(`[data-part="${part}"]`), text);

function niceCeiling(value) {
  const magnitude = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * magnitude).find((ceiling) => ceiling >= value);
}

const readouts = {
  cpu: readout("#cpu-readout", (element, [share]) => into(element, "percent", percent(share))),
  memory: readout("#memory-readout", (element, [share]) => into(element, "percent", percent(share))),
  network: readout("#network-readout", (element, [received, sent]) => {
    into(element, "received", rate(received));
    into(element, "sent", rate(sent));
  }),
};

const valuesOf = {
  cpu: (data) => [data.percent],
  memory: (data) => [data.percent],
  network: (data) => [data.received_per_second, data.sent_per_second],
};

function chart(topic, options) {
  const newest = () => latest[topic] && valuesOf[topic](latest[topic]);
  return new Chart(find(`#${topic}-chart`), {
    ...options,
    onHover: (hovered) => readouts[topic](hovered, newest()),
  });
}

const whole = { range: () => [0, 100], format: (value) => `${value}\u00a0%`, axisWidth: 50 };
const charts = {
  cpu: chart("cpu", { ...whole, lines: [{ color: "--cpu", isFilled: true }] }),
  memory: chart("memory", { ...whole, lines: [{ color: "--memory", isFilled: true }] }),
  network: chart("network", {
    lines: [{ color: "--received", isFilled: true }, { color: "--sent", isFilled: false }],
    range: (high) => [0, niceCeiling(Math.max(high * 1.05, 1000))],
    format: rate,
    axisWidth: 66,
  }),
};

const draw = {
  cpu(data) {
    drawCores(data);
    write(find("#load"), data.load.map((load) => load.toFixed(2)).join("  "));
  },
  memory(data) {
    write(find("#memory-used"), `${bytes(data.used)} of ${bytes(data.total)}`);
    write(find("#swap"), percent(data.swap_percent));
  },
  network() {
    const [received, sent] = charts.network.highest;
    write(find("#network-highest"), `in ${rate(received)}, out ${rate(sent)}`);
  },
  processes: drawProcesses,
  server: drawServer,
};

const story = new Story();
const token = Array.from(crypto.getRandomValues(new Uint8Array(12)), (byte) => byte.toString(16).padStart(2, "0"));
const stream = new Stream(token.join(""), {
  event(topic, data) {
    latest[topic] = data;
    if (topic in charts) charts[topic].push(data.at, valuesOf[topic](data));
    undrawn.add(topic);
    schedule();
  },
  status: drawStatus,
  history: (number) => story.history(number),
  down: (outage) => story.down(outage),
  retried: (outage) => story.retried(outage),
  back: (outage) => story.back(outage),
  reset: (reset) => story.reset(reset),
  gap: () => story.gap(),
  balanced: (outage) => story.balanced(outage),
});
const { state } = stream;

// All events that arrive between two frames are drawn at once.
function schedule() {
  frame ||= requestAnimationFrame(() => {
    frame = 0;
    for (const topic of undrawn) draw[topic](latest[topic]);
    undrawn.clear();
    drawCharts();
    drawContinuity();
  });
}

function drawCharts() {
  const newest = Math.max(...Object.values(charts).map(({ latest: at }) => at ?? 0));
  // Time goes on while disconnected, and the shaded band grows.
  const end = state.status === "reconnecting" || newest === 0 ? Math.max(newest, stream.serverTime()) : newest;
  const outages = state.cuts.map(({ cutAt, backAt }) => (
    { from: stream.serverTime(cutAt), to: backAt ? stream.serverTime(backAt) : end, kind: "away" }));
  const losses = state.losses.map(({ from, to }) => ({ from, to: to ?? end, kind: "lost" }));
  const bands = [...outages, ...losses];
  const last = state.cuts.at(-1);
  // One label is enough: on the largest chart, for the last outage.
  charts.cpu.draw(end, bands, last && `disconnected for ${seconds(last.away ?? end - stream.serverTime(last.cutAt))}`);
  charts.memory.draw(end, bands);
  charts.network.draw(end, bands);
}

function drawContinuity() {
  for (const name of ["received", "gaps", "doubles", "lost"]) {
    write(find(`#${name}`), count(state[name]));
    find(`#${name}`).parentElement.classList.toggle("is-zero", state[name] === 0);
  }
  if (state.unknownLosses > 0) write(find("#lost"), `${count(state.lost)} + ?`);
  find("#lost").parentElement.classList.toggle("is-zero", state.lost === 0 && state.unknownLosses === 0);
  write(find("#last-event-id"), state.lastEventId || "none yet");
}

function drawStatus() {
  const silence = Date.now() / 1000 - stream.lastArrival;
  const isSilent = state.status === "live" && silence > SILENT_SECONDS;
  find("#status").dataset.status = isSilent ? "silent" : state.status;
  write(find("#status-text"), isSilent ? "Silent" : STATUS[state.status]);
  find("#cut").setAttribute("aria-disabled", String(state.status !== "live"));
}

function tick() {
  drawStatus();
  const outage = state.cuts.at(-1);
  if (state.status !== "reconnecting" || !outage) return;
  story.tick(Date.now() / 1000 - outage.cutAt);
  schedule();
}

async function cut() {
  if (state.status !== "live") return;
  if (!(await stream.cut())) story.notCut();
}

async function copyCommand() {
  const command = find("#curl");
  let isCopied = false;
  try {
    await navigator.clipboard.writeText(command.textContent);
    isCopied = true;
  } catch { // not allowed, or not a secure origin: select it instead
    getSelection().selectAllChildren(command);
  }
  write(find("#copy-text"), isCopied ? "Copied" : "Selected");
  setTimeout(() => write(find("#copy-text"), "Copy"), 2000);
}

write(find("#curl"), `curl -N ${location.origin}/events`);
find("#cut").addEventListener("click", cut);
find("#copy").addEventListener("click", copyCommand);
document.documentElement.addEventListener("theme", schedule);
addEventListener("pageshow", (shown) => shown.persisted && location.reload());
setInterval(tick, TICK_MS);
window.demo = { state };
drawStatus();
stream.open();
