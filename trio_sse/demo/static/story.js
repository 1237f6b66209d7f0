// A log of what happened to the connection: one entry for each episode, the newest first.

import { find, make, write } from "./dom.js";
import { clock, count, events, seconds } from "./format.js";

const KEPT = 20;

export class Story {
  #list = find("#story");
  #steps = null; // of the current episode
  #waiting = null; // the step that counts the seconds of the outage

  history(number) {
    this.#begin();
    const replayed = number === 0 ? "no history to replay yet" : `replayed ${events(number)} of history`;
    this.#step("good", `Connected, ${replayed}`);
  }

  down(outage) {
    this.#begin();
    const cause = outage.asked ? "Cut: the server ended this stream, as you asked" : "The connection was lost";
    this.#step("bad", cause);
    this.#wait(outage);
  }

  retried(outage) {
    if (this.#waiting === null) this.#wait(outage); // it was connected, and was lost again
    write(this.#waiting.querySelector(".what"), reconnecting(outage));
  }

  // Show how long the connection has been away; called often.
  tick(awaySeconds) {
    if (this.#waiting !== null) write(this.#waiting.querySelector(".elapsed"), `for ${seconds(awaySeconds)}`);
  }

  back(outage) {
    this.#waiting?.parentElement.classList.remove("waiting");
    this.#waiting?.querySelector(".elapsed").remove();
    this.#waiting = null;
    const step = this.#step("good", `Reconnected after ${seconds(outage.away)}`);
    const id = outage.lastEventId ? [", with Last-Event-ID ", make("code", "", outage.lastEventId)]
      : [", on a new EventSource, which has no Last-Event-ID to send"];
    step.append(...id);
  }

  reset({ reason, lost }) {
    if (this.#steps === null) this.#begin();
    const loss = {
      expired: "The server's log no longer reaches back that far",
      unknown: "The server does not know that id, so it was probably restarted",
    }[reason] ?? `The server could not resume (${reason})`;
    const number = lost === null ? "an unknown number of events" : events(lost);
    this.#step("bad", `${loss}. Lost for good: ${number}`);
  }

  gap() {
    if (this.#steps === null) this.#begin();
    this.#step("bad", "A gap in the sequence that the server did not report");
  }

  balanced(outage) {
    const isWhole = outage.missed !== null && outage.lost === 0 && outage.doubled === 0;
    this.#step(isWhole ? "best" : "bad", balance(outage));
  }

  notCut() {
    this.#begin();
    this.#step("bad", "The server did not respond, or does not know this stream: nothing was cut");
  }

  #wait(outage) {
    this.#waiting = this.#step("waiting", reconnecting(outage));
    const elapsed = make("span", "elapsed");
    elapsed.setAttribute("aria-hidden", "true"); // it changes several times a second
    this.#waiting.append(" ", elapsed);
  }

  #begin() {
    this.#steps = make("ol", "episode");
    this.#list.prepend(this.#steps);
    while (this.#list.children.length > KEPT) this.#list.lastElementChild.remove();
  }

  #step(kind, text) {
    const now = Date.now() / 1000;
    const words = make("p", "", make("span", "what", text));
    const step = make("li", `step ${kind}`, make("time", "", clock(now)), words);
    this.#steps.append(step);
    this.#list.scrollTop = 0;
    return words;
  }
}

function reconnecting({ attempts }) {
  return attempts === 1 ? "Reconnecting" : `Reconnecting, attempt ${count(attempts)}`;
}

function balance({ missed, replayed, lost, doubled }) {
  if (missed === null) {
    const got = `Received ${events(replayed)} from the server's log, ${count(doubled)} duplicated`;
    return `${got}; how many were missed is unknown`;
  }
  const tally = `${count(lost)} lost, ${count(doubled)} duplicated`;
  if (missed === 0) return `Nothing was published meanwhile: ${tally}`;
  const got = replayed === missed ? `received all ${count(replayed)} later` : `received ${count(replayed)} later`;
  return `Missed ${events(missed)} while disconnected, ${got}: ${tally}`;
}
