  return Object.freeze({
    /** @param {string | URL} url @param {FollowOptions} [options] */
    follow: (url, options = {}) => openFollower(url, options),
    /** @param {EventTarget | string | URL} source
     *  @param {FollowOptions & {event?: string, elapsed?: number}} [options] */
    clock: (source, options = {}) => new Clock(source, options),
    /** @param {EventTarget | string | URL} source @param {(value: any, event: MessageEvent) => void} callback
     *  @param {FollowOptions & {initial?: any}} [options] */
    state: (source, callback, options = {}) => new State(source, callback, options),
    /** @param {string | URL} url @param {RunOptions} [options] */
    run: (url, options = {}) => new Run(url, options),
    FetchSource,
    mergePatch,
    jsonPatch,
  });
})();
