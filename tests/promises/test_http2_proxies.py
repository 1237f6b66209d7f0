"""Proxies that speak HTTP/2 to the server, with TLS and without: events, disconnects, cuts and uploads."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pytest
import trio

from trio_sse import Connection, Request, Response, Server

from ..support.certificates import Contexts
from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.ports import free_port
from ..support.processes import curl, output_of, read_until
from ..support.programs import ROOT
from ..support.requirements import find, needs
from ..support.waiting import SECONDS, until
from ..support.websocket_client import WebSocket

CONFIGURATIONS = ROOT / "examples" / "proxies"
BODY_SIZE = 300_000


class Ports(NamedTuple):
    """Where the server listens, and a proxy before each of these."""

    plain: int
    tls: int
    proxies: list[int]


def haproxy(folder: Path, ports: Ports) -> list[str]:
    """Return the command of HAProxy with the configuration of the examples, for each port of the server."""
    text = (CONFIGURATIONS / "haproxy.cfg").read_text()
    common, _, sites = text.partition("frontend")
    for name, port, server, options in (
        ("plain", ports.proxies[0], ports.plain, "proto h2"),
        ("tls", ports.proxies[1], ports.tls, "ssl verify none alpn h2"),
    ):
        site = f"frontend{sites}".replace("public", name).replace("streams", f"to_{name}")
        site = site.replace(":8080", f"127.0.0.1:{port}").replace(":8000 check", f":{server} {options}")
        common += "".join(line for line in site.splitlines(True) if "8001" not in line)
    (folder / "haproxy.cfg").write_text(common)
    return [find("haproxy"), "-db", "-f", str(folder / "haproxy.cfg")]


def nghttpx(folder: Path, ports: Ports) -> list[str]:
    """Return the command of nghttpx, as above; a host name decides which port of the server is meant."""
    lines = (CONFIGURATIONS / "nghttpx.conf").read_text().splitlines()
    kept = [line for line in lines if not line.startswith(("backend=", "frontend="))]
    kept += [f"frontend=127.0.0.1,{port};no-tls" for port in ports.proxies]
    kept += [f"backend=127.0.0.1,{ports.plain};127.0.0.1:{ports.proxies[0]}/;proto=h2"]
    kept += [f"backend=127.0.0.1,{ports.tls};127.0.0.1:{ports.proxies[1]}/;proto=h2;tls"]
    kept += [
        f"backend=127.0.0.1,{ports.plain};/;proto=h2",
        "insecure=yes",
        "workers=1",
        "errorlog-file=/dev/null",
    ]
    (folder / "nghttpx.conf").write_text("\n".join(kept) + "\n")
    return [find("nghttpx"), f"--conf={folder / 'nghttpx.conf'}"]


def make_routes(server: Server) -> None:
    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    @server.route("/ends/{is_cut:int}")
    async def ends(connection: Connection, is_cut: int) -> None:
        async with server.hub.subscribe("end") as end:
            await connection.send("first")
            await anext(end)
            if is_cut:
                connection.close(reconnect=True)

    @server.websocket("/websocket")
    async def websocket(connection: Connection) -> None:
        await connection.send("hello")

    @server.endpoint("/echo", methods=["POST"])
    async def echo(request: Request) -> Response:
        return Response(f"{request.http_version} {len(request.body)} {request.peer.partition(':')[0]}")


@asynccontextmanager
async def behind(
    server: Server, tls: ssl.SSLContext, command: Callable[[Path, Ports], list[str]], folder: Path
) -> AsyncIterator[list[str]]:
    """Serve, and run a proxy; yield the URLs at which it forwards without TLS, and over TLS."""
    async with trio.open_nursery() as nursery:
        [(_, plain, *_)] = await nursery.start(partial(server.serve, "127.0.0.1", 0))
        [(_, secure, *_)] = await nursery.start(partial(server.serve, "127.0.0.1", 0, ssl_context=tls))
        ports = Ports(int(str(plain)), int(str(secure)), [free_port(), free_port()])
        process = await trio.lowlevel.open_process(command(folder, ports), stderr=None)
        try:
            for port in ports.proxies:
                await until_open(port)
            yield [f"http://127.0.0.1:{port}" for port in ports.proxies]
        finally:
            process.terminate()
            with trio.CancelScope(shield=True):
                await process.wait()
            nursery.cancel_scope.cancel()


async def until_open(port: int) -> None:
    while True:
        try:
            await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()
        except OSError:
            await trio.sleep(0.02)
        else:
            return


@pytest.mark.integration
@needs("curl")
@pytest.mark.parametrize(
    ("command", "http2"),
    [
        pytest.param(haproxy, False, marks=needs("haproxy"), id="haproxy"),
        pytest.param(nghttpx, False, marks=needs("nghttpx"), id="nghttpx"),
        pytest.param(nghttpx, True, marks=needs("nghttpx"), id="nghttpx-http2"),
    ],
)
async def test_a_proxy_with_http2_to_the_server_passes_on_all_that_happens(
    make_server: MakeServer,
    contexts: Contexts,
    tmp_path: Path,
    command: Callable[[Path, Ports], list[str]],
    http2: bool,
) -> None:
    server = make_server(
        http2_cleartext=True,
        trusted_proxies=["127.0.0.1"],
        forwarded_headers=["X-Forwarded-For", "X-Forwarded-Proto"],
    )
    make_routes(server)
    body = tmp_path / "body"
    body.write_bytes(bytes(BODY_SIZE))
    options = ["--http2-prior-knowledge"] if http2 else []

    with trio.fail_after(SECONDS):
        async with behind(server, contexts.server, command, tmp_path) as urls:
            for url in urls:
                post = output_of(find("curl"), "-s", *options, "--data-binary", f"@{body}", f"{url}/echo")
                assert await post == f"2 {BODY_SIZE} 127.0.0.1"

                async with curl(f"{url}/live", *options) as process:
                    for text in ("one", "two"):
                        await until(lambda: server.hub.statistics().subscriptions == 1)
                        await server.hub.publish("live", text)
                        await read_until(process, f"data: {text}\n\n".encode())  # at once
                    assert server.statistics().open_streams == 1
                while server.statistics().open_streams:  # HAProxy notices it by what it cannot send
                    await server.hub.publish("live", "more")
                    await trio.sleep(0.01)

                if not http2:  # HTTP/1.1 to the proxy becomes an extended CONNECT to the server
                    port = int(url.rpartition(":")[2])
                    async with WebSocket(Client(await trio.open_tcp_stream("127.0.0.1", port))) as websocket:
                        head = await websocket.open("/websocket", "Content-Length: 0")
                        assert head.status == 101
                        assert "hello" in str(await websocket.message())

                for is_cut, code in ((0, 0), (1, 92 if http2 else 18)):
                    async with curl(f"{url}/ends/{is_cut}", *options) as process:
                        await read_until(process, b"data: first\n\n")
                        await server.hub.publish("end", "")
                        assert await process.wait() == code
