  // What clocks and states share: a source that they own and close, or one that was passed to them.
  class Listener {
    #listening = new AbortController();
    #isOwner;

    constructor(source, options) {
      this.#isOwner = typeof source === "string" || source instanceof URL;
      this.source = this.#isOwner ? openFollower(source, options) : source;
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
