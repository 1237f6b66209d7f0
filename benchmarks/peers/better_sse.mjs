// better-sse on Node: sessions in a channel, which has a broadcast. Commands as in `harness/control.py`.

import { createServer } from "node:http";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";
import { readFileSync } from "node:fs";

const require = createRequire(process.argv[2]);
const { createSession, createChannel } = require("better-sse");

const DATA = "x".repeat(100);
const channel = createChannel();
const own = new Set();
let number = 0;

const server = createServer(async (request, response) => {
  const session = await createSession(request, response, { serializer: (data) => data, keepAlive: 15000 });
  if (request.url === "/own") {
    own.add(session);
    session.sent = 0;
    session.once("disconnected", () => own.delete(session));
  } else {
    channel.register(session);
  }
});

const answer = (reply, values) => console.log(JSON.stringify({ reply, ...values }));
const publish = (data) => channel.broadcast(data, "message", { eventId: String(++number) });
const stamp = () => String(process.hrtime.bigint()).padStart(20, "0").padEnd(DATA.length, "x");

function everySo(count, milliseconds, act, done) {
  const start = performance.now();
  let index = 0;
  const next = () => {
    act();
    if (++index === count) return setTimeout(done, milliseconds);
    setTimeout(next, start + index * milliseconds - performance.now());
  };
  next();
}

function pss() {
  return Number(/^Pss: +(\d+)/m.exec(readFileSync("/proc/self/smaps_rollup", "utf8"))[1]) * 1024;
}

server.keepAliveTimeout = 0;
server.requestTimeout = 0;
server.listen({ host: "127.0.0.1", port: 0, backlog: 4096 }, () => answer("listening", { port: server.address().port }));

const lines = createInterface({ input: process.stdin });
lines.on("close", () => process.exit(0));
lines.on("line", (line) => {
  const [name, count, milliseconds] = line.split(" ");
  if (name === "burst") {
    for (let i = 0; i < Number(count); i++) publish(DATA);
    answer("burst");
  } else if (name === "steady" || name === "stamped") {
    everySo(Number(count), Number(milliseconds), () => publish(name === "steady" ? DATA : stamp()), () => answer(name));
  } else if (name === "own") {
    for (const session of own) for (let i = 0; i < Number(count); i++) session.push(DATA, "message", String(++session.sent));
    answer("own");
  } else if (name === "cpu") {
    const { user, system } = process.cpuUsage();
    answer("cpu", { user_seconds: user / 1e6, system_seconds: system / 1e6 });
  } else if (name === "memory") {
    globalThis.gc?.();
    answer("memory", { pss_bytes: pss() });
  } else if (name === "quit") {
    process.exit(0);
  } else {
    answer("refused", { error: `no such command: ${line}` });
  }
});
