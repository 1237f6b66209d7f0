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
