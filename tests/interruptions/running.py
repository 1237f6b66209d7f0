"""A site that is served, the connections to it, and what can happen to them."""

from __future__ import annotations

import errno
import ssl
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, final

import trio

import trio_sse.hypercorn
from trio_sse.testing._pipe import PipeEnd, open_pipe

from ..support.client import Client
from ..support.http2_bridge import Http2Bridge
from ..support.hypercorn_config import make_config
from .connections import ClientsEnd, ServersEnd, listen
from .places import Place, Steps
from .site import Site

_DIAL_SECONDS = 30.0


@final
class Running:
    """A site that is served.

    Attributes:
        clients: the clients' ends of all connections.
        ended: the call to serve has ended.
    """

    def __init__(self, site: Site, nursery: trio.Nursery, steps: Steps | None) -> None:
        self.site = site
        self.world = site.world
        self.clients: list[ClientsEnd] = []
        self.ended = trio.Event()
        self.hub_ended = trio.Event()
        self._nursery = nursery
        self._steps = steps
        self._hub_scope = trio.CancelScope()
        self._server_scope = trio.CancelScope()
        self._connection_scopes: set[trio.CancelScope] = set()
        self._pipes: list[tuple[PipeEnd, PipeEnd]] = []
        self._shutdown = trio.Event()
        self._where: Any = None

    # What runs

    def _note_task(self) -> None:
        if self._steps is not None and self.world.trigger.place is not Place.CLIENT:
            self._steps.roots.add(trio.lowlevel.current_task())

    def note_client(self) -> None:
        """Say that the current task is a client's, which may be interrupted at its own steps."""
        if self._steps is not None and self.world.trigger.place is Place.CLIENT:
            self._steps.roots.add(trio.lowlevel.current_task())

    async def run_hub(self, *, task_status: trio.TaskStatus[None]) -> None:
        self._note_task()
        self.hub_ended = trio.Event()
        try:
            with trio.CancelScope() as self._hub_scope:
                await self.world.hub.run(task_status=task_status)
        finally:
            self.hub_ended.set()

    async def run_server(self, *, task_status: trio.TaskStatus[Any]) -> None:
        self._note_task()
        site = self.site
        try:
            with self._server_scope:
                if site.host.transport == "hypercorn":
                    await self._run_hypercorn(task_status)
                    return
                assert site.server is not None
                if site.host.is_in_memory:
                    await site.server.serve_in_memory(task_status=task_status)
                    return
                context = None
                if site.host.has_tls:
                    assert site.certificate is not None
                    context = site.certificate.server_context()
                listening = listen(self.world)
                await site.server.serve_listeners(
                    [listening],
                    ssl_context=context,
                    exclusive=True,
                    proxy_protocol=site.scenario.proxy_protocol,
                    task_status=task_status,
                )
        finally:
            self.ended.set()

    async def _run_hypercorn(self, task_status: trio.TaskStatus[Any]) -> None:
        # After that, hypercorn ends a task that it leaves of some connections that their clients have closed.
        config = make_config(keep_alive_timeout=5.0)
        if self.site.host.has_tls:
            assert self.site.certificate is not None
            config.certfile, config.keyfile = (
                str(self.site.certificate.chain),
                str(self.site.certificate.key),
            )
        await trio_sse.hypercorn.serve(
            self.site.app,
            config,
            shutdown_trigger=self._shutdown.wait,
            drain_timeout=5.0,
            task_status=task_status,
        )

    async def start(self) -> None:
        """Run the hub and the server."""
        await self.start_hub()
        self._where = await self._nursery.start(self.run_server)

    async def start_hub_again(self) -> None:
        """Run the hub if it has ended, or was cancelled in the last step of a visit."""
        if self._hub_scope.cancel_called or not self.world.hub.is_running:
            await self.hub_ended.wait()
        await self.start_hub()

    async def start_hub(self) -> None:
        """Run the hub, unless it runs."""
        if not self.world.hub.is_running:
            await self._nursery.start(self.run_hub)

    # Clients

    async def connect_raw(self) -> trio.abc.Stream:
        """Open a connection, whose bytes are not looked at."""
        return await self._dial()

    async def connect(self) -> Client:
        """Open a connection."""
        host, stream = self.site.host, await self._dial()
        if host.is_http2:
            stream = Http2Bridge(stream, "https" if host.has_tls else "http")
        end = ClientsEnd(stream, self.world)
        self.clients.append(end)
        return Client(end)

    async def _dial(self) -> trio.abc.Stream:
        host = self.site.host
        stream: trio.abc.Stream
        if host.is_in_memory:
            ours, theirs = open_pipe()
            server_end = ServersEnd(theirs, self.world)
            self._pipes.append((ours, theirs))
            if self.world.trigger.place is Place.CONNECTION:
                self._nursery.start_soon(self._serve_stream, server_end)
            else:
                self._where(server_end, "memory")
            stream = ours
        else:
            (first,) = self._where
            port = int(first.rpartition(":")[2]) if isinstance(first, str) else first[1]
            stream = await _open_tcp_stream(port)
            if self.site.scenario.proxy_protocol:
                await stream.send_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 4711 443\r\n")
            if host.has_tls:
                stream = await self._secure(stream)
        return stream

    async def _secure(self, stream: trio.abc.Stream) -> trio.abc.Stream:
        assert self.site.certificate is not None
        context: ssl.SSLContext = self.site.certificate.context
        context.set_alpn_protocols(["h2" if self.site.host.is_http2 else "http/1.1"])
        secured = trio.SSLStream(stream, context, server_hostname="localhost")
        try:
            await secured.do_handshake()
        except BaseException:
            await trio.aclose_forcefully(stream)
            raise
        return secured

    async def _serve_stream(self, stream: trio.abc.Stream) -> None:
        self._note_task()
        with trio.CancelScope() as scope:
            self._connection_scopes.add(scope)
            try:
                assert self.site.server is not None
                await self.site.server.serve_stream(stream)
            finally:
                self._connection_scopes.discard(scope)

    # Interruptions: each may be called from outside of any task.

    def interrupt(self, place: Place) -> None:
        """Bring an interruption about."""
        actions: dict[Place, Callable[[], object]] = {
            Place.CONNECTION: partial(_cancel_all, self._connection_scopes),
            Place.HANDLER: partial(_cancel_all, self.world.handlers),
            Place.HUB: self._hub_scope.cancel,
            Place.SERVER: self._server_scope.cancel,
            Place.RUN: self._nursery.cancel_scope.cancel,
            Place.DISCONNECT: partial(self._leave, is_reset=False),
            Place.RESET: partial(self._leave, is_reset=True),
            Place.END: self._end_streams,
            Place.DRAIN: self._drain,
            Place.CLIENT: partial(_cancel_all, self.world.clients),
        }
        actions[place]()

    def _leave(self, *, is_reset: bool) -> None:
        for ours, _ in self._pipes:
            if is_reset:
                ours.reset()
            else:
                ours.close()
        for end in self.clients:
            stream: Any = end.stream
            while not isinstance(stream, trio.SocketStream | PipeEnd):
                stream = stream.transport_stream
            if isinstance(stream, trio.SocketStream):
                close_socket(stream, is_reset=is_reset)

    def _end_streams(self) -> None:
        for owner in self.site.owners:
            for info in owner.connections():
                owner.close_connections(id=info.id)

    def _drain(self) -> None:
        self._shutdown.set()
        if self.site.server is not None:
            self._nursery.start_soon(self.site.server.drain)

    # What is left

    def open_ends(self) -> list[str]:
        """Return the connections in memory that the server has not closed."""
        left = sum(not theirs.is_closed for _, theirs in self._pipes)
        return [f"{left} connections"] if left else []


def close_socket(stream: trio.SocketStream, *, is_reset: bool) -> None:
    """Close a client's socket at once."""
    if stream.socket.fileno() == -1:
        return
    if is_reset:
        stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    stream.socket.close()


def _cancel_all(scopes: Iterable[trio.CancelScope]) -> None:
    for scope in list(scopes):
        scope.cancel()


async def _open_tcp_stream(port: int) -> trio.SocketStream:
    """Connect, unless the kernel ignores that, as it does at the end of a drain.

    A client tries again after a second, and is refused then. A clock that jumps does not wait for that.
    """
    with trio.move_on_after(_DIAL_SECONDS):
        return await trio.open_tcp_stream("127.0.0.1", port)
    raise OSError(errno.ETIMEDOUT, "the kernel has ignored an attempt to connect")


@asynccontextmanager
async def running(site: Site, steps: Steps | None = None) -> AsyncIterator[Running]:
    """Serve a site; at the end, all of it is cancelled."""
    async with trio.open_nursery() as nursery:
        serving = Running(site, nursery, steps)
        await serving.start()
        yield serving
        nursery.cancel_scope.cancel()
