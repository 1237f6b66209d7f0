  /**
   * @typedef {object} RunOptions
   * @property {unknown} [body] - what starts the run: text, or a value that is sent as JSON
   * @property {HeadersInit} [headers] - of all requests, such as a token
   * @property {string} [id] - the run to join, rather than starting one
   * @property {string} [key] - remember the run in the tab under this name, and join it again after a reload
   * @property {Storage} [storage] - where, instead of `sessionStorage`
   * @property {(id: string) => string} [join] - the address of a run; by default `${url}/${id}`
   * @property {(id: string) => string} [cancel] - where to POST to cancel it; by default `${url}/${id}/cancel`
   * @property {boolean} [withCredentials] - send cookies to other origins, too
   */

  const RUN_EVENTS = ["run", "text", "append", "state", "end"];

  /**
   * A run of the server's `Runs`: started by a POST, or joined, and joined again whenever the connection is lost.
   *
   * "change" is dispatched when a text, the state or the status changes, and "end" at the run's end. What the run
   * emits is dispatched under its own types.
   */
  class Run extends EventTarget {
    /** @type {"connecting" | "pending" | "running" | "finished" | "failed" | "cancelled" | "lost" | "gone"} */
    status = "connecting";
    id = "";
    /** @type {Record<string, string>} the texts by their names; the main one is `text` */
    texts = { text: "" };
    /** @type {any} */
    state;
    /** @type {string | undefined} why it has ended */
    reason;
    /** @type {any} what its function has returned */
    result;
    /** @type {Promise<Run>} resolved at its end, or when it is gone */
    ended;
    /** whether a connection shows it at this moment */
    isConnected = false;
    #url;
    #options;
    #source = null;
    #cursor = "";
    #end;
    #begin;
    #begun = new Promise((resolve) => { this.#begin = resolve; });

    constructor(url, options) {
      super();
      this.#url = new URL(url, globalThis.document?.baseURI ?? globalThis.location?.href);
      this.#options = options;
      this.ended = new Promise((resolve) => { this.#end = resolve; });
      const known = options.id ?? this.#stored((storage, name) => storage.getItem(name));
      if (known) this.#join(known);
      else this.#start();
    }

    get text() {
      return this.texts.text;
    }

    /** Whether it has ended, or is gone. */
    get hasEnded() {
      return !["connecting", "pending", "running"].includes(this.status);
    }

    /** Cancel the run for everybody, as soon as its id is known. */
    async stop() {
      if (!this.id) await this.#begun;
      if (!this.id || this.hasEnded) return;
      const address = this.#options.cancel?.(this.id) ?? this.#below(`${this.id}/cancel`);
      const response = await fetch(address, { method: "POST", headers: this.#options.headers, credentials: this.#credentials });
      if (!response.ok) throw new Error(`${address} responded with ${response.status}`);
    }

    /** Show it no longer; it goes on. */
    close() {
      this.#source?.close();
      this.isConnected = false;
      this.#begin(); // what has no id now cannot be stopped
    }

    /** Forget which run the tab has, so that another one may start under the same key. */
    forget() {
      this.#stored((storage, name) => storage.removeItem(name));
    }

    // Without a key, or where the browser forbids storage or has no room, nothing is remembered.
    #stored(use) {
      if (this.#options.key === undefined) return null;
      try {
        const storage = this.#options.storage ?? globalThis.sessionStorage;
        return use(storage, `trio-sse.run ${this.#url.pathname} ${this.#options.key}`);
      } catch {
        return null;
      }
    }

    get #credentials() {
      return this.#options.withCredentials ? "include" : "same-origin";
    }

    #below(path) {
      const url = new URL(this.#url);
      url.pathname = `${url.pathname.replace(/\/$/, "")}/${path}`;
      return url.href;
    }

    // A POST is sent once: the server may have started the run though its response was lost.
    #start() {
      const { body } = this.#options;
      const headers = new Headers(this.#options.headers);
      const isJSON = body !== undefined && typeof body !== "string" && !(body instanceof FormData)
        && !(body instanceof URLSearchParams) && !(body instanceof Blob);
      if (isJSON && !headers.has("Content-Type")) headers.set("Content-Type", "application/json");
      this.#follow(this.#url.href, { method: "POST", body: isJSON ? JSON.stringify(body) : body, headers });
    }

    #join(id) {
      this.id = id;
      this.#follow(this.#options.join?.(id) ?? this.#below(id), { headers: this.#options.headers });
    }

    #follow(address, options) {
      const { withCredentials } = this.#options;
      const source = this.#source = new FetchSource(address, {
        ...options, withCredentials, lastEventId: this.#cursor,
        receive: (type, data, id) => { if (source === this.#source) this.#take(type, data, id); },
      });
      source.addEventListener("open", () => { this.isConnected = true; this.#changed(); });
      source.addEventListener("error", () => {
        if (source !== this.#source || this.hasEnded) return;
        this.isConnected = false;
        if (source.readyState < 2) return this.#changed(); // it reconnects by itself
        if (options.method === "POST" && !source.refusal && this.id) return this.#join(this.id);
        this.#finish("gone", source.refusal ? `the server responded with ${source.refusal}` : "the connection was lost");
      });
    }

    #take(type, data, id) {
      this.#cursor = id;
      if (!RUN_EVENTS.includes(type)) {
        return void this.dispatchEvent(new MessageEvent(type, { data, lastEventId: id }));
      }
      const value = JSON.parse(data);
      if (type === "run") {
        this.id = value.id;
        this.#begin();
        this.#stored((storage, name) => storage.setItem(name, value.id));
        this.texts = { text: "" };
        this.state = undefined;
        this.status = ["pending", "running"].includes(value.status) ? value.status : "running"; // its end follows
      } else if (type === "text" || type === "append") {
        const { name = "text", text } = value;
        const before = type === "append" && Object.hasOwn(this.texts, name) ? this.texts[name] : "";
        this.texts = { ...this.texts, [name]: before + text };
        if (this.status === "pending") this.status = "running";
      } else if (type === "state") {
        this.state = value;
      } else {
        this.result = value.result;
        return this.#finish(value.status, value.reason);
      }
      this.#changed();
    }

    #finish(status, reason) {
      this.status = status;
      this.reason = reason;
      this.close();
      this.#changed();
      this.dispatchEvent(new Event("end"));
      this.#end(this);
    }

    #changed() {
      this.dispatchEvent(new Event("change"));
    }
  }
