// trio_sse for pages: streams that survive bad networks, the server's clock, and states.
//
// It has no dependencies and no build step: a script tag, or `import "/trio-sse.js"`, creates the global `TrioSSE`:
//
// - `follow(url)`: an EventSource that falls back to long polling where a network blocks streams;
// - `clock(source)`: the time of `hub.run_ticker`, correct from the first paint and between the ticks;
// - `state(source, callback)`: the value of `hub.state`, kept up to date by its patches.
//
// Times are in seconds unless they are named milliseconds. Durations use performance.now(), which nobody can set.

globalThis.TrioSSE = (() => {
  "use strict";

  const STRIKES = 3; // after so many streams in a row that broke early, poll
  const FINAL_UNLESS = [408, 425, 429]; // the 4xx statuses after which another attempt makes sense
  // Ask for cursors and keepalives as events: a page cannot read the id of an empty block, nor see a comment.
  const AS_EVENTS = { cursor_events: "1", heartbeat_events: "1" };
  const CURSOR_EVENT = "trio-sse.cursor";
  const HEARTBEAT_EVENT = "trio-sse.heartbeat"; // its data is the number of seconds between two of them
  const MISSED = 3; // after so many missed heartbeats, the connection is dead
  const LATE = 1; // seconds that a heartbeat may be late, or that the page may be busy
  const UNKNOWN_CURSOR = 1; // seconds after which a stream without a cursor gets one from a poll
  const SAMPLES = 20; // the number of ticks that set a clock

  /**
   * @typedef {object} FollowOptions
   * @property {string} [lastEventId] - the cursor to begin after, as received from the server
   * @property {boolean} [withCredentials] - send cookies to other origins, too
   * @property {number} [wait] - seconds for which the server may hold a poll
   * @property {number} [patience] - seconds in which a stream must open; one that breaks in them is a strike
   * @property {number} [streamAgain] - seconds of polling before another stream; doubled each time, up to tenfold
   * @property {number} [firstDelay] - seconds before another attempt after a failure; doubled with each further one
   * @property {number} [longestDelay] - the most that this delay becomes
   */

  /** @type {Required<FollowOptions>} */
  const DEFAULTS = {
    lastEventId: "", withCredentials: false, wait: 25, patience: 10, streamAgain: 60, firstDelay: 1, longestDelay: 30,
  };

  // Run `action` after `seconds` unless the signal is aborted; return a function that cancels it.
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

  // Return the seconds to wait by a response's Retry-After (RFC 9110, 10.2.3), at most an hour; 0 if there is none.
  function retryAfter(response) {
    const text = response.headers.get("Retry-After") ?? "";
    const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
    return Math.min(3600, Math.max(0, seconds)) || 0;
  }

  /**
   * Follow a URL until closed. Events are dispatched as by EventSource, under their types, over a stream or a poll.
   * "statuschange" is dispatched when `status` changes.
   *
   * Only one of stream, poll and wait is active. Each has a signal, and starting another aborts it. So two never
   * dispatch events at once, and all share the cursor `lastEventId`.
   */
  class Follower extends EventTarget {
    /** @type {"connecting" | "streaming" | "polling" | "waiting" | "closed"} */
    status = "connecting";
    /** @type {(Error & {status: number}) | null} why the server refused, if that closed the follower */
    error = null;
    lastEventId;
    #url;
    #options;
    #types = new Set();
    #source = null;
    #ongoing = new AbortController();
    #failures = 0; // in a row
    #hasShown = false; // this stream has delivered an event or a cursor, so no proxy holds it back
    #streamAt = 0; // no stream is tried before performance.now() reaches this
    #streamPause; // seconds
    #seenAt = 0; // performance.now() when the stream has shown something
    #period = 0; // seconds between two heartbeats; 0 if there are none

    constructor(url, options) {
      super();
      this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
      this.#options = { ...DEFAULTS, ...options };
      this.#streamPause = this.#options.streamAgain;
      this.lastEventId = options.lastEventId || (this.#url.searchParams.get("last_event_id") ?? "");
      for (const type of ["message", "reset"]) this.#listenFor(type); // both move the cursor, even if nobody listens
      this.#stream(STRIKES);
    }

    get url() {
      return this.#url.href;
    }

    addEventListener(type, listener, options) {
      super.addEventListener(type, listener, options);
      this.#listenFor(type);
    }

    /** Reset the cursor and reconnect after a short random delay, since all clients may restart for the same reason. */
    restart() {
      if (this.status === "closed") return;
      this.lastEventId = "";
      this.#wait(this.#jittered(this.#options.firstDelay));
    }

    /** Close it. It cannot be opened again. */
    close() {
      this.#ongoing.abort();
      this.#become("closed");
    }

    // Streams. The browser reconnects by itself, with its Last-Event-ID, as long as that works.

    #stream(strikes) {
      const signal = this.#supersede("connecting");
      if (signal.aborted) return;
      const { patience, withCredentials } = this.#options;
      const source = new EventSource(this.#address(this.lastEventId, AS_EVENTS), { withCredentials });
      signal.addEventListener("abort", () => source.close());
      this.#source = source;
      for (const type of this.#types) this.#listenOn(source, type);
      source.addEventListener(CURSOR_EVENT, ({ lastEventId }) => this.#moveTo(lastEventId));
      source.addEventListener(HEARTBEAT_EVENT, ({ data, lastEventId }) => this.#beat(Number(data), lastEventId, signal));
      this.#watchNetwork(signal);
      let openedAt = null;
      let stopTimer = after(patience, signal, () => this.#poll());
      source.addEventListener("open", () => {
        stopTimer();
        openedAt = this.#seenAt = performance.now();
        this.#period = 0;
        this.#failures = 0;
        this.#hasShown = false;
        const cursor = this.lastEventId;
        const first = cursor ? patience : Math.min(patience, UNKNOWN_CURSOR); // until then, nothing could be resumed
        stopTimer = after(first, signal, () => this.#probe(source, signal, cursor, patience));
        this.#become("streaming");
      });
      source.addEventListener("error", (event) => {
        if (event instanceof MessageEvent) return; // an event from the server whose type is "error"
        stopTimer();
        const isStable = openedAt !== null && performance.now() - openedAt > patience * 1000;
        openedAt = null;
        strikes = isStable ? STRIKES : strikes - 1;
        if (isStable) this.#streamPause = this.#options.streamAgain;
        // Closed: the browser has given up, since the response was not an event stream. Only a poll can find out why.
        if (source.readyState === EventSource.CLOSED || strikes <= 0) return void this.#poll();
        stopTimer = after(3 * patience, signal, () => this.#poll()); // the server's `retry` sets the pause
        this.#become("connecting");
      });
    }

    // An open stream without events or a cursor is quiet, or a proxy holds it back: poll for events after the cursor.
    async #probe(source, signal, cursor, seconds) {
      const isInDoubt = () => !signal.aborted && !this.#hasShown && source.readyState === EventSource.OPEN;
      if (!isInDoubt()) return;
      const { answer } = await this.#ask(0, cursor, signal);
      if (!isInDoubt() || !answer) return;
      if (answer.events.some(({ event }) => this.#types.has(event ?? "message"))) {
        this.lastEventId = cursor;
        this.#poll();
      } else {
        this.lastEventId ||= answer.last_event_id;
        after(2 * seconds, signal, () => this.#probe(source, signal, answer.last_event_id, 2 * seconds));
      }
    }

    // A network that has forgotten a connection says nothing. So a stream is dead when heartbeats are missing.

    #beat(period, id, signal) {
      this.#seenAt = performance.now();
      this.lastEventId = id || this.lastEventId;
      const isFirst = this.#period === 0;
      this.#period = period > 0 && period < Infinity ? period : 0;
      if (isFirst && this.#period) this.#watchHeartbeats(signal);
    }

    get #silence() {
      return (performance.now() - this.#seenAt) / 1000;
    }

    #watchHeartbeats(signal) {
      if (!this.#period) return; // a new connection, which starts its own
      after(Math.max(this.#period, LATE), signal, () => this.#unlessAlive(MISSED * this.#period, signal, () => {
        this.#watchHeartbeats(signal);
      }));
    }

    // Reconnect if the stream has been silent for so long; otherwise go on. A page that was suspended has its events
    // still before it, so it gets a moment to receive them.
    #unlessAlive(seconds, signal, goOn = () => {}) {
      if (this.#silence <= seconds + LATE) return goOn();
      after(LATE, signal, () => (this.#silence <= seconds + LATE ? goOn() : this.#stream(STRIKES)));
    }

    // When the network is there again, or the page is shown again, a stream that should have shown something is dead.
    #watchNetwork(signal) {
      const look = () => {
        if (this.status !== "streaming" || globalThis.document?.visibilityState === "hidden") return;
        if (this.#period) this.#unlessAlive(this.#period, signal);
      };
      globalThis.addEventListener?.("online", look, { signal });
      globalThis.addEventListener?.("pageshow", look, { signal });
      globalThis.document?.addEventListener("visibilitychange", look, { signal });
    }

    // Long polling of the same URL.

    async #poll() {
      const signal = this.#supersede("connecting");
      for (let wait = 0; !signal.aborted; wait = this.#options.wait) { // the first returns at once, as a test
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
        if (isHasty) await new Promise((go) => { after(1, signal, go); }); // for example, the handler has returned
      }
    }

    #putStreamOff() {
      this.#streamAt = performance.now() + this.#jittered(this.#streamPause) * 1000;
      this.#streamPause = Math.min(2 * this.#streamPause, 10 * this.#options.streamAgain);
    }

    // Poll once; return an {answer}, a final {refusal} (null: there are no more events), or the {delay} asked for.
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
        const answer = await response.json(); // fails if the server only supports streams
        return answer.events.every(({ data }) => typeof data === "string") ? { answer } : {};
      } catch {
        return {};
      } finally {
        stopTimer();
        signal.removeEventListener("abort", abort);
        abort(); // if the body was not read
      }
    }

    #finish(status) {
      if (status !== null) this.error = Object.assign(new Error(`${this.url} responded with ${status}`), { status });
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

    // What streams, polls and waits share.

    #supersede(status) {
      this.#ongoing.abort();
      this.#ongoing = new AbortController();
      const { signal } = this.#ongoing;
      this.#become(status); // a listener may close the follower, so callers check the signal
      return signal;
    }

    #become(status) {
      if (this.status === status) return;
      this.status = status;
      this.dispatchEvent(new Event("statuschange"));
    }

    #address(cursor, parameters = {}) {
      const url = new URL(this.#url);
      for (const [name, value] of Object.entries(parameters)) url.searchParams.set(name, value);
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
        if (!(event instanceof MessageEvent)) return; // the server may use the types "open" and "error", too
        this.#moveTo(event.lastEventId);
        this.#take(type, event.data, event.lastEventId);
      });
    }

    // The stream has shown something.
    #moveTo(id) {
      this.#hasShown = true;
      this.#seenAt = performance.now();
      this.lastEventId = id || this.lastEventId;
    }

    #take(type, data, id) {
      this.lastEventId = id || this.lastEventId;
      const { origin } = this.#url;
      this.dispatchEvent(new MessageEvent(type, { data, origin, lastEventId: this.lastEventId }));
    }
  }

  // What clocks and states share: a source that they own and close, or one that was passed to them.
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

    /** Stop; close the source unless it was passed in. */
    close() {
      this.#listening.abort();
      if (this.#isOwner) this.source.close();
    }
  }

  // Return the elapsed seconds at performance.now() = 0, from the page's `data-elapsed` or its own URL, or NaN. The
  // value in the page was correct when the response began to arrive.
  function originInPage() {
    const text = globalThis.document?.querySelector("[data-elapsed]")?.dataset.elapsed
      ?? new URLSearchParams(globalThis.location?.search).get("offset");
    const arrivedAt = performance.getEntriesByType("navigation")[0]?.responseStart ?? 0;
    return text && Number.isFinite(Number(text)) ? Number(text) - arrivedAt / 1000 : NaN;
  }

  /**
   * The server's time, by the ticks of `hub.run_ticker`.
   *
   * A tick says how late it was sent. The network can only delay it further. So of the last ticks, the clock uses the
   * sample with the largest origin: it had the least delay.
   */
  class Clock extends Listener {
    #samples = []; // for each tick, the elapsed seconds at performance.now() = 0 if it had no delay
    #origin = NaN; // the largest sample, or the page's value
    #wallAtZero = NaN; // the server's clock in milliseconds at elapsed = 0
    #sequence = 0;
    #last = { sent: NaN, at: NaN }; // when the newest tick was sent and received
    #shown = -Infinity; // the latest time returned
    #watchers = new Set();

    constructor(source, { event = "tick", elapsed, ...options }) {
      super(source, options);
      this.#origin = elapsed === undefined ? originInPage() : elapsed - performance.now() / 1000;
      this.listen(event, ({ data }) => this.#take(JSON.parse(data)));
      this.listen("reset", () => this.#forget()); // it may be a different server, with a different reference
    }

    /** Return the seconds since the ticker's reference; NaN until they are known. They never run backwards, except
     * when the server has restarted with another reference, or the first tick contradicts the page's value. */
    elapsed() {
      if (Number.isNaN(this.#origin)) return NaN;
      this.#shown = Math.max(this.#shown, this.#origin + performance.now() / 1000);
      return this.#shown;
    }

    /** Return the server's wall clock in milliseconds since 1970; until the first tick, the page's own. */
    now() {
      return Number.isNaN(this.#wallAtZero) ? Date.now() : this.#wallAtZero + this.elapsed() * 1000;
    }

    /** By how many milliseconds the page's wall clock is ahead of the server's. */
    get offset() {
      return Date.now() - this.now();
    }

    /**
     * Call `callback` now, and when each second of `elapsed()` or `now()` begins, with that whole second.
     * @param {(second: number) => void} callback
     * @param {{of?: "elapsed" | "now"}} [options]
     * @returns {() => void} a function that stops this
     */
    onSecond(callback, { of = "elapsed" } = {}) {
      const read = of === "now" ? () => this.now() / 1000 : () => this.elapsed();
      let stopTimer = () => {};
      let last = NaN;
      const look = () => {
        stopTimer();
        const seconds = read();
        if (Number.isNaN(seconds)) return;
        // The clock sets each timer, so none drifts. A timer that fires early finds the old second and is set again.
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
      const sentElapsed = elapsed + (sentAt - Date.parse(time)) / 1000; // it was due at `time`, and sent at `sentAt`
      const isFirst = this.#samples.length === 0;
      if (sequence <= this.#sequence) this.#forget();
      this.#sequence = sequence;
      // Ticks that arrive faster than they were sent are a replay. They count as one sample: a long replay, whose
      // ticks are late, would otherwise displace the good samples.
      const isReplayed = sentElapsed - this.#last.sent > (2 * (at - this.#last.at)) / 1000;
      this.#last = { sent: sentElapsed, at };
      const sample = sentElapsed - at / 1000;
      if (isReplayed && this.#samples.length > 0) this.#samples.push(Math.max(this.#samples.pop(), sample));
      else this.#samples = [...this.#samples, sample].slice(-SAMPLES);
      this.#origin = Math.max(...this.#samples);
      this.#wallAtZero = sentAt - sentElapsed * 1000; // if the server's clock is set, only this changes
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

  // Set a member of any name: `object.__proto__ = value` would do something else.
  function put(object, name, value) {
    Object.defineProperty(object, name, { value, writable: true, enumerable: true, configurable: true });
  }

  /** Apply a JSON Merge Patch (RFC 7396); return a new value without changing the old one. */
  function mergePatch(target, patch) {
    if (!isObject(patch)) return patch;
    const merged = isObject(target) ? { ...target } : {};
    for (const [name, value] of Object.entries(patch)) {
      if (value === null) delete merged[name];
      else put(merged, name, mergePatch(Object.hasOwn(merged, name) ? merged[name] : undefined, value));
    }
    return merged;
  }

  // Return the parts of a JSON Pointer (RFC 6901).
  function parsePointer(pointer) {
    if (pointer !== "" && !pointer.startsWith("/")) throw new Error(`not a JSON Pointer: ${pointer}`);
    return pointer.split("/").slice(1).map((part) => part.replaceAll("~1", "/").replaceAll("~0", "~"));
  }

  // Return a part as the name of an existing member or the index of an element; `end` = 1 allows new ones, too.
  function locate(container, part, end = 0) {
    if (Array.isArray(container)) {
      const index = part === "-" && end ? container.length : Number(part);
      if ((/^(0|[1-9]\d*)$/.test(part) || part === "-") && index < container.length + end) return index;
    } else if (isObject(container) && (end || Object.hasOwn(container, part))) {
      return part;
    }
    throw new Error(`no value at ${part}`);
  }

  const read = (value, parts) => parts.reduce((container, part) => container[locate(container, part)], value);

  // Return a copy of the value in which one container is changed; siblings on the path are shared.
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
        if (path.startsWith(`${from}/`)) throw new Error(`${from} cannot be moved into itself`);
        return added(removed(document, parsePointer(from)), parts, read(document, parsePointer(from)));
      case "test":
        if (!isSame(read(document, parts), value)) throw new Error(`test failed at ${path}`);
        return document;
      default: throw new Error(`unknown operation: ${op}`);
    }
  }

  /** Apply a JSON Patch (RFC 6902); return a new value without changing the old one, even if it throws. */
  function jsonPatch(document, operations) {
    return operations.reduce(applyOperation, document);
  }

  /** The value of `hub.state`: `value` is undefined until the first snapshot arrives, and after a reset. */
  class State extends Listener {
    constructor(source, callback, { initial, ...options }) {
      super(source, options);
      this.value = initial;
      const take = (apply) => (event) => {
        try {
          if (this.value === undefined && apply) throw new Error("no value to patch");
          const change = JSON.parse(event.data);
          this.value = apply ? apply(this.value, change) : change;
        } catch {
          this.value = undefined;
          return this.source.restart?.(); // without a cursor, the first event is a snapshot
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
