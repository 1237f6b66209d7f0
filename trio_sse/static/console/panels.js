// Shows a snapshot.

import { find, make, resize, write } from "./dom.js";
import { bytes, clock, count, duration, percent, rate, seconds } from "./format.js";
import { Chart } from "./charts.js";
import { Table } from "./tables.js";
import { confirmDrainNode, confirmDrainWorker, confirmEnd, watchTopic } from "./actions.js";

const SPAN = 300;
const SILENT = 20; // seconds; a worker with many streams reports every few seconds

const perSecond = (value) => `${count(value)}/s`;
const short = (value) => (value < 1 ? `${count(value * 1000)}\u00a0ms` : seconds(value));

const CHARTS = [
  { title: "Open streams", series: ["open_streams"], format: count, lowestTop: 4 },
  { title: "Events sent", series: ["events_rate"], format: perSecond, lowestTop: 4 },
  { title: "Bytes sent", series: ["bytes_rate"], format: rate, lowestTop: 1000 },
  { title: "Published", series: ["published_rate"], format: perSecond, lowestTop: 4 },
  { title: "Event loop busy", series: ["loop_busy"], format: (value) => percent(value * 100), lowestTop: 0.1 },
  { title: "Longest turn", series: ["longest_turn"], format: short, lowestTop: 0.02 },
  { title: "Lagging streams", series: ["lagging"], format: count, lowestTop: 4 },
  { title: "Memory", series: ["memory"], format: bytes, lowestTop: 1 },
];

const PROBLEMS = {
  draining: "Draining: no new clients are accepted",
  not_serving: "Not serving",
  hub_not_running: "The hub does not run",
  app_not_running: "The app does not run",
  log_not_loaded: "The shared log was never read",
  log_unavailable: "The shared log is unavailable",
  log_not_writable: "The shared log takes no events",
  full: "Full: new clients are refused",
  log_lagging: "More is in the shared log than was read",
};

const DRAIN_SERVER = "A graceful shutdown: clients reconnect elsewhere, or when the server is there again.";
const DRAIN_WORKERS = "A graceful shutdown of all workers, and of the program that starts them: clients reconnect elsewhere, or when it is there again.";

const NUMBERS = [
  ["Opened so far", (totals) => count(totals.opened)],
  ["Oldest stream", (totals) => duration(totals.oldest)],
  ["Events sent", (totals) => count(totals.events_sent)],
  ["Bytes sent", (totals) => bytes(totals.bytes_sent)],
  ["Published", (totals) => count(totals.published)],
  ["Deliveries", (totals) => count(totals.deliveries)],
  ["Replayed", (totals) => count(totals.replayed)],
  ["Resets", (totals) => count(totals.resets)],
  ["Dropped for slow readers", (totals) => count(totals.dropped)],
  ["Topics with subscribers", (totals) => count(totals.topics)],
  ["Queued", (totals) => `${count(totals.queued_events)} (${bytes(totals.queued_bytes)})`],
  ["Waits for slow clients", (totals) => bytes(totals.pending_bytes)],
  ["Cut, as too much waited", (totals) => count(totals.pending_cut)],
  ["In the log", (totals) => `${count(totals.log_events)} (${bytes(totals.log_bytes)})`],
  ["Log outages", (totals) => count(totals.log_outages)],
  ["Publish to written, 99\u00a0%", (_, { latency }) => (latency.p99 === null ? "\u2013" : `under ${short(latency.p99)}`)],
  ["Descriptors", (totals) => `${count(totals.descriptors ?? 0)} of ${totals.max_descriptors ? count(totals.max_descriptors) : "?"}`],
  ["Turned away", (totals) => count(totals.turned_away)],
];

const charts = CHARTS.map((options) => new Chart(options));
find("#charts").append(...charts.map((chart) => chart.element));

const streams = new Table(find("#streams"), {
  key: (stream) => `${stream.pid} ${stream.id}`,
  cells: (stream) => [
    `#${stream.id}`, stream.path, stream.identity ? `${stream.peer} (${stream.identity})` : stream.peer,
    stream.topics.join(", "), duration(stream.age),
    `${count(stream.events)} (${bytes(stream.bytes)})`, stream.waiting_bytes ? bytes(stream.waiting_bytes) : "0",
  ],
  act: { label: "End", describe: (stream) => `End stream ${stream.id}`, run: confirmEnd },
  empty: "No stream is open.",
});
const topics = new Table(find("#topics"), {
  key: (topic) => topic.name,
  cells: (topic) => [
    topic.name, count(topic.subscribers), topic.rate === null ? "\u2013" : count(topic.rate),
    `${count(topic.log_events)} (${bytes(topic.log_bytes)})`,
  ],
  act: { label: "Watch", describe: (topic) => `Watch ${topic.name}`, run: (topic) => watchTopic(topic.name) },
  empty: "No topic has subscribers.",
});
const ends = new Table(find("#ends"), {
  key: (end) => `${end.at} ${end.pid} ${end.id}`,
  cells: (end) => [clock(end.at), `#${end.id}`, end.reason.replaceAll("_", " "), end.path, duration(end.age)],
  empty: "No stream has ended since the server started.",
});
const kinds = new Table(find("#kinds"), {
  key: (kind) => `${kind.route} ${kind.transport} ${kind.http} ${kind.tls}`,
  cells: (kind) => [kind.route, kind.transport, `${kind.http}${kind.tls ? " TLS" : ""}`, count(kind.open)],
  empty: "No stream is open.",
});
const load = (one) => [
  count(one.open_streams ?? 0), one.rate === null ? "\u2013" : count(one.rate), count(one.lagging ?? 0),
  short(one.longest_turn ?? 0), bytes(one.memory ?? 0), count(one.descriptors ?? 0),
];
const nodes = new Table(find("#nodes"), {
  key: (node) => node.id,
  cells: (node) => [
    node.id === ownNode ? `${node.name} (answers you)` : node.name, node.state, count(node.processes ?? 1), ...load(node),
  ],
  act: { label: "Drain", describe: ({ name }) => `Drain node ${name}`, run: confirmDrainNode },
  empty: "",
});
const workers = new Table(find("#workers"), {
  key: (worker) => worker.pid,
  cells: (worker) => [
    worker.pid === ownWorker ? `${worker.pid} (answers you)` : `${worker.pid}`, worker.state, ...load(worker),
  ],
  act: { label: "Drain", describe: ({ pid }) => `Drain worker ${pid}`, run: confirmDrainWorker },
  empty: "",
});

