  // Parse an event stream as the WHATWG standard says (HTML, 9.2.6), piece by piece.
  class StreamParser {
    lastEventId;
    retry; // milliseconds, once the server has said so
    #receive;
    #decoder = new TextDecoder(); // removes a byte order mark
    #line = "";
    #isAfterCR = false;
    #type = "";
    #data = [];
    #topic;
    #id;

    constructor(lastEventId, receive) {
      this.lastEventId = this.#id = lastEventId;
      this.#receive = receive;
    }

    feed(bytes) {
      let text = this.#decoder.decode(bytes, { stream: true });
      if (!text) return;
      if (this.#isAfterCR && text.startsWith("\n")) text = text.slice(1);
      this.#isAfterCR = text.endsWith("\r");
      const lines = text.split(/\r\n|\n|\r/);
      lines[0] = this.#line + lines[0];
      this.#line = lines.pop();
      for (const line of lines) this.#take(line);
    }

    #take(line) {
      if (line === "") return this.#end();
      const colon = line.indexOf(":");
      const name = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (name === "data") this.#data.push(value);
      else if (name === "event") this.#type = value;
      else if (name === "topic") this.#topic = value; // ours: see `include_topic` of the server
      else if (name === "id" && !value.includes("\0")) this.#id = value;
      else if (name === "retry" && /^\d+$/.test(value)) this.retry = Number(value);
    }

    #end() {
      this.lastEventId = this.#id;
      const [type, data, topic] = [this.#type || "message", this.#data, this.#topic];
      this.#data = [];
      this.#type = "";
      this.#topic = undefined;
      if (data.length) this.#receive(type, data.join("\n"), this.#id, topic);
    }
  }

  /**
   * @typedef {object} FetchOptions
   * @property {string} [method]
   * @property {HeadersInit} [headers] - such as a token, which EventSource cannot send
   * @property {BodyInit} [body]
   * @property {boolean} [withCredentials] - send cookies to other origins, too
   * @property {string} [lastEventId] - where to begin
   * @property {boolean} [reconnect] - whether to reconnect; by default, whether the method is GET
   * @property {number} [silence] - seconds without a byte, comments included, after which a connection is dead
   * @property {(type: string, data: string, id: string, topic?: string) => void} [receive] - called with each event, whatever its type
   */

  /** An EventSource that sends any request by `fetch`. It sees comments, so it notices dead connections. */
  class FetchSource extends EventTarget {
    readyState = 0;
    /** @type {number} the status of the response that refused it, if one did */
    refusal = 0;
    lastEventId;
    #url;
    #options;
    #closing = new AbortController();
    #retry = 3; // seconds, until the server says otherwise
    #failures = 0; // in a row

    constructor(url, options = {}) {
      super();
      const method = options.method ?? "GET";
      this.#url = url;
      this.#options = { silence: 45, reconnect: method === "GET", ...options, method };
      this.lastEventId = options.lastEventId ?? "";
      this.#follow();
    }

    close() {
      this.readyState = 2;
      this.#closing.abort();
    }

    async #follow() {
      const { signal } = this.#closing;
      while (!signal.aborted) {
        const asked = await this.#attempt(signal);
        if (signal.aborted) return;
        const isFinal = this.refusal !== 0 || !this.#options.reconnect;
        this.readyState = isFinal ? 2 : 0;
        this.dispatchEvent(new Event("error"));
        if (isFinal) return;
        await this.#pause(asked, signal);
      }
    }

    // Wait before another attempt: half a second at least, longer after failures, until the machine is online again.
    #pause(asked, signal) {
      const backoff = Math.min(30, this.#retry * 2 ** this.#failures) * (0.5 + Math.random() / 2);
      const retry = Math.min(LONGEST_PAUSE, this.#retry);
      const seconds = Math.max(0.5, asked, this.#failures ? backoff : retry);
      return new Promise((go) => {
        after(seconds, signal, go);
        signal.addEventListener("abort", go, { once: true });
        globalThis.addEventListener?.("online", go, { signal, once: true });
      });
    }

    // Make one request and read its stream to the end; return the seconds that the server asks to wait.
    async #attempt(closing) {
      const { method, headers, body, withCredentials, silence } = this.#options;
      const request = new AbortController();
      const { signal } = request;
      const abort = () => request.abort();
      closing.addEventListener("abort", abort, { signal });
      let seenAt = performance.now();
      const limit = () => {
        const left = silence - (performance.now() - seenAt) / 1000;
        if (left <= 0) abort();
        else after(Math.max(left, 0.1), signal, limit);
      };
      limit();
      globalThis.addEventListener?.("online", () => after(LATE, signal, () => {
        if (performance.now() - seenAt > silence * 500) abort();
      }), { signal });
      this.#failures += 1;
      try {
        const response = await fetch(this.#url, {
          method, body, signal, cache: "no-store", credentials: withCredentials ? "include" : "same-origin",
          headers: this.#headers(headers),
        });
        const { status } = response;
        if (status !== 200 || !/^text\/event-stream *(;|$)/i.test(response.headers.get("Content-Type") ?? "")) {
          if (status < 500 && !FINAL_UNLESS.includes(status)) this.refusal = status;
          return retryAfter(response);
        }
        await this.#read(response.body.getReader(), () => { seenAt = performance.now(); }, signal);
      } catch {
        // The network, or an abort: another attempt follows.
      } finally {
        abort();
      }
      return 0;
    }

    #headers(given) {
      const headers = new Headers(given);
      if (!headers.has("Accept")) headers.set("Accept", "text/event-stream");
      const cursor = String.fromCharCode(...new TextEncoder().encode(this.lastEventId)); // UTF-8, like EventSource
      if (cursor) headers.set("Last-Event-ID", cursor);
      return headers;
    }

    async #read(reader, onBytes, signal) {
      this.readyState = 1;
      this.dispatchEvent(new Event("open"));
      const parser = new StreamParser(this.lastEventId, (type, data, id, topic) => {
        if (signal.aborted) return;
        this.#failures = 0;
        this.lastEventId = id;
        this.#options.receive?.(type, data, id, topic);
        const origin = new URL(this.#url, globalThis.location?.href).origin;
        this.dispatchEvent(messageEvent(type, data, origin, id, topic));
      });
      const openedAt = performance.now();
      while (!signal.aborted) {
        const { done, value } = await reader.read();
        if (done) break;
        onBytes();
        parser.feed(value);
        if (!signal.aborted) this.lastEventId = parser.lastEventId; // after a close, some were not delivered
        if (parser.retry !== undefined) this.#retry = parser.retry / 1000;
        if (performance.now() - openedAt > 5000) this.#failures = 0;
      }
    }
  }
