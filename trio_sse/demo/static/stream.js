// The EventSource's life: its outages, and what each of them cost.
//
// The browser reconnects, and sends Last-Event-ID. This only watches, and computes the balance of each outage
// from the ledger. If the browser gives up, because the server answered with an error, this makes a new
// EventSource.
//
// Times are unix seconds by this page's clock. The server's clock may differ. So `skew` is the smallest
// difference between an event's arrival and its `at`: the difference of the clocks plus the fastest delivery.

import { Ledger } from "./ledger.js";

const TOPICS = ["cpu", "memory", "network", "processes", "server"];
const GIVEN_UP_MS = 3000; // until a new EventSource: the same time as the `retry` of the server
const HISTORY_MS = 1500; // from the first connection until the first live events have set `skew`
const CATCH_UP_MS = 10_000; // the balance of an outage is shown by then, even if no live event has arrived
const KEPT = 50;

const now = () => Date.now() / 1000;

export class Stream {
  state = {
    status: "connecting", // then "catching-up", "live", "reconnecting"
    received: 0, gaps: 0, doubles: 0, lost: 0, unknownLosses: 0,
    lastEventId: "",
    history: null, // events from before this page, once counted
    cuts: [], // outages, oldest first
    resets: [],
    losses: [], // periods of the server's time without events, as {from, to}
  };
  lastArrival = now();
  #client;
  #listener;
  #source;
  #ledger = new Ledger();
  #skew = Infinity;
  #outage = null; // from the first error until its balance is shown
  #history = null; // the `at` of all events so far, while the first connection's history is being counted
  #before = null; // the ledger as it was when the outage began
  #openedAt = 0;
  #lastAt = null;
  #isCutAsked = false;
  #timer = 0;

  // The listener's methods: `event(topic, data)`, `status()`, and the story's `history(count)`,
  // `down(outage)`, `retried(outage)`, `back(outage)`, `reset(reset)`, `gap()`, `balanced(outage)`.
  constructor(client, listener) {
    this.#client = client;
    this.#listener = listener;
  }

  open() {
    this.#source = new EventSource(`/events?client=${this.#client}`);
    this.#source.addEventListener("open", () => this.#opened());
    this.#source.addEventListener("error", () => this.#failed());
    this.#source.addEventListener("reset", (message) => this.#reset(message));
    for (const topic of TOPICS) {
      this.#source.addEventListener(topic, (message) => this.#take(topic, message));
    }
  }

  // Ask the server to end this stream; return whether it did.
  async cut() {
    this.#isCutAsked = true; // before the request, because the stream may end before the response arrives
    const response = await fetch(`/cut?client=${this.#client}`, { method: "POST" }).catch(() => null);
    if (!response?.ok) this.#isCutAsked = false;
    return Boolean(response?.ok);
  }

  // Convert a time from this page's clock to the server's.
  serverTime(time = now()) {
    return time - (Number.isFinite(this.#skew) ? this.#skew : 0);
  }

  #opened() {
    this.#openedAt = now();
    clearTimeout(this.#timer);
    const outage = this.#outage;
    if (outage === null) {
      this.#history = [];
      this.#timer = setTimeout(() => this.#countHistory(), HISTORY_MS);
    } else {
      outage.backAt = this.#openedAt;
      outage.away = outage.backAt - outage.cutAt;
      this.#listener.back(outage);
      this.#timer = setTimeout(() => this.#balance(0), CATCH_UP_MS);
    }
    this.#setStatus("catching-up");
  }

  #failed() {
    clearTimeout(this.#timer);
    if (this.#history !== null) this.#countHistory();
    const hasGivenUp = this.#source.readyState === EventSource.CLOSED;
    if (this.#outage === null) this.#beginOutage();
    else this.#continueOutage();
    if (hasGivenUp) {
      this.#outage.lastEventId = "";
      this.#timer = setTimeout(() => {
        this.#ledger.allowRepeats();
        this.open();
      }, GIVEN_UP_MS);
    }
    this.#setStatus("reconnecting");
  }

  #beginOutage() {
    this.#before = this.#ledger.snapshot();
    this.#outage = {
      asked: this.#isCutAsked,
      cutAt: now(),
      attempts: 1, // the one that starts now
      backAt: null,
      away: null, // seconds
      lastEventId: this.state.lastEventId, // what the browser sends; nothing, if it gives up
      missed: null, // by sequence numbers; null, like `lost`, if the epoch has changed
      replayed: null,
      lost: null,
      doubled: null,
      settled: false,
    };
    this.#isCutAsked = false;
    this.state.cuts = [...this.state.cuts, this.#outage].slice(-KEPT);
    this.#listener.down(this.#outage);
  }

  #continueOutage() {
    this.#outage.backAt = null;
    this.#outage.away = null;
    this.#outage.attempts += 1;
    this.#listener.retried(this.#outage);
  }

  #take(topic, message) {
    const data = JSON.parse(message.data);
    this.lastArrival = now();
    this.#skew = Math.min(this.#skew, this.lastArrival - data.at);
    const verdict = this.#ledger.take(message.lastEventId);
    this.#copyLedger(message.lastEventId);
    if (verdict === "double" || verdict === "repeat") return;
    if (verdict === "gap") {
      this.#markLoss();
      this.#listener.gap();
    }
    this.#closeLoss(data.at);
    this.#history?.push(data.at);
    const isLive = data.at + this.#skew >= this.#openedAt;
    if (this.#outage !== null && isLive) this.#balance(1);
    this.#lastAt = data.at;
    this.#listener.event(topic, data);
  }

  #reset(message) {
    const lost = this.#ledger.reset(message.lastEventId);
    const reset = { reason: JSON.parse(message.data).reason, lost, id: message.lastEventId, time: now() };
    this.state.resets = [...this.state.resets, reset].slice(-KEPT);
    this.#copyLedger(message.lastEventId);
    if (lost !== 0) this.#markLoss();
    this.#listener.reset(reset);
  }

  #countHistory() {
    const isHistory = (at) => at + this.#skew < this.#openedAt;
    this.state.history = this.#history.filter(isHistory).length;
    this.#history = null;
    this.#listener.history(this.state.history);
    this.#setStatus("live");
  }

  // Show the balance of the outage; `live` is the number of received events that were published after it.
  #balance(live) {
    const outage = this.#outage;
    const before = this.#before;
    const after = this.#ledger.snapshot();
    clearTimeout(this.#timer);
    this.#outage = null;
    outage.replayed = after.received - before.received - live;
    outage.doubled = after.doubles - before.doubles;
    if (after.unknownLosses === before.unknownLosses && before.sequence !== null) {
      outage.missed = after.sequence - before.sequence - live;
      outage.lost = after.lost - before.lost;
    }
    outage.settled = true;
    this.#listener.balanced(outage);
    this.#setStatus("live");
  }

  #markLoss() {
    if (this.#lastAt === null) return;
    this.state.losses = [...this.state.losses, { from: this.#lastAt, to: null }].slice(-KEPT);
  }

  #closeLoss(at) {
    const loss = this.state.losses.at(-1);
    if (loss && loss.to === null) loss.to = at;
  }

  #copyLedger(lastEventId) {
    const { received, gaps, doubles, lost, unknownLosses } = this.#ledger;
    Object.assign(this.state, { received, gaps, doubles, lost, unknownLosses, lastEventId });
  }

  #setStatus(status) {
    this.state.status = status;
    this.#listener.status();
  }
}
