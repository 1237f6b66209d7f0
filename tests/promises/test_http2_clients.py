"""Clients of HTTP/2 that others wrote, with many streams and requests on a few connections."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import httpx
import pytest
import trio

from trio_sse import Connection, Request, Response, Server

from ..support.asgi_apps import Receive, Send, answer, http_only
from ..support.certificates import Contexts
from ..support.leaks import MakeServer
from ..support.processes import output_of, read_until, running
from ..support.requirements import find, needs
from ..support.serving import OnSockets, on_sockets
from ..support.waiting import SECONDS, until

STREAMS = 40
BODY_SIZE = 300_000

#: Opens streams in one session. Once all have begun, it posts a body. It prints the answer once it has come,
#: and then how many streams have got an event.
NODE = """
const [url, count, size] = process.argv.slice(1);
const http2 = require("node:http2");
const session = http2.connect(url, {settings: {enablePush: false}});
let begun = 0, got = 0;
const post = () => {
  const request = session.request({":method": "POST", ":path": "/echo"});
  request.pipe(process.stdout);
  request.end(Buffer.alloc(Number(size)));
};
for (let number = 0; number < Number(count); number++) {
  const stream = session.request({":path": "/live"});
  stream.once("data", () => { if (++begun == count) post(); });
  stream.on("data", data => {
    if (!String(data).includes("data: hello")) return;
    if (++got == count) { process.stdout.write(` ${got}`); session.destroy(); }
  });
}
"""

#: Asks for the version over TLS, and prints it.
GET = """
const session = require("node:http2").connect(process.argv[1], {rejectUnauthorized: false});
const request = session.request({":path": "/version"});
request.pipe(process.stdout);
request.on("close", () => session.close());
"""


@http_only
async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    while (await receive())["more_body"]:
        pass
    await answer(send, b"x" * 100)


def with_routes(server: Server) -> Server:
    @server.route("/live")
    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    @server.endpoint("/version")
    async def version(request: Request) -> Response:
        return Response(request.http_version)

    @server.endpoint("/echo", methods=["POST"])
    async def echo(request: Request) -> Response:
        return Response(f"{len(request.body)}")

    return server


@needs("node")
async def test_node_has_forty_streams_and_a_post_in_one_session(make_server: MakeServer) -> None:
    server = with_routes(make_server(http2_cleartext=True))

    async with (
        on_sockets(server) as serving,
        running(find("node"), "-e", NODE, serving.url(""), f"{STREAMS}", f"{BODY_SIZE}") as process,
    ):
        await read_until(process, f"{BODY_SIZE}".encode())
        assert server.statistics().open_streams == STREAMS
        await server.hub.publish("live", "hello")
        await read_until(process, f" {STREAMS}".encode())
        assert await process.wait() == 0
        await until(lambda: server.statistics().open_streams == 0)


@needs("h2load")
@pytest.mark.parametrize(
    ("path", "requests", "options"),
    [
        ("/version", 1500, ["-c4", "-m25"]),
        ("/app", 800, ["-c2", "-m100"]),
        ("/echo", 300, ["-c3", "-m10", "-d"]),  # each uploads a file
    ],
    ids=["endpoint", "app", "upload"],
)
async def test_many_requests_of_h2load_all_succeed(
    make_server: MakeServer, tmp_path: Any, path: str, requests: int, options: list[str]
) -> None:
    server = with_routes(make_server(app=app, http2_cleartext=True))
    if options[-1] == "-d":
        body = tmp_path / "body"
        body.write_bytes(b"x" * 20_000)
        options = [*options, str(body)]
    async with on_sockets(server) as serving:
        report = await output_of(find("h2load"), f"-n{requests}", *options, serving.url(path))
    counts = {name: int(count) for count, name in re.findall(r"(\d+) (\w+)", report)}
    assert counts["succeeded"] == counts["2xx"] == requests, report
    assert counts["failed"] == counts["errored"] == 0, report


async def test_clients_negotiate_http2_over_tls_and_those_without_it_get_http1(
    make_server: MakeServer, contexts: Contexts
) -> None:
    server = with_routes(make_server())
    async with on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving:
        for http2 in (True, False):
            assert await ask_by_httpx(serving, contexts, http2=http2) == ("2" if http2 else "1.1")


async def ask_by_httpx(serving: OnSockets, contexts: Contexts, *, http2: bool) -> str:
    async with httpx.AsyncClient(verify=contexts.client, http2=http2, timeout=SECONDS) as client:
        return (await client.get(serving.url("/version"))).text


@needs("curl")
@needs("node")
@needs("nghttp")
async def test_programs_negotiate_http2_over_tls(make_server: MakeServer, contexts: Contexts) -> None:
    server = with_routes(make_server())
    async with on_sockets(server, server_tls=contexts.server, client_tls=contexts.client) as serving:
        url = serving.url("/version")
        assert await output_of(find("curl"), "-s", "--insecure", url) == "2"
        assert await output_of(find("curl"), "-s", "--insecure", "--http1.1", url) == "1.1"
        assert await output_of(find("node"), "-e", GET, serving.url("")) == "2"
        assert await output_of(find("nghttp"), "--no-verify-peer", url) == "2"


@needs("curl")
async def test_a_header_of_the_proxy_protocol_may_precede_http2(
    make_server: MakeServer, contexts: Contexts
) -> None:
    server = make_server(http2_cleartext=True, trusted_proxies=["127.0.0.1"])

    @server.endpoint("/peer")
    async def peer(request: Request) -> Response:
        return Response(f"{request.http_version} {request.peer}")

    async with trio.open_nursery() as nursery:
        for tls, options in ((contexts.server, ["--insecure"]), (None, ["--http2-prior-knowledge"])):
            serve = partial(server.serve, "127.0.0.1", 0, ssl_context=tls, proxy_protocol=True)
            [(host, port, *_)] = await nursery.start(serve)
            url = f"{'http' if tls is None else 'https'}://{host}:{port}/peer"
            printed = await output_of(find("curl"), "-s", *options, "--haproxy-protocol", url)
            assert printed.startswith("2 127.0.0.1:")
        nursery.cancel_scope.cancel()
