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