let ownNode = null; // the node that answers, also for the rows of nodes that have ended
let ownWorker = null;
let samples = [];
let nodesBefore = new Map();
let workersBefore = new Map();

export function showHistory(history) {
  samples = history.samples;
  for (const chart of charts) chart.show(samples);
}

export function showSnapshot(snapshot) {
  const { sample, totals } = snapshot;
  if (sample) samples = [...samples.filter(({ at }) => at > sample.at - SPAN && at < sample.at), sample];
  for (const chart of charts) chart.show(samples);
  showProblems(snapshot.problems);
  const processes = snapshot.workers.length;
  const what = processes ? `${processes} workers, shown by process` : "Process";
  write(find("#about"), `${what} ${snapshot.pid}. Last update ${clock(snapshot.at)}.`);
  write(find("#drain-text"), processes ? DRAIN_WORKERS : DRAIN_SERVER);
  streams.show(snapshot.streams);
  topics.show(snapshot.topics);
  ends.show(snapshot.ends);
  kinds.show(snapshot.kinds);
  showChips(find("#ended"), snapshot.ended);
  showChips(find("#refused"), snapshot.refused);
  showNumbers(totals, snapshot);
  showNodes(snapshot);
  showWorkers(snapshot);
}

// Without an answer, nobody knows whether the problems are still there.
export function showSilence() {
  const [item] = resize(find("#problems"), 1, () => make("li"));
  write(item, "Problems unknown: the server does not answer");
  item.className = "";
}

function showProblems(problems) {
  const texts = problems.length ? problems.map((problem) => PROBLEMS[problem] ?? problem) : ["No problems"];
  const items = resize(find("#problems"), texts.length, () => make("li"));
  texts.forEach((text, place) => {
    write(items[place], text);
    items[place].className = problems.length ? "is-bad" : "is-good";
  });
}

function showChips(list, counts) {
  const pairs = Object.entries(counts).sort(([, one], [, other]) => other - one);
  const items = resize(list, pairs.length || 1, () => make("li"));
  if (!pairs.length) write(items[0], "none");
  pairs.forEach(([name, number], place) => write(items[place], `${name.replaceAll("_", " ")} ${count(number)}`));
}

function showNumbers(totals, snapshot) {
  const cells = resize(find("#numbers"), NUMBERS.length, () => make("div", "", make("dt"), make("dd")));
  NUMBERS.forEach(([name, text], place) => {
    write(cells[place].firstChild, name);
    write(cells[place].lastChild, text(totals, snapshot));
  });
}

// Set the rate of each report, since the report before it. Each has its own clock.
function setRates(reports, reportsBefore, key) {
  for (const report of reports) {
    const before = reportsBefore.get(report[key]);
    const passed = before ? report.at - before.at : 0;
    if (before && passed === 0) report.rate = before.rate;
    else report.rate = passed > 0 ? Math.max(0, report.events_sent - before.events_sent) / passed : null;
  }
  return new Map(reports.map((report) => [report[key], report]));
}

function showNodes({ nodes: reports }) {
  find("#nodes-card").hidden = !reports.length;
  nodesBefore = setRates(reports, nodesBefore, "id");
  ownNode = reports.find((node) => node.is_own)?.id ?? null;
  for (const node of reports) node.state = stateOf(node, node.at);
  nodes.show(reports);
}

function showWorkers({ workers: reports, at, pid }) {
  find("#workers-card").hidden = !reports.length;
  workersBefore = setRates(reports, workersBefore, "pid");
  ownWorker = pid;
  for (const worker of reports) worker.state = stateOf(worker, at);
  workers.show(reports);
}

function stateOf(worker, now) {
  if (now - worker.at > SILENT) return `silent for ${duration(now - worker.at)}`;
  if (worker.is_draining) return "draining";
  return worker.problems.join(", ").replaceAll("_", " ") || "serves";
}
