  const QUIET = 0.25; // seconds after which what a server sends at the beginning of a stream is over
  const LIVE = ["streaming", "polling"]; // the statuses of a follower that receives events

  /**
   * A follower that shares one connection with the other tabs of its origin.
   *
   * The tab that holds a lock leads: it has the connection, and tells the others each event with the cursors before
   * and after it. The others take what is next for their own cursor. So it does not matter who leads, nor whether
   * two do for a moment: no event is missed, and none comes twice.
   *
   * A tab that is behind, such as one that was just opened, has a connection of its own until it has caught up: it
   * receives what the server sends at the beginning, and what it has missed.
   */
  class SharedFollower extends EventTarget {
    /** @type {"connecting" | "streaming" | "polling" | "waiting" | "closed"} */
    status = "connecting";
    /** @type {(Error & {status: number}) | null} why the server refused, if that closed it for all tabs */
    error = null;
    #url;
    #options;
    #name; // of the lock and the channel
    #cursor;
    #own = null; // this tab's connection: it leads, or catches up
    #settling = new AbortController(); // aborted with the own connection
    #stopSettling = () => {};
    #firstId; // of the own connection, without the mark of states
    #isSettled = false; // what the server sends at the beginning of the own connection has come
    #isRestarting = false;
    #life = new AbortController(); // aborted when it is closed
    #session = new AbortController(); // aborted when the tab leaves the others
    #channel = null;
    #release = null; // gives the lock up, while this tab leads
    #turn = null; // aborted to stop waiting for the lock
    #isStealing = false;
    #heardAt = 0; // performance.now() when the tab that leads has said something

    constructor(url, options) {
      super();
      this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
      const cursor = options.lastEventId || (this.#url.searchParams.get("last_event_id") ?? "");
      this.#url.searchParams.delete("last_event_id"); // it is no part of what the tabs have in common
      this.#options = { ...DEFAULTS, ...options };
      this.#cursor = new SharedCursor(cursor);
      const { lastEventId, headers, ...same } = this.#options;
      const parts = Object.entries({ ...same, headers: [...new Headers(headers)] }).sort();
      this.#name = `trio-sse ${this.#url.href} ${JSON.stringify(parts)}`;
      // A page that may be shown again must not lead meanwhile.
      const { signal } = this.#life;
      globalThis.addEventListener?.("pagehide", () => this.#leave(), { signal });
      globalThis.addEventListener?.("pageshow", ({ persisted }) => { if (persisted) this.#join(); }, { signal });
      this.#join();
    }

    get url() {
      return this.#url.href;
    }

    get lastEventId() {
      return this.#cursor.id;
    }

    /** Begin anew in this tab, without a cursor, after a short random delay. */
    restart() {
      if (this.status === "closed" || this.#isRestarting) return;
      this.#isRestarting = true;
      after(this.#options.firstDelay * (0.5 + Math.random() / 2), this.#session.signal, () => {
        this.#isRestarting = false;
        this.#stepDown(); // the others go on where they are
        this.#cursor = new SharedCursor("");
        this.#open();
      });
    }

    /** Close it in this tab. It cannot be opened again. */
    close() {
      this.#life.abort();
      this.#leave();
      this.#become("closed");
    }

    #join() {
      this.#session = new AbortController();
      this.#isRestarting = false;
      this.#channel = new BroadcastChannel(this.#name);
      this.#channel.onmessage = ({ data }) => this.#hear(data);
      this.#heardAt = performance.now();
      this.#compete(this.#session.signal);
      this.#watchLeader(this.#session.signal);
    }

    #leave() {
      this.#session.abort();
      this.#turn?.abort();
      this.#stepDown();
      this.#channel?.close();
      this.#channel = null;
      this.#closeOwn();
    }

    // Who leads.

    #stepDown() {
      const release = this.#release;
      this.#release = null;
      release?.();
    }

    async #compete(signal) {
      const lead = (lock) => {
        if (signal.aborted) return undefined;
        if (!this.#own) this.#open();
        if (!lock) return undefined; // another tab leads: catch up, and wait
        return new Promise((release) => {
          this.#release = release;
          this.#isStealing = false;
          this.#say(this.#position());
        });
      };
      let options = { ifAvailable: true };
      while (!signal.aborted) {
        try {
          await navigator.locks.request(this.#name, options, lead);
        } catch (error) {
          if (error.name !== "AbortError") return void (signal.aborted || this.#own || this.#open()); // no locks here
        }
        if (signal.aborted) return;
        this.#release = null; // given up, or taken by a tab that has heard nothing for long
        this.#heardAt = performance.now();
        this.#settle();
        this.#turn = new AbortController();
        options = this.#isStealing ? { steal: true } : { signal: this.#turn.signal };
        this.#isStealing = false;
      }
    }

    // A tab that is frozen keeps the lock. So who has heard nothing for long asks, and then takes it.
    #watchLeader(signal, hasAsked = false) {
      const patience = this.#options.patience / 2;
      after(patience * (1 + Math.random() / 4), signal, () => {
        const isSilent = !this.#release && performance.now() - this.#heardAt > patience * 1000;
        if (isSilent && hasAsked) {
          this.#isStealing = true;
          this.#turn?.abort();
        } else if (isSilent) {
          this.#ask();
        }
        this.#watchLeader(signal, isSilent && !hasAsked);
      });
    }

    #ask() {
      this.#say({ isQuestion: true });
    }

    #say(message) {
      this.#channel?.postMessage(message);
    }

    // What the tab that leads says when nothing happens.
    #position(after = this.#cursor.id) {
      const { status, error } = this;
      return { after, id: this.#cursor.id, status, refusal: error && { status: error.status, message: error.message } };
    }

    #hear(message) {
      if (message.isQuestion) return void (this.#release && this.#say(this.#position()));
      if (this.#release || this.#isRestarting) return;
      this.#heardAt = performance.now();
      if (message.status === "closed") return this.#finish(message.refusal);
      if (this.#own && !(this.#isSettled && LIVE.includes(message.status ?? LIVE[0]))) return; // an event has no status
      const place = this.#cursor.place(message);
      if (place === GAP) return void (this.#own || this.#open());
      this.#closeOwn();
      if (message.status) this.#become(message.status);
      if (place === NEXT) this.#take(message);
    }

    // The tab's own connection.

    #open() {
      this.#closeOwn();
      this.#isSettled = false;
      this.#firstId = undefined;
      this.#settling = new AbortController();
      const { signal } = this.#settling;
      const unlessClosed = (act) => (...event) => { if (!signal.aborted) act(...event); };
      const own = this.#own = new Follower(this.#url, { ...this.#options, lastEventId: this.#cursor.id }, {
        onEvent: unlessClosed((type, data, topic) => this.#pass(own.lastEventId, { type, data, topic })),
        onCursor: unlessClosed(() => this.#pass(own.lastEventId)),
      });
      own.addEventListener("statuschange", unlessClosed(() => {
        if (own.status === "closed") {
          const { error } = own;
          return this.#finish(error && { status: error.status, message: error.message });
        }
        this.#become(own.status);
        if (this.#release) this.#say(this.#position());
        else this.#settle();
      }));
      this.#become(own.status);
    }

    #closeOwn() {
      this.#settling.abort();
      this.#own?.close();
      this.#own = null;
    }

    // What the own connection has received; only the cursor, if there is no event.
    #pass(id, event = null) {
      const message = { after: this.#cursor.id, id, event };
      if (this.#release) this.#say(event ? message : { ...message, ...this.#position(message.after), id });
      if (event) {
        const place = id.replace(/_[0-9a-f]{8}$/, "");
        this.#firstId ??= place;
        if (place !== this.#firstId) this.#isSettled = true; // snapshots at the beginning have one place
      }
      if (!this.#release) this.#settle();
      this.#take(message);
    }

    // When the own connection has been quiet for a moment, ask where the others are.
    #settle() {
      this.#stopSettling();
      this.#stopSettling = after(QUIET, this.#settling.signal, () => {
        this.#isSettled ||= LIVE.includes(this.status);
        if (this.#own && !this.#release) this.#ask();
      });
    }

    #take({ id, event }) {
      this.#cursor.moveTo(id);
      if (event) this.dispatchEvent(messageEvent(event.type, event.data, this.#url.origin, id, event.topic));
    }

    #finish(refusal) {
      if (this.status === "closed") return;
      if (refusal) this.error = Object.assign(new Error(refusal.message), { status: refusal.status });
      if (this.#release) this.#say({ ...this.#position(), status: "closed" });
      this.close();
    }

    #become(status) {
      if (this.status === status) return;
      this.status = status;
      this.dispatchEvent(new Event("statuschange"));
    }
  }

  // Return what follows a URL: shared, where the browser can.
  function openFollower(url, options) {
    const canShare = globalThis.navigator?.locks !== undefined && globalThis.BroadcastChannel !== undefined;
    return options.shared && canShare ? new SharedFollower(url, options) : new Follower(url, options);
  }
