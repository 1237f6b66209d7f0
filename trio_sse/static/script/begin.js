// trio_sse for pages: streams that survive bad networks, the server's clock, states, and runs.
//
// It has no dependencies and no build step: a script tag, or `import "/trio-sse.js"`, creates the global `TrioSSE`:
//
// - `follow(url)`: an EventSource that falls back to long polling where a network blocks streams;
// - `clock(source)`: the time of `hub.run_ticker`, correct from the first paint and between the ticks;
// - `state(source, callback)`: the value of `hub.state`, kept up to date by its patches;
// - `run(url, options)`: a run of `Runs`, which goes on when the page reloads;
// - `FetchSource(url, options)`: an EventSource that sends headers and bodies.
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
  const [OPEN, CLOSED] = [1, 2]; // the states of an EventSource
  const UNKNOWN_CURSOR = 1; // seconds after which a stream without a cursor gets one from a poll
  const LONGEST_PAUSE = 3600; // seconds, whatever the server asks for; a timer of more than 24 days would end at once
  const SAMPLES = 20; // the number of ticks that set a clock

  /**
   * @typedef {object} FollowOptions
   * @property {string} [lastEventId] - the cursor to begin after, as received from the server
   * @property {boolean} [withCredentials] - send cookies to other origins, too
   * @property {HeadersInit} [headers] - further header fields, such as a token; streams are then read by fetch
   * @property {boolean} [topics] - read the topics of events that say them; streams are then read by fetch
   * @property {boolean | string} [shared] - one connection for all tabs of the origin that have the same options
   * @property {number} [wait] - seconds for which the server may hold a poll
   * @property {number} [patience] - seconds in which a stream must open; one that breaks in them is a strike
   * @property {number} [streamAgain] - seconds of polling before another stream; doubled each time, up to tenfold
   * @property {number} [firstDelay] - seconds before another attempt after a failure; doubled with each further one
   * @property {number} [longestDelay] - the most that this delay becomes
   */

  /** @type {Required<FollowOptions>} */
  const DEFAULTS = {
    lastEventId: "", withCredentials: false, headers: undefined, topics: false, shared: false,
    wait: 25, patience: 10, streamAgain: 60, firstDelay: 1, longestDelay: 30,
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

  // Return an event as EventSource dispatches it, with the topic that it says, if any.
  function messageEvent(type, data, origin, lastEventId, topic) {
    const event = new MessageEvent(type, { data, origin, lastEventId });
    return topic === undefined ? event : Object.assign(event, { topic });
  }

  // Return the seconds to wait by a response's Retry-After (RFC 9110, 10.2.3), at most an hour; 0 if there is none.
  function retryAfter(response) {
    const text = response.headers.get("Retry-After") ?? "";
    const seconds = /^\d+$/.test(text) ? Number(text) : (Date.parse(text) - Date.now()) / 1000;
    return Math.min(LONGEST_PAUSE, Math.max(0, seconds)) || 0;
  }
