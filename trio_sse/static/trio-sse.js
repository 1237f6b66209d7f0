// trio_sse for pages: streams that are followed through bad networks, a clock that is the server's, and states.
//
// No dependency, no build step: a script tag, or `import "/trio-sse.js"`, makes the global `TrioSSE`. Its parts:
//
// - `follow(url)`: an EventSource that falls back to long polling where streams don't get through;
// - `clock(source)`: the time of `hub.run_ticker`, right from the first paint and between the ticks;
// - `state(source, callback)`: the value of `hub.state`, kept up to date by its patches.
//
// Seconds are seconds and milliseconds are called so. What passes is measured by performance.now(), which nobody sets.

globalThis.TrioSSE = (() => {
  "use strict";

  const STRIKES = 3; // streams that broke early, one after the other, until it is polled
  const FINAL_UNLESS = [408, 425, 429]; // of the statuses 4xx, those after which trying again makes sense
  const SAMPLES = 20; // ticks from which a clock is set

  /**
   * @typedef {object} FollowOptions
   * @property {string} [lastEventId] - the cursor to begin after, as the server gave it
   * @property {boolean} [withCredentials] - send cookies to another origin, too
   * @property {number} [wait] - seconds for which the server may hold a poll back
   * @property {number} [patience] - seconds within which a stream must open; one that broke within them is a strike
   * @property {number} [streamAgain] - seconds of polling until a stream is tried again; doubled, up to ten times that
   * @property {number} [firstDelay] - seconds until another try after a failure; doubled with each that follows
   * @property {number} [longestDelay]
   */

  /** @type {Required<FollowOptions>} */
  const DEFAULTS = {
    lastEventId: "", withCredentials: false, wait: 25, patience: 10, streamAgain: 60, firstDelay: 1, longestDelay: 30,
  };

  // Run `action` in so many seconds unless the signal is aborted before; gives a function that calls it off.
  function after(seconds, signal, action) {
    if (signal.aborted) return () => {};
    const stop = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", stop);
    };
    const timer = setTimeout(() => { stop(); action(); }, seconds * 1000);
    signal.addEventListener("abort", stop);
    return stop;
  }

  // The seconds that a response asks to wait, by its Retry-After (RFC 9110, 10.2.3), or 0; an hour at the most.
  function retryAfter(response) {
    const text = response.headers.get("Retry-After") ?? "";
    const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
    return Math.min(3600, Math.max(0, seconds)) || 0;
  }

  /**
   * Follows a URL for good. Events of the server are dispatched as EventSource does, under their types, whichever way
   * they came; "statuschange" tells that `status` has changed.
   *
   * At any time one thing goes on: a stream, a series of polls, or a wait. Each holds a signal, which the next one
   * aborts first; so there are never two that give events, and all go on from the one cursor, `lastEventId`.
   */
  class Follower extends EventTarget {
    /** @type {"connecting" | "streaming" | "polling" | "waiting" | "closed"} */
    status = "connecting";
    /** @type {(Error & {status: number}) | null} why the server refuses, once it is closed by that */
    error = null;
    lastEventId;
    #url;
    #options;
    #types = new Set();
    #source = null;
    #ongoing = new AbortController();
    #failures = 0; // in a row
    #hasShown = false; // this stream has given an event, so nobody on the way withholds it
    #streamAt = 0; // performance.now() from which on a stream may be tried
    #streamPause; // seconds

    constructor(url, options) {
      super();
      this.#url = new URL(url, globalThis.document?.baseURI);
      this.#options = { ...DEFAULTS, ...options };
      this.#streamPause = this.#options.streamAgain;
      this.lastEventId = options.lastEventId || (this.#url.searchParams.get("last_event_id") ?? "");
      for (const type of ["message", "reset"]) this.#listenFor(type); // both move the cursor, heard or not
      this.#stream(STRIKES);
    }

    get url() {
      return this.#url.href;
    }

    addEventListener(type, listener, options) {
      super.addEventListener(type, listener, options);
      this.#listenFor(type);
    }

    /** Forget the cursor and connect anew, soon: as all clients may have the same reason, not all in one instant. */
    restart() {
      if (this.status === "closed") return;
      this.lastEventId = "";
      this.#wait(this.#jittered(this.#options.firstDelay));
    }

    /** End it, for good. */
    close() {
      this.#ongoing.abort();
      this.#become("closed");
    }

    // A stream. The browser comes back by itself, with its Last-Event-ID, as long as that works.

    #stream(strikes) {
      const signal = this.#supersede("connecting");
      if (signal.aborted) return;
      const { patience, withCredentials } = this.#options;
      const source = new EventSource(this.#address(this.lastEventId), { withCredentials });
      signal.addEventListener("abort", () => source.close());
      this.#source = source;
      for (const type of this.#types) this.#listenOn(source, type);
      let openedAt = null;
      let stopTimer = after(patience, signal, () => this.#poll());
      source.addEventListener("open", () => {
        stopTimer();
        openedAt = performance.now();
        this.#failures = 0;
        this.#hasShown = false;
        const cursor = this.lastEventId;
        stopTimer = after(patience, signal, () => this.#probe(source, signal, cursor, patience));
        this.#become("streaming");
      });
      source.addEventListener("error", (event) => {
        if (event instanceof MessageEvent) return; // an event of the server's, of that type
        stopTimer();
        const isStable = openedAt !== null && performance.now() - openedAt > patience * 1000;
        openedAt = null;
        strikes = isStable ? STRIKES : strikes - 1;
        if (isStable) this.#streamPause = this.#options.streamAgain;
        // Closed: the browser has given up, since the answer was no stream. Only a request of our own can tell why.
        if (source.readyState === EventSource.CLOSED || strikes <= 0) return void this.#poll();
        stopTimer = after(3 * patience, signal, () => this.#poll()); // the server says how long the browser is to pause
        this.#become("connecting");
      });
    }

    // An open stream that shows nothing is quiet, or a proxy withholds it: ask what there is after the cursor.
    async #probe(source, signal, cursor, seconds) {
      const isInDoubt = () => !signal.aborted && !this.#hasShown && source.readyState === EventSource.OPEN;
      if (!isInDoubt()) return;
      const { answer } = await this.#ask(0, cursor, signal);
      if (!isInDoubt() || !answer) return;
      if (answer.events.some(({ event }) => this.#types.has(event ?? "message"))) {
        this.lastEventId = cursor;
        this.#poll();
      } else {
        after(2 * seconds, signal, () => this.#probe(source, signal, answer.last_event_id, 2 * seconds));
      }
    }

    // Long polling of the same URL.

    async #poll() {
      const signal = this.#supersede("connecting");
      for (let wait = 0; !signal.aborted; wait = this.#options.wait) { // first to see whether this works
        const askedAt = performance.now();
        const { answer, refusal, delay } = await this.#ask(wait, this.lastEventId, signal);
        if (signal.aborted) return;
        if (refusal !== undefined) return this.#finish(refusal);
        if (!answer) return this.#wait(delay || this.#backoff());
        this.#failures = 0;
        if (this.status !== "polling") this.#putStreamOff();
        this.#become("polling");
        for (const { event, data, id } of answer.events) {
          if (signal.aborted) return;
          this.#take(event ?? "message", data, id);
        }
        if (signal.aborted) return;
        this.lastEventId = answer.last_event_id || this.lastEventId;
        if (performance.now() >= this.#streamAt) return this.#stream(1);
        const isHasty = answer.events.length === 0 && performance.now() - askedAt < wait * 500;
        if (isHasty) await new Promise((go) => { after(1, signal, go); }); // the handler is through, say
      }
    }

    #putStreamOff() {
      this.#streamAt = performance.now() + this.#jittered(this.#streamPause) * 1000;
      this.#streamPause = Math.min(2 * this.#streamPause, 10 * this.#options.streamAgain);
    }

    // Poll once: {answer}, or a {refusal} that is final (null: there is nothing more), or the {delay} asked for.
    async #ask(wait, cursor, signal) {
      const url = new URL(this.#address(cursor));
      url.searchParams.set("wait", wait);
      const request = new AbortController();
      const abort = () => request.abort();
      const stopTimer = after(wait + this.#options.patience, signal, abort);
      signal.addEventListener("abort", abort);
      try {
        const response = await fetch(url, {
          headers: { Accept: "application/json" },
          cache: "no-store",
          credentials: this.#options.withCredentials ? "include" : "same-origin",
          signal: request.signal,
        });
        const { status } = response;
        if (status === 204) return { refusal: null };
        if (status >= 400 && status < 500 && !FINAL_UNLESS.includes(status)) return { refusal: status };
        if (!response.ok) return { delay: this.#jittered(retryAfter(response), 1) };
        const answer = await response.json(); // fails where the server knows of streams only
        return answer.events.every(({ data }) => typeof data === "string") ? { answer } : {};
      } catch {
        return {};
      } finally {
        stopTimer();
        signal.removeEventListener("abort", abort);
        abort(); // a body that nobody reads
      }
    }

    #finish(status) {
      if (status !== null) this.error = Object.assign(new Error(`${this.url} answers ${status}`), { status });
      this.close();
    }

    #wait(seconds) {
      const signal = this.#supersede("waiting");
      if (signal.aborted) return;
      const go = () => (performance.now() >= this.#streamAt ? this.#stream(1) : this.#poll());
      after(seconds, signal, go);
      globalThis.addEventListener?.("online", go, { signal });
    }

    #backoff() {
      const { firstDelay, longestDelay } = this.#options;
      return this.#jittered(Math.min(longestDelay, firstDelay * 2 ** this.#failures++));
    }

    #jittered(seconds, least = 0.5) {
      return seconds * (least + Math.random() / 2);
    }

    // What they have in common.

    #supersede(status) {
      this.#ongoing.abort();
      this.#ongoing = new AbortController();
      const { signal } = this.#ongoing;
      this.#become(status); // a listener may close it: look at the signal
      return signal;
    }

    #become(status) {
      if (this.status === status) return;
      this.status = status;
      this.dispatchEvent(new Event("statuschange"));
    }

    #address(cursor) {
      const url = new URL(this.#url);
      if (cursor) url.searchParams.set("last_event_id", cursor);
      else url.searchParams.delete("last_event_id");
      return url.href;
    }

    #listenFor(type) {
      if (this.#types.has(type)) return;
      this.#types.add(type);
      if (this.#source) this.#listenOn(this.#source, type);
    }

    #listenOn(source, type) {
      source.addEventListener(type, (event) => {
        if (!(event instanceof MessageEvent)) return; // "open" and "error" may be types of the server's, too
        this.#hasShown = true;
        this.#take(type, event.data, event.lastEventId);
      });
    }

    #take(type, data, id) {
      this.lastEventId = id || this.lastEventId;
      const { origin } = this.#url;
      this.dispatchEvent(new MessageEvent(type, { data, origin, lastEventId: this.lastEventId }));
    }
  }

  // What clocks and states have in common: a source that is theirs to close, or somebody else's.
  class Listener {
    #listening = new AbortController();
    #isOwner;

    constructor(source, options) {
      this.#isOwner = typeof source === "string" || source instanceof URL;
      this.source = this.#isOwner ? new Follower(source, options) : source;
    }

    get signal() {
      return this.#listening.signal;
    }

    listen(type, listener) {
      this.source.addEventListener(type, listener, { signal: this.signal });
    }

    /** Stop, and close the source unless it was given. */
    close() {
      this.#listening.abort();
      if (this.#isOwner) this.source.close();
    }
  }

  // The elapsed seconds at performance.now() = 0 by what the page says, in a `data-elapsed` or in its own address. That
  // was so when it began to come.
  function originInPage() {
    const text = globalThis.document?.querySelector("[data-elapsed]")?.dataset.elapsed
      ?? new URLSearchParams(globalThis.location?.search).get("offset");
    const cameAt = performance.getEntriesByType("navigation")[0]?.responseStart ?? 0;
    return text && Number.isFinite(Number(text)) ? Number(text) - cameAt / 1000 : NaN;
  }

  /**
   * The server's time, by the ticks of `hub.run_ticker`.
   *
   * A tick says how late it was when it was sent. On its way it can only be delayed, never hastened; so of the last
   * ticks the one that makes it latest was the quickest, and is the one to believe.
   */
  class Clock extends Listener {
    #samples = []; // for each tick, the elapsed seconds at performance.now() = 0, by which it was quick
    #origin = NaN; // the best of them, or what the page says
    #wallAtZero = NaN; // the server's clock in milliseconds at elapsed = 0
    #sequence = 0;
    #last = { sent: NaN, at: NaN }; // the newest tick: when it was sent and taken
    #shown = -Infinity; // the latest that was given out
    #watchers = new Set();

    constructor(source, { event = "tick", elapsed, ...options }) {
      super(source, options);
      this.#origin = elapsed === undefined ? originInPage() : elapsed - performance.now() / 1000;
      this.listen(event, ({ data }) => this.#take(JSON.parse(data)));
      this.listen("reset", () => this.#forget()); // the server may be another, with a reference of its own
    }

    /** Seconds since the ticker's reference; NaN while nothing is known. They never run backwards, except when the
     * server was started anew with another reference, or the first tick contradicts what the page said. */
    elapsed() {
      if (Number.isNaN(this.#origin)) return NaN;
      this.#shown = Math.max(this.#shown, this.#origin + performance.now() / 1000);
      return this.#shown;
    }

    /** The server's wall clock in milliseconds since 1970; until the first tick, the page's own. */
    now() {
      return Number.isNaN(this.#wallAtZero) ? Date.now() : this.#wallAtZero + this.elapsed() * 1000;
    }

    /** By how many milliseconds the page's wall clock is ahead of the server's. */
    get offset() {
      return Date.now() - this.now();
    }

    /**
     * Call back when a second of `elapsed()`, or of `now()`, begins, with its whole number; and once at once.
     * @param {(second: number) => void} callback
     * @param {{of?: "elapsed" | "now"}} [options]
     * @returns {() => void} stops it
     */
    onSecond(callback, { of = "elapsed" } = {}) {
      const read = of === "now" ? () => this.now() / 1000 : () => this.elapsed();
      let stopTimer = () => {};
      let last = NaN;
      const look = () => {
        stopTimer();
        const seconds = read();
        if (Number.isNaN(seconds)) return;
        // Each timer is set by the clock anew, so none drifts; one that is early finds the old second and is set again.
        stopTimer = after(1.001 - (seconds - Math.floor(seconds)), this.signal, look);
        if (Math.floor(seconds) !== last) callback(last = Math.floor(seconds));
      };
      this.#watchers.add(look);
      look();
      return () => {
        stopTimer();
        this.#watchers.delete(look);
      };
    }

    #take({ sequence, time, elapsed, server_time: sentAt }) {
      const at = performance.now();
      const sentElapsed = elapsed + (sentAt - Date.parse(time)) / 1000; // it was due at `time`, and sent then
      const isFirst = this.#samples.length === 0;
      if (sequence <= this.#sequence) this.#forget();
      this.#sequence = sequence;
      // Ticks that come faster than they were sent are a replay. All of them are one sample, or else those of a long
      // replay, which are late, would push the good ones out.
      const isReplayed = sentElapsed - this.#last.sent > (2 * (at - this.#last.at)) / 1000;
      this.#last = { sent: sentElapsed, at };
      const sample = sentElapsed - at / 1000;
      if (isReplayed && this.#samples.length > 0) this.#samples.push(Math.max(this.#samples.pop(), sample));
      else this.#samples = [...this.#samples, sample].slice(-SAMPLES);
      this.#origin = Math.max(...this.#samples);
      this.#wallAtZero = sentAt - sentElapsed * 1000; // a step of the server's clock changes this alone
      if (isFirst && this.#shown - (this.#origin + at / 1000) > 1) this.#shown = -Infinity;
      for (const look of this.#watchers) look();
    }

    #forget() {
      this.#samples = [];
      this.#sequence = 0;
      this.#shown = -Infinity;
    }
  }

  const isObject = (value) => typeof value === "object" && value !== null && !Array.isArray(value);

  // Set a member, whatever it is called: `object.__proto__ = value` would do something else.
  function put(object, name, value) {
    Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
  }

  /** Apply a JSON Merge Patch (RFC 7396): gives the new value, and leaves the old one as it is. */
  function mergePatch(target, patch) {
    if (!isObject(patch)) return patch;
    const merged = isObject(target) ? { ...target } : {};
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete merged[name];
      else put(merged, name, mergePatch(Object.hasOwn(merged, name) ? merged[name] : undefined, value));
    }
    return merged;
  }

  // A JSON Pointer's parts (RFC 6901).
  function parsePointer(pointer) {
    if (pointer !== "" && !pointer.startsWith("/")) throw new Error(`no JSON pointer: ${pointer}`);
    return pointer.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  }

  // A part as the name of a member that is there, or the index of an element, the end included if that is allowed.
  function locate(container, part, end = 0) {
    if (Array.isArray(container)) {
      const index = part === "-" && end ? container.length : Number(part);
      if ((/^(0|[1-9]\d*)$/.test(part) || part === "-") && index < container.length + end) return index;
    } else if (isObject(container) && (end || Object.hasOwn(container, part))) {
      return part;
    }
    throw new Error(`nothing is at ${part}`);
  }

  const read = (value, parts) => parts.reduce((container, part) => container[locate(container, part)], value);

  // A copy of the value in which a container was changed; what lies beside the way to it is shared.
  function edited(value, [part, ...rest], change) {
    const copy = Array.isArray(value) ? [...value] : { ...value };
    const place = locate(value, part, rest.length === 0 ? 1 : 0);
    if (rest.length === 0) change(copy, place);
    else put(copy, place, edited(value[place], rest, change));
    return copy;
  }

  function added(value, parts, what) {
    if (parts.length === 0) return what;
    return edited(value, parts, (container, place) => {
      if (Array.isArray(container)) container.splice(place, 0, what);
      else put(container, place, what);
    });
  }

  function removed(value, parts) {
    read(value, parts);
    if (parts.length === 0) return undefined;
    return edited(value, parts, (container, place) => {
      if (Array.isArray(container)) container.splice(place, 1);
      else delete container[place];
    });
  }

  function isSame(one, other) {
    if (typeof one !== "object" || typeof other !== "object" || !one || !other) return one === other;
    const names = Object.keys(one);
    return Array.isArray(one) === Array.isArray(other) && names.length === Object.keys(other).length
      && names.every((name) => Object.hasOwn(other, name) && isSame(one[name], other[name]));
  }

  function applyOperation(document, { op, path, from, value }) {
    const parts = parsePointer(path);
    switch (op) {
      case "add": return added(document, parts, value);
      case "remove": return removed(document, parts);
      case "replace": return parts.length ? added(removed(document, parts), parts, value) : value;
      case "copy": return added(document, parts, read(document, parsePointer(from)));
      case "move":
        if (path.startsWith(`${from}/`)) throw new Error(`${from} can't be moved into itself`);
        return added(removed(document, parsePointer(from)), parts, read(document, parsePointer(from)));
      case "test":
        if (!isSame(read(document, parts), value)) throw new Error(`another value is at ${path}`);
        return document;
      default: throw new Error(`no operation: ${op}`);
    }
  }

  /** Apply a JSON Patch (RFC 6902): gives the new value, and leaves the old one as it is, also when it throws. */
  function jsonPatch(document, operations) {
    return operations.reduce(applyOperation, document);
  }

  /** The value of `hub.state`: `value` is undefined until the first snapshot has come, and after a reset. */
  class State extends Listener {
    constructor(source, callback, { initial, ...options }) {
      super(source, options);
      this.value = initial;
      const take = (apply) => (event) => {
        try {
          if (this.value === undefined && apply) throw new Error("there is nothing to patch");
          const change = JSON.parse(event.data);
          this.value = apply ? apply(this.value, change) : change;
        } catch {
          this.value = undefined;
          return this.source.restart?.(); // without a cursor, the first thing to come is a snapshot
        }
        callback(this.value, event);
      };
      this.listen("snapshot", take(null));
      this.listen("merge-patch", take(mergePatch));
      this.listen("json-patch", take(jsonPatch));
      this.listen("reset", () => { this.value = undefined; });
    }
  }

  return Object.freeze({
    /** @param {string | URL} url @param {FollowOptions} [options] */
    follow: (url, options = {}) => new Follower(url, options),
    /** @param {EventTarget | string | URL} source
     *  @param {FollowOptions & {event?: string, elapsed?: number}} [options] */
    clock: (source, options = {}) => new Clock(source, options),
    /** @param {EventTarget | string | URL} source @param {(value: any, event: MessageEvent) => void} callback
     *  @param {FollowOptions & {initial?: any}} [options] */
    state: (source, callback, options = {}) => new State(source, callback, options),
    mergePatch,
    jsonPatch,
  });
})();
