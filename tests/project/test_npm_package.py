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

from ..support.programs import ROOT
from ..support.requirements import find, needs
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
            packed.extractall(tmp_path, filter="data")
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
