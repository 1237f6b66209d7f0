"""Ways to serve in a test: over memory streams, where time is the test's, or over real sockets."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import trio
import trio.testing

from trio_sse import Hub, Server

from .client import Client
from .http2_bridge import Http2Bridge
from .waiting import SECONDS

#: Whether clients of `InMemory` and `OnSockets` speak HTTP/2, behind a bridge; see the fixture `protocol`.
over_http2 = False


def client_of(stream: trio.abc.Stream) -> Client:
    """Return the client of a connection."""
    return Client(Http2Bridge(stream) if over_http2 else stream)


@asynccontextmanager
async def running(hub: Hub) -> AsyncIterator[trio.Nursery]:
    """Run a hub; at the end, it is cancelled with all tasks of the nursery."""
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        yield nursery
        nursery.cancel_scope.cancel()


class InMemory:
    """A server that is reached over memory streams."""

    def __init__(self, server: Server, nursery: trio.Nursery) -> None:
        self._server = server
        self.nursery = nursery

    def connect(self) -> Client:
        """Open a connection. Its pipe to the client has no bound, so the server never waits to write."""
        ours, theirs = trio.testing.memory_stream_pair()
        self.nursery.start_soon(self._server.serve_stream, theirs)
        return client_of(ours)

    def connect_lockstep(self) -> Client:
        """Open a connection on which every write waits until the other side reads."""
        ours, theirs = trio.testing.lockstep_stream_pair()
        self.nursery.start_soon(self._server.serve_stream, theirs)
        return client_of(ours)


@asynccontextmanager
async def in_memory(server: Server) -> AsyncIterator[InMemory]:
    """Serve memory streams and run the hub; at the end, all of it is cancelled."""
    async with trio.open_nursery() as nursery:
        await nursery.start(server.hub.run)
        yield InMemory(server, nursery)
        nursery.cancel_scope.cancel()


class OnSockets:
    """A server that listens on a port of 127.0.0.1."""

    def __init__(self, nursery: trio.Nursery, address: tuple[str, int], tls: ssl.SSLContext | None) -> None:
        self.nursery = nursery
        self.address = address
        self._tls = tls

    async def connect(self) -> Client:
        """Open a connection."""
        stream: trio.abc.Stream = await trio.open_tcp_stream(*self.address)
        if self._tls is not None:
            self._tls.set_alpn_protocols(["h2" if over_http2 else "http/1.1"])
            stream = trio.SSLStream(stream, self._tls, server_hostname="localhost")
            self._tls.set_alpn_protocols(["http/1.1"])  # for the other users of the context
        return client_of(stream)

    def url(self, path: str) -> str:
        """Return the URL of a path."""
        scheme = "http" if self._tls is None else "https"
        return f"{scheme}://{self.address[0]}:{self.address[1]}{path}"


@asynccontextmanager
async def on_sockets(
    server: Server,
    *,
    server_tls: ssl.SSLContext | None = None,
    client_tls: ssl.SSLContext | None = None,
    seconds: float = SECONDS,
) -> AsyncIterator[OnSockets]:
    """Serve on a free port for at most this many seconds; at the end, the server is cancelled."""
    with trio.fail_after(seconds):
        async with trio.open_nursery() as nursery:
            serve = partial(server.serve, "127.0.0.1", 0, ssl_context=server_tls)
            addresses = await nursery.start(serve)
            yield OnSockets(nursery, addresses[0], client_tls)
            nursery.cancel_scope.cancel()
