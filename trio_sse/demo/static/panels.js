// The panels: the cores, the busiest processes, and the server's statistics.

import { fill, find, make, resize, write } from "./dom.js";
import { bytes, count, duration, percent } from "./format.js";

const MOST_LABELLED_CORES = 16; // with more, there is room for bars only
const ENDS_SHOWN = 4;

export function drawCores({ per_core: cores }) {
  const list = find("#cores");
  const isDense = cores.length > MOST_LABELLED_CORES;
  list.classList.toggle("dense", isDense);
  const cells = resize(list, cores.length, () =>
    make("li", "core", make("span", "core-name"), make("span", "bar"), make("span", "core-value")));
  cores.forEach((value, index) => {
    const [name, bar, text] = cells[index].children;
    write(name, `core ${index}`);
    fill(bar, value / 100);
    write(text, percent(value));
  });
}

export function drawProcesses({ top }) {
  const rows = resize(find("#processes tbody"), top.length, () => {
    const bars = ["cpu", "memory"].map((kind) =>
      make("td", `measure ${kind}`, make("span", "bar"), make("span", "value")));
    return make("tr", "", make("th", "name"), make("td", "pid"), ...bars);
  });
  const mostMemory = Math.max(1, ...top.map((process) => process.memory));
  const mostCpu = Math.max(10, ...top.map((process) => process.cpu)); // so that an idle machine looks idle
  top.forEach((process, index) => {
    const [name, pid, cpu, memory] = rows[index].children;
    name.scope = "row";
    name.title = process.name;
    write(name, process.name);
    write(pid, process.pid);
    measure(cpu, process.cpu / mostCpu, percent(process.cpu));
    measure(memory, process.memory / mostMemory, bytes(process.memory));
  });
}

export function drawServer(server) {
  for (const element of document.querySelectorAll("[data-server]")) {
    write(element, count(server[element.dataset.server]));
  }
  drawEnded(Object.entries(server.ended));
  drawLastEnds(server.last_ends.slice(0, ENDS_SHOWN));
}

function drawEnded(reasons) {
  const chips = resize(find("#ended"), reasons.length, () => make("li", "chip", make("b"), make("span")));
  reasons.forEach(([reason, number], index) => {
    const [value, name] = chips[index].children;
    write(value, count(number));
    write(name, words(reason));
  });
}

function drawLastEnds(ends) {
  find("#last-ends").hidden = ends.length === 0;
  const rows = resize(find("#last-ends tbody"), ends.length, () =>
    make("tr", "", make("th", "name"), make("td", "reason"), make("td", "number"), make("td", "number")));
  ends.forEach((end, index) => {
    const [name, reason, lasted, events] = rows[index].children;
    name.scope = "row";
    write(name, end.id);
    write(reason, words(end.reason));
    write(lasted, duration(end.seconds));
    write(events, count(end.events));
  });
}

function measure(cell, share, text) {
  const [bar, value] = cell.children;
  fill(bar, share);
  write(value, text);
}

const words = (name) => String(name).replaceAll("_", " ");
