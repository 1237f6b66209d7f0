// Watching a topic, publishing to it, ending a stream, and draining.

import { post, stream } from "./api.js";
import { find, make, write } from "./dom.js";
import { clock, count } from "./format.js";

const MOST_EVENTS = 100;

let watching = null; // an AbortController
let isToasting = 0;
let answer = null; // the function that takes the answer to the open question

export function toast(text, isError = false) {
  const element = find("#toast");
  write(element, text);
  element.className = isError ? "toast is-shown is-error" : "toast is-shown";
  clearTimeout(isToasting);
  isToasting = setTimeout(() => element.classList.remove("is-shown"), 6000);
}

export async function attempt(action, done) {
  try {
    await action();
    if (done) toast(done);
  } catch (error) {
    toast(error.message, true);
  }
}

// Ask a question; return whether the answer was yes. A new question answers an open one with no.
function confirm(title, text, yes) {
  const dialog = find("#confirm");
  answer?.(false);
  write(find("#confirm-title"), title);
  write(find("#confirm-text"), text);
  write(find("#confirm-yes"), yes);
  dialog.returnValue = "";
  if (!dialog.open) dialog.showModal();
  return new Promise((resolve) => {
    answer = resolve;
  });
}

// A browser fires "close" a moment after the dialog has closed: by then, the next question may be open.
function takeAnswer() {
  const dialog = find("#confirm");
  if (dialog.open) return;
  answer?.(dialog.returnValue === "yes");
  answer = null;
}

export async function confirmEnd({ id, pid, path, peer }) {
  if (!(await confirm(`End stream ${id}?`, `${path} of ${peer}. Its client may reconnect.`, "End it"))) return;
  await attempt(() => post("end", { id, pid }), `Stream ${id} was ended.`);
}

async function confirmDrain() {
  const text = `${find("#drain-text").textContent} This page will lose its stream, too.`;
  if (!(await confirm("Drain this server?", text, "Drain"))) return;
  await attempt(() => post("drain", { confirm: "drain" }), "The server drains.");
}

export async function confirmDrainNode({ id, name }) {
  const text = "All of this node shuts down gracefully. Its clients reconnect to others.";
  if (!(await confirm(`Drain node ${name}?`, text, "Drain"))) return;
  await attempt(() => post("drain", { confirm: "drain", node: id }), `Node ${name} was asked to drain.`);
}

export async function confirmDrainWorker({ pid }) {
  const text = "It shuts down gracefully, and another one takes its place. Its clients reconnect to any worker.";
  if (!(await confirm(`Drain worker ${pid}?`, text, "Drain"))) return;
  await attempt(() => post("drain", { confirm: "drain", pid }), `Worker ${pid} drains.`);
}

export function watchTopic(topic) {
  find("#watch-topic").value = topic;
  watch(topic);
  const isCalm = matchMedia("(prefers-reduced-motion: reduce)").matches;
  find("#live").scrollIntoView({ block: "nearest", behavior: isCalm ? "auto" : "smooth" });
}

export function stopWatching() {
  watching?.abort();
  watching = null;
  write(find("#watch-button"), "Watch");
}

async function watch(topic) {
  stopWatching();
  const controller = (watching = new AbortController());
  find("#events").replaceChildren();
  write(find("#watch-button"), "Stop");
  write(find("#live-status"), `Starting to watch ${topic}.`);
  try {
    await stream("watch", { topic }, controller.signal, (type, data) => note(topic, type, data));
    write(find("#live-status"), `The server has ended the watch of ${topic}.`);
  } catch (error) {
    write(find("#live-status"), error.name === "AbortError" ? `Stopped watching ${topic}.` : error.message);
  }
  if (watching === controller) stopWatching();
}

function note(topic, type, data) {
  const list = find("#events");
  if (type === "watching") write(find("#live-status"), `Watching ${topic}.`);
  else if (type === "left_out") {
    const what = data.events ? `${count(data.events)} more events` : "Some events";
    list.prepend(make("li", "left-out", `${what} were left out: there are too many to read.`));
  } else {
    const rest = data.size > data.data.length ? `\u2026 (${count(data.size)} characters)` : "";
    const head = make("span", "event-head", `${clock(Date.now() / 1000)} ${data.event} `, make("code", "faint", data.id ?? ""));
    list.prepend(make("li", "", head, make("code", "event-data", data.data + rest)));
  }
  while (list.children.length > MOST_EVENTS) list.lastElementChild.remove();
}

export function start() {
  find("#watch-form").addEventListener("submit", (event) => {
    event.preventDefault();
    if (watching) stopWatching();
    else watch(find("#watch-topic").value);
  });
  find("#publish-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const topic = find("#watch-topic");
    if (!topic.reportValidity()) return;
    const body = { topic: topic.value, data: find("#publish-data").value, event: find("#publish-event").value };
    attempt(() => post("publish", body), `Published to ${topic.value}.`);
  });
  find("#drain").addEventListener("click", confirmDrain);
  find("#confirm").addEventListener("close", takeAnswer);
}
