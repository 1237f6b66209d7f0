// The console: logging in, and the stream of snapshots.

import { logIn, post, resume } from "./api.js";
import { attempt, start, stopWatching } from "./actions.js";
import { find, write } from "./dom.js";
import { showHistory, showSilence, showSnapshot } from "./panels.js";

const RETRY = 3000; // milliseconds
const LEAST_SILENCE = 5000; // milliseconds without a snapshot, after which the server is silent
const MOST_INTERVALS = 3; // or as many intervals of snapshots

let source = null;
let isPaused = false;
let latest = null;
let latestAt = 0; // when it came, in milliseconds

const STATUS = { connecting: "Connecting", live: "Live", paused: "Paused", reconnecting: "Reconnecting", silent: "No answer", out: "Logged out" };

function become(status, text = "") {
  const shown = status === "live" && isPaused ? "paused" : status;
  const element = find("#status");
  element.ariaLive = shown === "silent" ? "off" : "polite"; // its seconds are not read out one by one
  element.dataset.status = shown;
  write(find("#status-text"), text || STATUS[shown]);
}

// Whatever the connection says: a server whose event loop is blocked sends nothing, and its page must not look live.
function checkSilence() {
  if (!latest || find("#console").hidden) return;
  const passed = performance.now() - latestAt;
  if (passed <= Math.max(LEAST_SILENCE, MOST_INTERVALS * latest.interval * 1000)) return;
  if (!isPaused) showSilence();
  if (source?.readyState === EventSource.OPEN) become("silent", `No answer for ${Math.floor(passed / 1000)}\u00a0s`);
}

function signedIn(isIn) {
  find("#login").hidden = isIn;
  find("#console").hidden = !isIn;
  for (const element of document.querySelectorAll(".signed-in")) element.hidden = !isIn;
}

// Take a token out of the address, where the server's link has it. It must not stay in the history.
function tokenOfLink() {
  const token = new URLSearchParams(location.hash.slice(1)).get("token");
  if (token !== null) history.replaceState(null, "", location.pathname + location.search);
  return token;
}

function showLogin(text = "") {
  source?.close();
  stopWatching();
  become("out");
  signedIn(false);
  write(find("#login-error"), text);
  find("#token").value = "";
  find("#token").focus();
}

function follow() {
  signedIn(true);
  become("connecting");
  latestAt = performance.now();
  source?.close();
  source = new EventSource("stream");
  source.addEventListener("history", ({ data }) => showHistory(JSON.parse(data)));
  source.addEventListener("snapshot", ({ data }) => {
    become("live");
    latest = JSON.parse(data);
    latestAt = performance.now();
    if (!isPaused) showSnapshot(latest);
  });
  source.addEventListener("error", () => {
    become("reconnecting");
    if (source.readyState === EventSource.CLOSED) setTimeout(begin, RETRY);
  });
}

async function begin() {
  try {
    await resume();
    follow();
  } catch (error) {
    if (error.status === 401) showLogin();
    else if (error.status === 403) showLogin(error.message);
    else setTimeout(begin, RETRY);
  }
}

async function enter(token) {
  try {
    await logIn(token);
    follow();
  } catch (error) {
    showLogin(error.message);
  }
}

function pause() {
  isPaused = !isPaused;
  find("#pause").setAttribute("aria-pressed", String(isPaused));
  if (!isPaused && latest) showSnapshot(latest);
  if (source?.readyState === EventSource.OPEN) become("live");
  checkSilence();
}

start();
find("#login-form").addEventListener("submit", (event) => {
  event.preventDefault();
  enter(find("#token").value);
});
find("#logout").addEventListener("click", () => attempt(async () => {
  await post("logout", {});
  showLogin();
}));
find("#pause").addEventListener("click", pause);
setInterval(checkSilence, 1000);
addEventListener("hashchange", () => {
  const token = tokenOfLink();
  if (token !== null) enter(token);
});

const token = tokenOfLink();
if (token === null) begin();
else enter(token);
