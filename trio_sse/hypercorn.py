"""Serve an app by hypercorn, for what our own server doesn't speak: HTTP/2.

::

    config = hypercorn.config.Config()
    config.bind = ["0.0.0.0:8443"]
    config.certfile, config.keyfile = "cert.pem", "key.pem"
    await trio_sse.hypercorn.serve(app, config)

It is hypercorn's own server, with listening sockets of ours and with those of its settings put right that
would end event streams. The streams are those of `trio_sse.quart` and `trio_sse.asgi` in the app.

Needs the extra `hypercorn`: pip install 'trio-sse[hypercorn]'.
"""

from __future__ import annotations

import copy
import logging
import socket
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any, final

import trio
from hypercorn.config import Config, Sockets
from hypercorn.trio import run as hypercorn_run
from hypercorn.trio import serve as serve_by_hypercorn
from hypercorn.trio.tcp_server import TCPServer

from ._asgi.foreign_server import REGISTRY
from ._asgi.types import ASGIApp, Receive, Scope, Send
from ._http.exceptions import temporary_refusal
from ._process.descriptors import raise_descriptor_limit
from ._process.watchdog import Watchdog
from ._server.listeners import prepare
from ._stream.connection import Connection
from ._stream.scope import end_streams
from ._validate import check_bounds, check_seconds

__all__ = ["serve"]

logger = logging.getLogger("trio_sse.hypercorn")

# What hypercorn counts to, for streams that are to live on: it ends a connection after so many requests, and
# all of an HTTP/2 connection's streams with it.
_UNBOUNDED = 2**31 - 1

# Streams that one HTTP/2 connection may have open: hypercorn's 100 are soon used up where each lasts an hour.
_CONCURRENT_STREAMS = 1000

_HANDSHAKE_SECONDS = 10.0

# How long before the end of the drain time hypercorn is told to shut down, which is when it cancels what is
# left.
_LAST_SECONDS = 0.25

_guarded = 0  # calls of `serve` that run


