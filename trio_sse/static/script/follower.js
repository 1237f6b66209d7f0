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
    #observer; // a `SharedFollower`, which dispatches the events instead
    #isRead; // whether streams are read by fetch, and so events of all types are seen
    #types = new Set();
    #source = null;
    #ongoing = new AbortController();
    #failures = 0; // in a row
    #hasShown = false; // this stream has delivered an event or a cursor, so no proxy holds it back
    #streamAt = 0; // no stream is tried before performance.now() reaches this
    #streamPause; // seconds
    #seenAt = 0; // performance.now() when the stream has shown something
    #period = 0; // seconds between two heartbeats; 0 if there are none

    constructor(url, options, observer = null) {
      super();
      this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
      this.#options = { ...DEFAULTS, ...options };
      this.#observer = observer;
      this.#isRead = Boolean(options.headers || options.topics || observer || !globalThis.EventSource);
      this.#streamPause = this.#options.streamAgain;
      this.lastEventId = options.lastEventId || (this.#url.searchParams.get("last_event_id") ?? "");
      // These move the cursor, even if nobody listens.
      for (const type of ["message", "reset", CURSOR_EVENT, HEARTBEAT_EVENT]) this.#listenFor(type);
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
      const { patience, withCredentials, headers } = this.#options;
      const address = this.#address(this.lastEventId, AS_EVENTS);
      const receive = (...event) => this.#receive(signal, ...event);
      const source = this.#isRead ? new FetchSource(address, { withCredentials, headers, receive })
        : new EventSource(address, { withCredentials });
      signal.addEventListener("abort", () => source.close());
      if (!this.#isRead) {
        this.#source = source;
        for (const type of this.#types) this.#listenOn(source, type, signal);
      }
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
        if (source.readyState === CLOSED || strikes <= 0) return void this.#poll();
        stopTimer = after(3 * patience, signal, () => this.#poll()); // the server's `retry` sets the pause
        this.#become("connecting");
      });
    }

    // An open stream without events or a cursor is quiet, or a proxy holds it back: poll for events after the cursor.
    async #probe(source, signal, cursor, seconds) {
      const isInDoubt = () => !signal.aborted && !this.#hasShown && source.readyState === OPEN;
      if (!isInDoubt()) return;
      const { answer } = await this.#ask(0, cursor, signal);
      if (!isInDoubt() || !answer) return;
      if (answer.events.some(({ event }) => this.#isRead || this.#types.has(event ?? "message"))) {
        this.lastEventId = cursor;
        this.#poll();
      } else {
        this.lastEventId ||= answer.last_event_id;
        after(2 * seconds, signal, () => this.#probe(source, signal, answer.last_event_id, 2 * seconds));
      }
    }

    // A network that has forgotten a connection says nothing. So a stream is dead when heartbeats are missing.

    #beat(period, signal) {
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
        for (const { event, data, id, topic } of answer.events) {
          if (signal.aborted) return;
          this.#take(event ?? "message", data, id, topic);
        }
        if (signal.aborted) return;
        this.lastEventId = answer.last_event_id || this.lastEventId;
        this.#observer?.onCursor();
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
          headers: { ...Object.fromEntries(new Headers(this.#options.headers)), Accept: "application/json" },
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
      if (this.#source) this.#listenOn(this.#source, type, this.#ongoing.signal);
    }

    #listenOn(source, type, signal) {
      source.addEventListener(type, (event) => {
        if (!(event instanceof MessageEvent)) return; // the server may use the types "open" and "error", too
        this.#receive(signal, type, event.data, event.lastEventId);
      });
    }

    // The stream has shown something.
    #receive(signal, type, data, id, topic) {
      this.#seenAt = performance.now();
      if (type === HEARTBEAT_EVENT) this.#beat(Number(data), signal);
      else this.#hasShown = true;
      this.#take(type, data, id, topic);
    }

    #take(type, data, id, topic) {
      this.lastEventId = id || this.lastEventId;
      if (!this.#observer) {
        this.dispatchEvent(messageEvent(type, data, this.#url.origin, this.lastEventId, topic));
      } else if (type === CURSOR_EVENT || type === HEARTBEAT_EVENT) {
        this.#observer.onCursor();
      } else {
        this.#observer.onEvent(type, data, topic);
      }
    }
  }
