"""Systems other than Linux: what only Linux has is hidden, and everything still imports and serves."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ..support.waiting import SECONDS

pytestmark = pytest.mark.integration

# What macOS lacks, or has otherwise. Other libraries are imported before, as they are not what is tested.
MACOS = r"""
import errno, logging, os, pkgutil, select, signal, socket, ssl, sys, time, types
import h11, httpx, hypercorn.trio, quart_trio, trio, trio.testing
import asyncio, click, multiprocessing, psutil, sqlite3

hidden = types.ModuleType("select")
hidden.__dict__.update({k: v for k, v in vars(select).items() if not k.lower().startswith("epoll")})
sys.modules["select"] = hidden
for module, names in (
    (socket, ("TCP_USER_TIMEOUT", "SO_PEERCRED", "SO_DOMAIN", "SO_PROTOCOL", "SO_INCOMING_CPU")),
    (time, ("CLOCK_BOOTTIME",)),
    (os, ("sched_getaffinity", "pidfd_open", "eventfd", "memfd_create", "O_PATH")),
):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
read_option = socket.socket.getsockopt

def getsockopt(self, level, option, *size):
    if (level, option) == (socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise OSError(errno.ENOPROTOOPT, "Protocol not available")
    return read_option(self, level, option, *size)

socket.socket.getsockopt = getsockopt
sys.platform = "darwin"
"""

SERVE = r"""
import trio_sse
for info in pkgutil.walk_packages(trio_sse.__path__, "trio_sse."):
    if not info.name.endswith("__main__"):
        __import__(info.name)
from trio_sse import EndReason, Hub, Response, Server
from trio_sse.asgi import event_stream
from trio_sse.quart import QuartSSE

app = quart_trio.QuartTrio("app")
sse = QuartSSE(app)
server = Server(app, hub=sse.hub)
ends = []
server.on_disconnect(lambda connection: ends.append(connection.end_reason))

@server.route("/native")
@sse.route("/quart")
async def stream(connection):
    await connection.subscribe("t")

@server.endpoint("/text")
async def text(request):
    return Response("text")

async def until(condition):
    while not condition():
        await trio.sleep(0.01)

async def ask(port, path, until_seen):
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    seen = b""
    while until_seen not in seen:
        piece = await stream.receive_some()
        assert piece, seen
        seen += piece
    return stream

async def main():
    with trio.fail_after(100):
        async with trio.open_nursery() as nursery:
            (address,) = await nursery.start(server.serve, "127.0.0.1", 0)
            port = address[1]
            await (await ask(port, "/text", b"\r\n\r\ntext")).aclose()
            for path in ("/native", "/quart"):
                client = await ask(port, path, b"id: ")
                await until(lambda: server.hub.statistics().subscriptions == 1)
                await server.hub.publish("t", "published")
                seen = b""
                while b"published" not in seen:
                    seen += await client.receive_some()
                await client.aclose()
                await until(lambda: server.hub.statistics().subscriptions == 0)
            assert ends == [EndReason.CLIENT_DISCONNECTED], ends
            await ask(port, "/native", b"id: ")
            await server.drain()
            assert ends[1:] == [EndReason.SERVER_SHUTDOWN], ends
            listener = socket.socket()
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            await nursery.start(server.serve_listeners, [listener])
            nursery.cancel_scope.cancel()

trio.run(main)
from trio_sse._process.suspension import seconds_suspended
assert seconds_suspended() == 0.0
print("served")
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=4 * SECONDS)


def test_without_what_only_linux_has_everything_imports_and_serves() -> None:
    finished = run(MACOS + SERVE)
    assert (finished.returncode, finished.stdout) == (0, "served\n"), finished.stderr


@pytest.mark.parametrize("hidden", ["fcntl", "termios"])
@pytest.mark.parametrize("module", ["trio_sse", "trio_sse.quart", "trio_sse.cli"])
def test_an_import_on_windows_says_that_it_is_not_supported(hidden: str, module: str) -> None:
    finished = run(f"import sys; sys.modules[{hidden!r}] = None; import {module}")
    assert finished.returncode == 1
    assert finished.stderr.splitlines()[-1].startswith(
        "ImportError: trio_sse needs a POSIX system, such as Linux or macOS. Windows is not supported"
    )
