// What the page asks the server for. All paths are relative, as a proxy may have put something before them.

let csrf = "";

// An error that the server has answered.
export class Refused extends Error {
  constructor(status, text) {
    super(text || `the server answered ${status}`);
    this.status = status;
  }
}

async function check(response) {
  if (!response.ok) throw new Refused(response.status, (await response.text()).trim());
  return response;
}

async function take(response) {
  csrf = (await (await check(response)).json()).csrf;
}

function request(path, body, signal) {
  return fetch(path, {
    method: "POST",
    headers: { "Content-Type": "application/json", "X-CSRF-Token": csrf },
    body: JSON.stringify(body),
    signal,
  });
}

export const resume = async () => take(await fetch("session", { cache: "no-store" }));
export const logIn = async (token) => take(await request("login", { token }));
export const post = async (path, body) => check(await request(path, body));

// Send a POST that is answered by a stream, and pass on its events until it ends.
export async function stream(path, body, signal, onEvent) {
  const response = await check(await request(path, body, signal));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const blocks = (text + value).split("\n\n");
    text = blocks.pop();
    for (const block of blocks) dispatch(block, onEvent);
  }
}

function dispatch(block, onEvent) {
  let type = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event: ")) type = line.slice(7);
    else if (line.startsWith("data: ")) data.push(line.slice(6));
  }
  if (data.length) onEvent(type, JSON.parse(data.join("\n")));
}
