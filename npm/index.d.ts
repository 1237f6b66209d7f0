/** Options of `follow`; times are in seconds. */
export interface FollowOptions {
  /** The cursor to begin after, as received from the server. */
  lastEventId?: string;
  /** Send cookies to other origins, too. */
  withCredentials?: boolean;
  /** Further header fields, such as a token; streams are then read by `fetch`. */
  headers?: HeadersInit;
  /** Read the topics of events that say them; streams are then read by `fetch`. */
  topics?: boolean;
  /** One connection for all tabs of the origin with the same URL and options, and with the same text, if it is one. */
  shared?: boolean | string;
  /** For how long the server may hold a poll. */
  wait?: number;
  /** The time in which a stream must open; one that breaks in it counts as a failure. */
  patience?: number;
  /** How long to poll before another stream. */
  streamAgain?: number;
  /** The pause before another attempt after a failure. */
  firstDelay?: number;
  /** The most that this pause becomes. */
  longestDelay?: number;
}

export type FollowStatus = "connecting" | "streaming" | "polling" | "waiting" | "closed";

/** An event, as `follow` and `FetchSource` dispatch it. */
export interface StreamEvent extends MessageEvent<string> {
  /** Where it was published, if the server says so. */
  readonly topic?: string;
}

/** What `follow` returns: events are dispatched under their types, as `StreamEvent`, and "statuschange". */
export interface Follower extends EventTarget {
  readonly status: FollowStatus;
  readonly error: (Error & { status: number }) | null;
  readonly lastEventId: string;
  readonly url: string;
  restart(): void;
  close(): void;
}

/** Follow a URL: an `EventSource` that falls back to long polling, and notices dead connections. */
export function follow(url: string | URL, options?: FollowOptions): Follower;

export interface Clock {
  elapsed(): number;
  now(): number;
  readonly offset: number;
  onSecond(callback: (second: number) => void, options?: { of?: "elapsed" | "now" }): () => void;
  close(): void;
}

/** The server's time, from the ticks of `hub.run_ticker`. */
export function clock(
  source: EventTarget | string | URL,
  options?: FollowOptions & { event?: string; elapsed?: number },
): Clock;

export interface State<T> {
  readonly value: T | undefined;
  readonly source: EventTarget;
  close(): void;
}

/** The value of a `hub.state`, kept up to date by its patches. */
export function state<T = unknown>(
  source: EventTarget | string | URL,
  callback: (value: T, event: MessageEvent) => void,
  options?: FollowOptions & { initial?: T },
): State<T>;

export interface RunOptions {
  /** What starts the run: text, or a value that is sent as JSON. */
  body?: unknown;
  /** Header fields of all requests, such as a token. */
  headers?: HeadersInit;
  /** The run to join, rather than starting one. */
  id?: string;
  /** Remember the run in the tab under this name, and join it again after a reload. */
  key?: string;
  /** Where, instead of `sessionStorage`. */
  storage?: Storage;
  /** The address of a run; by default `${url}/${id}`. */
  join?: (id: string) => string;
  /** Where to POST to cancel it; by default `${url}/${id}/cancel`. */
  cancel?: (id: string) => string;
  /** Send cookies to other origins, too. */
  withCredentials?: boolean;
}

export type RunStatus =
  "connecting" | "pending" | "running" | "finished" | "failed" | "cancelled" | "lost" | "gone";

/** What `run` returns: dispatches "change", "end", and what the run emits under its own types. */
export interface Run<Result = unknown, RunState = unknown> extends EventTarget {
  readonly status: RunStatus;
  readonly id: string;
  readonly text: string;
  readonly texts: Readonly<Record<string, string>>;
  readonly state: RunState | undefined;
  readonly reason: string | undefined;
  readonly result: Result | undefined;
  readonly isConnected: boolean;
  readonly hasEnded: boolean;
  readonly ended: Promise<Run<Result, RunState>>;
  stop(): Promise<void>;
  close(): void;
  forget(): void;
}

/** Start a run of the server's `Runs`, or join it; join it again whenever the connection is lost. */
export function run<Result = unknown, RunState = unknown>(
  url: string | URL,
  options?: RunOptions,
): Run<Result, RunState>;

export interface FetchOptions {
  method?: string;
  headers?: HeadersInit;
  body?: BodyInit;
  withCredentials?: boolean;
  lastEventId?: string;
  /** Whether to reconnect; by default, whether the method is GET. */
  reconnect?: boolean;
  /** Seconds without a byte, comments included, after which a connection is dead. */
  silence?: number;
  /** Called with each event, whatever its type. */
  receive?: (type: string, data: string, id: string, topic?: string) => void;
}

/** An `EventSource` that sends any request by `fetch`. */
export class FetchSource extends EventTarget {
  constructor(url: string | URL, options?: FetchOptions);
  readonly readyState: 0 | 1 | 2;
  readonly refusal: number;
  readonly lastEventId: string;
  close(): void;
}

/** Apply a JSON Merge Patch (RFC 7396); return a new value. */
export function mergePatch(target: unknown, patch: unknown): unknown;

export interface PatchOperation {
  op: "add" | "remove" | "replace" | "move" | "copy" | "test";
  path: string;
  from?: string;
  value?: unknown;
}

/** Apply a JSON Patch (RFC 6902); return a new value. */
export function jsonPatch(document: unknown, operations: readonly PatchOperation[]): unknown;
