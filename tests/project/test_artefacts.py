"""The wheel and the sdist: each is built, and each extra is installed alone and runs.

That takes minutes and the package index, so it is not part of `make test`: `make test-artefacts` runs it.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
MINUTES = 600.0

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(2 * MINUTES),
]

# Serves a stream and reads it; `app` and `path` are what it serves.
SERVE = """
import trio
async def read(port, path):
    async with await trio.open_tcp_stream("127.0.0.1", port) as client:
        await client.send_all(f"GET {path} HTTP/1.1\\r\\nHost: a\\r\\n\\r\\n".encode())
        seen = b""
        while b"data: hello" not in seen:
            piece = await client.receive_some()
            assert piece, seen
            seen += piece
async def main():
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(serve, "127.0.0.1", 0)
            await read(address[1], '/')
            nursery.cancel_scope.cancel()
async def hello(connection):
    await connection.send("hello")
"""
CORE = (
    SERVE + "from trio_sse import Server\nserver = Server()\nserver.route('/')(hello)\nserve = server.serve\n"
)
RUN = "trio.run(main)\nprint('works')\n"

#: What each extra is for, in a few lines.
PROGRAMS = {
    "": CORE + RUN,
    "cli": "from click.testing import CliRunner\nfrom trio_sse.cli import main\n"
    "for command in ('serve', 'demo', 'tail', 'load', 'doctor'):\n"
    "    assert CliRunner().invoke(main, [command, '--help']).exit_code == 0\nprint('works')\n",
    "client": CORE.replace(
        "    async with await trio.open_tcp_stream",
        "    return await follow(port)\n    async with await trio.open_tcp_stream",
    )
    + "from trio_sse.client import EventSource\nasync def follow(port):\n"
    "    async with EventSource(f'http://127.0.0.1:{port}/') as source:\n"
    "        assert (await anext(source)).data == 'hello'\n" + RUN,
    "http2": CORE.replace("Server()", "Server(http2=True)") + RUN,
    "quart": SERVE + "from quart_trio import QuartTrio\nfrom trio_sse import Server\n"
    "from trio_sse.quart import QuartSSE\napp = QuartTrio('app')\nQuartSSE(app).route('/')(hello)\n"
    "serve = Server(app).serve\n" + RUN,
    "hypercorn": SERVE + "from functools import partial\nfrom hypercorn.config import Config\n"
    "from trio_sse import Hub\nfrom trio_sse.asgi import event_stream\nimport trio_sse.hypercorn\n"
    "endpoint = event_stream(hello)\n"
    "async def app(scope, receive, send):\n"
    "    if scope['type'] == 'http':\n        return await endpoint(scope, receive, send)\n"
    "    while True:\n        message = await receive()\n"
    "        await send({'type': message['type'] + '.complete'})\n"
    "        if message['type'] == 'lifespan.shutdown':\n            return\n"
    "async def serve(host, port, *, task_status):\n"
    "    config = Config()\n    config.bind = [f'{host}:{port}']\n"
    "    async with trio.open_nursery() as nursery:\n"
    "        (where,) = await nursery.start(partial(trio_sse.hypercorn.serve, app, config))\n"
    "        task_status.started([(host, int(where.rpartition(':')[2]))])\n" + RUN,
    "reload": "import trio_sse._program.file_watcher, watchfiles\nprint('works')\n",
    "state": "import trio\nfrom trio_sse import Hub, PatchFormat\nhub = Hub()\n"
    "states = [hub.state(p.value, {'a': 1}, patch=p) for p in PatchFormat]\n"
    "async def main():\n    async with trio.open_nursery() as nursery:\n"
    "        await nursery.start(hub.run)\n"
    "        for state in states:\n            await state.set({'a': 2})\n"
    "        nursery.cancel_scope.cancel()\ntrio.run(main)\nprint('works')\n",
    "metrics": CORE.replace("Server()", "Server(metrics_path='/metrics')")
    + "import trio_sse.metrics\n"
    + RUN,
    "otel": CORE.replace("Server()", "Server(hub=trio_sse.Hub(tracing=Tracing()))").replace(
        "from trio_sse import", "import trio_sse\nfrom trio_sse.otel import Tracing\nfrom trio_sse import", 1
    )
    + RUN,
    "redis": "from trio_sse import Hub\nfrom trio_sse.redis import RedisLog\n"
    "Hub(log=RedisLog('redis://127.0.0.1:1'))\nprint('works')\n",
    "all": CORE + "import trio_sse.quart, trio_sse.hypercorn, trio_sse.redis, trio_sse.cli\n" + RUN,
}


def run(*command: object, cwd: Path | None = None) -> str:
    """Run a command, which must succeed; return its output."""
    finished = subprocess.run(
        [str(part) for part in command], cwd=cwd, capture_output=True, text=True, timeout=MINUTES
    )
    assert finished.returncode == 0, finished.stdout + finished.stderr
    return finished.stdout


def environment(folder: Path, *requirements: object) -> Path:
    """Make an environment that has these alone; return its interpreter."""
    run(sys.executable, "-m", "venv", folder)
    python = folder / "bin" / "python"
    run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *requirements)
    return python


@pytest.fixture(scope="module")
def artefacts(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Build a wheel and an sdist from the files that git tracks; return their paths."""
    folder = tmp_path_factory.mktemp("artefacts")
    source = folder / "source"
    source.mkdir()
    run("git", "checkout-index", "--all", f"--prefix={source}/", cwd=ROOT)
    python = environment(folder / "builder", "hatchling>=1.27", "hatch-fancy-pypi-readme>=24.1", "twine")
    run(python, "-m", "hatchling", "build", cwd=source)
    (wheel,), (sdist,) = (source / "dist").glob("*.whl"), (source / "dist").glob("*.tar.gz")
    run(python, "-m", "twine", "check", "--strict", wheel, sdist)
    return wheel, sdist


def test_the_wheel_has_the_package_and_nothing_else(artefacts: tuple[Path, Path]) -> None:
    tracked = set(run("git", "ls-files", "trio_sse", cwd=ROOT).split())
    with zipfile.ZipFile(artefacts[0]) as wheel:
        names = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert names == tracked


def test_the_sdist_has_what_its_tests_need(artefacts: tuple[Path, Path]) -> None:
    with tarfile.open(artefacts[1]) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}
    assert {"Makefile", "CONTRIBUTING.md", "tests/conftest.py", ".ci/install-system-packages"} <= names


@pytest.mark.parametrize("extra", PROGRAMS)
def test_each_extra_alone_runs(artefacts: tuple[Path, Path], tmp_path: Path, extra: str) -> None:
    wheel, _ = artefacts
    python = environment(tmp_path / "alone", f"trio-sse[{extra}] @ {wheel.as_uri()}" if extra else wheel)
    assert run(python, "-m", "pip", "check").startswith("No broken requirements")
    assert run(python, "-W", "error", "-c", PROGRAMS[extra], cwd=tmp_path) == "works\n"
    if extra == "cli":
        assert run(tmp_path / "alone" / "bin" / "trio-sse", "--version").startswith("trio-sse")


def test_the_sdist_can_be_installed(artefacts: tuple[Path, Path], tmp_path: Path) -> None:
    python = environment(tmp_path / "alone", artefacts[1])
    assert run(python, "-W", "error", "-c", PROGRAMS[""], cwd=tmp_path) == "works\n"
