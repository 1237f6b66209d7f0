"""The npm package: it is packed, installed and imported, and its types name what it has."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path

import pytest
import trio

from trio_sse import Connection, Request, Response, Run, Runs

from ..support.leaks import MakeServer
from ..support.programs import ROOT
from ..support.requirements import find, needs
from ..support.serving import on_sockets
from ..support.waiting import SECONDS

NPM = ROOT / "npm"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("npm") / "package"
    subprocess.run([sys.executable, NPM / "build.py", folder], check=True, cwd=ROOT, timeout=SECONDS)
    return folder


def test_its_version_is_that_of_the_server(built: Path) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert json.loads((built / "package.json").read_text())["version"] == project["version"]


def test_its_types_name_what_it_exports(built: Path) -> None:
    (exported,) = re.findall(r"^export const \{ (.*) \} = TrioSSE;$", (built / "index.js").read_text(), re.M)
    types = (built / "index.d.ts").read_text()
    assert set(exported.split(", ")) == set(re.findall(r"^export (?:function|class) (\w+)", types, re.M))


IMPORT = """
import { createServer } from "node:http";
import * as module from "trio-sse";
if ("TrioSSE" in globalThis) throw new Error("it has created a global");
const { mergePatch, FetchSource } = module;
const answer = createServer((request, response) => {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.end(`id: 7\\nevent: said\\ndata: ${request.headers.authorization}\\n\\n`);
});
answer.listen(0, "127.0.0.1", () => {
  const url = `http://127.0.0.1:${answer.address().port}/`;
  const source = new FetchSource(url, { headers: { Authorization: "Bearer t" }, reconnect: false });
  source.addEventListener("said", ({ data, lastEventId }) => {
    const patched = mergePatch({ a: 1 }, { a: null, b: 2 });
    console.log(JSON.stringify([Object.keys(module).sort(), patched, data, lastEventId]));
    source.close();
    answer.close();
  });
});
"""


@pytest.mark.integration
@needs("node")
def test_a_packed_package_is_imported(built: Path, tmp_path: Path) -> None:
    installed = tmp_path / "node_modules" / "trio-sse"
    installed.parent.mkdir()
    if npm := shutil.which("npm"):
        command = [npm, "pack", "--silent", "--pack-destination", str(tmp_path), str(built)]
        subprocess.run(command, check=True, capture_output=True, timeout=SECONDS)
        (archive,) = tmp_path.glob("*.tgz")
        with tarfile.open(archive) as packed:
            packed.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 has it
            packed.extractall(tmp_path)
        (tmp_path / "package").rename(installed)
    else:
        shutil.copytree(built, installed)
    files = {file.name for file in installed.iterdir()}
    assert files == {"package.json", "README.md", "LICENSE", "index.js", "index.d.ts"}
    (tmp_path / "main.mjs").write_text(IMPORT)
    command = [find("node"), str(tmp_path / "main.mjs")]
    printed = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS).stdout
    keys, patched, data, id = json.loads(printed)
    assert keys == sorted(["follow", "clock", "state", "run", "FetchSource", "mergePatch", "jsonPatch"])
    assert (patched, data, id) == ({"b": 2}, "Bearer t", "7")


AT_ONCE = """
import { createServer } from "node:http";
import { FetchSource } from "trio-sse";
const delays = [];
const later = globalThis.setTimeout;
globalThis.setTimeout = (act, delay, ...rest) => {
  delays.push(delay);
  return later(act, delay > 1000 ? delay : 0, ...rest);
};
let requests = 0;
const answer = createServer((request, response) => {
  requests += 1;
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  response.end("retry: 0\\ndata: one\\n\\n");
});
answer.listen(0, "127.0.0.1", () => {
  const source = new FetchSource(`http://127.0.0.1:${answer.address().port}/`);
  source.addEventListener("error", () => {
    if (requests < 3) return;
    source.close();
    answer.close();
    console.log(JSON.stringify(delays));
  });
});
"""


@pytest.mark.integration
@needs("node")
def test_a_client_waits_half_a_second_though_the_server_says_none(built: Path, tmp_path: Path) -> None:
    shutil.copytree(built, tmp_path / "node_modules" / "trio-sse")
    (tmp_path / "main.mjs").write_text(AT_ONCE)
    command = [find("node"), str(tmp_path / "main.mjs")]
    printed = subprocess.run(command, check=True, capture_output=True, timeout=SECONDS).stdout
    assert json.loads(printed).count(500) == 2  # beside other timers, of Node.js itself


IN_NODE = """
import { follow, run } from "trio-sse";
const base = process.argv[2];
const names = new Map();
const storage = {
  getItem: (name) => names.get(name) ?? null,
  setItem: (name, value) => names.set(name, value),
  removeItem: (name) => names.delete(name),
};
const options = { body: "count", key: "answer", storage };
const first = run(`${base}/moved`, options);
const seen = [];
for (const type of ["change", "tick"]) first.addEventListener(type, () => seen.push(type));
await first.ended;
const again = run(`${base}/moved`, options);
await again.ended;
const stopped = run(`${base}/moved`, { body: "endless" });
await new Promise((go) => stopped.addEventListener("change", go, { once: true }));
await stopped.stop();
await stopped.ended;
const stream = follow(`${base}/live`, { shared: true, lastEventId: process.argv[3] });
const { data } = await new Promise((go) => stream.addEventListener("message", go, { once: true }));
stream.close();
const ticks = seen.filter((type) => type === "tick").length;
const isSame = again.id === first.id;
console.log(JSON.stringify([first.text, first.result, ticks, isSame, again.text, stopped.reason, data]));
"""


@pytest.mark.integration
@needs("node")
async def test_runs_and_streams_in_node(built: Path, tmp_path: Path, make_server: MakeServer) -> None:
    """The run is behind redirects, and its connections are cut in the middle."""
    shutil.copytree(built, tmp_path / "node_modules" / "trio-sse")
    (tmp_path / "main.mjs").write_text(IN_NODE)
    server = make_server(max_duration=0.4)
    runs = Runs(server.hub)

    async def count(run: Run) -> int:
        for number in range(20):
            await run.append(f"{number} ")
            if number % 10 == 0:
                await run.emit(number, event="tick")
            await trio.sleep(0.05)
        return 20

    async def endless(run: Run) -> None:
        await trio.sleep_forever()

    @server.route("/runs", methods=["POST"])
    async def start(connection: Connection) -> None:
        function = count if connection.request.body == b"count" else endless
        view = await runs.start(function)
        await view.stream(connection)

    @server.route("/runs/{id}")
    async def join(connection: Connection, id: str) -> None:
        await runs.get(id).stream(connection)

    @server.endpoint("/runs/{id}/cancel", methods=["POST"])
    async def cancel(request: Request, id: str) -> Response:
        await runs.get(id).cancel("enough")
        return Response(status=204)

    @server.endpoint("/moved", methods=["POST"])
    @server.endpoint("/moved/{rest:path}", methods=["GET", "POST"])
    async def moved(request: Request, rest: str = "") -> Response:
        return Response(status=307, headers={"Location": f"/runs/{rest}".rstrip("/")})

    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    async with on_sockets(server) as serving:
        before = server.hub.last_event_id
        await server.hub.publish("live", "later")
        command = [find("node"), str(tmp_path / "main.mjs"), serving.url("").rstrip("/"), before]
        with trio.fail_after(SECONDS):
            done = await trio.run_process(command, capture_stdout=True)
    numbers = "".join(f"{number} " for number in range(20))
    assert json.loads(done.stdout) == [numbers, 20, 2, True, numbers, "enough", "later"]