async def serve(
    app: ASGIApp,
    config: Config,
    *,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    write_timeout: float = 30.0,
    drain_timeout: float = 10.0,
    send_buffer: int = 64 * 1024,
    slow_step: float = 1.0,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an app by hypercorn until cancelled or told to shut down.

    Args:
        app: any ASGI app.
        config: hypercorn's, which stays as it is. These settings of it are put right: `backlog`,
            `graceful_timeout`, `h2_max_concurrent_streams`, `keep_alive_max_requests`, `max_requests`,
            `read_timeout`, `ssl_handshake_timeout`.
        shutdown_trigger: the server shuts down when this returns: event streams end first, and their
            clients come back; then everything else does.
        write_timeout: seconds for which a client may take no byte at all while there are some for it; set
            as `TCP_USER_TIMEOUT`, where there is that.
        drain_timeout: seconds that shutting down may take before what is left is cancelled.
        send_buffer: bytes that the kernel may hold for each client (`SO_SNDBUF`).
        slow_step: a task that keeps the event loop for longer than these seconds is named in a warning.

    `task_status.started` is called with the URLs. When this is cancelled, everything has ended.

    Raises:
        OSError: an address can't be listened on.
        TypeError, ValueError: an option is not acceptable.
    """
    check_seconds(write_timeout=write_timeout, drain_timeout=drain_timeout, slow_step=slow_step)
    check_bounds(1, send_buffer=send_buffer)
    ours = _put_right(config, drain_timeout)
    sockets = ours.create_sockets()
    streams = _OpenStreams()

    async def shut_down() -> None:
        if shutdown_trigger is None:
            await trio.sleep_forever()
        else:
            await shutdown_trigger()
        deadline = trio.current_time() + drain_timeout
        with trio.move_on_at(deadline - min(_LAST_SECONDS, drain_timeout / 2)):
            await streams.drain(drain_timeout)
        ours.graceful_timeout = max(deadline - trio.current_time(), 0)

    watchdog = Watchdog(slow_step)
    trio.lowlevel.add_instrument(watchdog)
    try:
        raise_descriptor_limit()
        for listening in (*sockets.secure_sockets, *sockets.insecure_sockets):
            listening.listen(ours.backlog)
            prepare(listening, send_buffer=send_buffer, write_timeout=write_timeout)
        # Hypercorn asks its configuration for the sockets, and listens on them again, which is harmless.
        ours.create_sockets = lambda: sockets  # type: ignore[method-assign]  # of a copy that is ours
        wrapped: Any = _Registering(app, streams)  # hypercorn has its own types for what ASGI is
        with _guarding_connections():
            await serve_by_hypercorn(wrapped, ours, shutdown_trigger=shut_down, task_status=task_status)
    finally:
        trio.lowlevel.remove_instrument(watchdog)
        _close(sockets)


@final
class _GuardedTCPServer(TCPServer):
    """Hypercorn's server of one connection, of which nothing but its own end comes when it fails.

    What a peer sends can make it raise: a body that goes on when its stream is over, a head that is no ASCII,
    HTTP/2 that breaks off. Left to itself, the error would end the whole server, and everybody's streams.
    """

    async def run(self) -> None:
        try:
            await super().run()
        except Exception as error:
            logger.warning("hypercorn failed on a connection, which is closed: %r", _only(error))
            logger.debug("so it failed", exc_info=error)


def _only(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextmanager
def _guarding_connections() -> Iterator[None]:
    """Have hypercorn take the guarded server where it makes one for each connection: it has no setting."""
    global _guarded
    _guarded += 1
    hypercorn_run.TCPServer = _GuardedTCPServer  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _guarded -= 1
        if not _guarded:
            hypercorn_run.TCPServer = TCPServer  # type: ignore[attr-defined]


def _put_right(config: Config, drain_timeout: float) -> Config:
    """Give a copy of a configuration with which event streams live."""
    ours = copy.copy(config)
    ours.backlog = max(config.backlog, socket.SOMAXCONN)
    ours.graceful_timeout = drain_timeout
    ours.h2_max_concurrent_streams = max(config.h2_max_concurrent_streams, _CONCURRENT_STREAMS)
    ours.keep_alive_max_requests = _UNBOUNDED
    ours.max_requests = None  # a worker's end, which would be no drain
    ours.read_timeout = None  # an event stream's client has nothing to say
    ours.ssl_handshake_timeout = min(config.ssl_handshake_timeout, _HANDSHAKE_SECONDS)
    return ours


def _close(sockets: Sockets) -> None:
    for each in (*sockets.secure_sockets, *sockets.insecure_sockets, *sockets.quic_sockets):
        each.close()


@final
class _OpenStreams:
    """The event streams that are open on this server; see `Registry`."""

    def __init__(self) -> None:
        self.streams: dict[Connection, None] = {}
        self.waiting: set[trio.CancelScope] = set()
        self._is_draining = False
        self._changed = trio.lowlevel.ParkingLot()

    def check(self) -> None:
        if self._is_draining:
            raise temporary_refusal(503, "the server is shutting down")

    def remove(self, connection: Connection) -> None:
        del self.streams[connection]
        if not self.streams:
            self._changed.unpark_all()

    async def drain(self, drain_timeout: float) -> None:
        """Tell the streams to end, and wait until they have."""
        self._is_draining = True
        for scope in self.waiting:
            scope.cancel()
        await end_streams(list(self.streams), drain_timeout=drain_timeout)
        while self.streams:
            await self._changed.park()


@final
class _Registering:
    """The app, whose event streams find the registry in their scopes."""

    def __init__(self, app: ASGIApp, streams: _OpenStreams) -> None:
        self._app = app
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["extensions"] = {**(scope.get("extensions") or {}), REGISTRY: self._streams}
        await self._app(scope, receive, send)
