"""Serve an app by hypercorn, for HTTP/2, which our own server doesn't support.

::

    config = hypercorn.config.Config()
    config.bind = ["0.0.0.0:8443"]
    config.certfile, config.keyfile = "cert.pem", "key.pem"
    await trio_sse.hypercorn.serve(app, config)

It is hypercorn with our listening sockets, a graceful shutdown, and safe values for the settings that would
cut long-lived streams. The streams are those of `trio_sse.quart` and `trio_sse.asgi` in the app.

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

from ._asgi.foreign_server import DRAIN_REGISTRY
from ._asgi.types import ASGIApp, Receive, Scope, Send
from ._http.exceptions import temporary_refusal
from ._process.descriptors import raise_descriptor_limit
from ._process.watchdog import Watchdog
from ._server.listeners import prepare
from ._stream.scope import OpenStream, end_streams
from ._validate import check_bounds, check_seconds

try:
    from hypercorn.config import Config, Sockets
    from hypercorn.trio import run as hypercorn_run
    from hypercorn.trio import serve as serve_by_hypercorn
    from hypercorn.trio.tcp_server import TCPServer
except ImportError as error:
    raise ImportError("trio_sse.hypercorn needs its extra: pip install 'trio-sse[hypercorn]'") from error

__all__ = ["serve"]

logger = logging.getLogger("trio_sse.hypercorn")

# Hypercorn ends a connection after a number of requests, and with it all streams of an HTTP/2 connection.
_UNBOUNDED = 2**31 - 1

# Open streams per HTTP/2 connection: hypercorn's 100 are soon used up if each lasts an hour.
_CONCURRENT_STREAMS = 1000

_HANDSHAKE_SECONDS = 10.0

# How long before the end of the drain time hypercorn shuts down, and cancels everything that still runs.
_LAST_SECONDS = 0.25

_guarded = 0  # running calls of `serve`


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
    """Serve an app by hypercorn until cancelled or until `shutdown_trigger` returns.

    Args:
        app: any ASGI app.
        config: hypercorn's configuration, which is not changed. A copy has safe values for `backlog`,
            `graceful_timeout`, `h2_max_concurrent_streams`, `keep_alive_max_requests`, `max_requests`,
            `read_timeout` and `ssl_handshake_timeout`.
        shutdown_trigger: the server shuts down when this returns. Event streams end first, so that their
            clients reconnect, and everything else after them.
        write_timeout: seconds for which a client may take no byte while some are waiting for it. It is set
            as `TCP_USER_TIMEOUT`, with five seconds more, where the platform has that.
        drain_timeout: seconds that a shutdown may take before everything that still runs is cancelled.
        send_buffer: bytes that the kernel may buffer for each client (`SO_SNDBUF`).
        slow_step: a task that blocks the event loop for more than these seconds is named in a warning.

    `task_status.started` is called with the URLs. When this is cancelled, everything has ended.

    Raises:
        OSError: an address can't be listened on.
        TypeError, ValueError: an option is not acceptable.
    """
    check_seconds(write_timeout=write_timeout, drain_timeout=drain_timeout, slow_step=slow_step)
    check_bounds(1, send_buffer=send_buffer)
    ours = _with_safe_settings(config, drain_timeout)
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
        # Hypercorn takes the sockets from its configuration, and listens on them again, which is harmless.
        ours.create_sockets = lambda: sockets  # type: ignore[method-assign]  # of our copy
        wrapped: Any = _RegistryMiddleware(app, streams)  # hypercorn has its own ASGI types
        with _guarding_connections():
            await serve_by_hypercorn(wrapped, ours, shutdown_trigger=shut_down, task_status=task_status)
    finally:
        trio.lowlevel.remove_instrument(watchdog)
        _close(sockets)


@final
class _GuardedTCPServer(TCPServer):
    """Hypercorn's server of one connection, whose failure closes only that connection.

    Some input makes it raise: a body that continues after its stream has ended, a head that is not ASCII,
    HTTP/2 that is cut short. Without this class the error would end the whole server, and all streams.
    """

    async def run(self) -> None:
        try:
            await super().run()
        except Exception as error:
            logger.warning("hypercorn failed on a connection, which is closed: %r", _only(error))
            logger.debug("the failure was", exc_info=error)


def _only(error: Exception) -> Exception:
    while isinstance(error, ExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error


@contextmanager
def _guarding_connections() -> Iterator[None]:
    """Make hypercorn use the guarded server for each connection; it has no setting for that."""
    global _guarded
    _guarded += 1
    hypercorn_run.TCPServer = _GuardedTCPServer  # type: ignore[attr-defined]
    try:
        yield
    finally:
        _guarded -= 1
        if not _guarded:
            hypercorn_run.TCPServer = TCPServer  # type: ignore[attr-defined]


def _with_safe_settings(config: Config, drain_timeout: float) -> Config:
    """Return a copy of a configuration that does not cut long-lived streams."""
    ours = copy.copy(config)
    ours.backlog = max(config.backlog, socket.SOMAXCONN)
    ours.graceful_timeout = drain_timeout
    ours.h2_max_concurrent_streams = max(config.h2_max_concurrent_streams, _CONCURRENT_STREAMS)
    ours.keep_alive_max_requests = _UNBOUNDED
    ours.max_requests = None  # it would end a worker without a drain
    ours.read_timeout = None  # an event stream's client sends nothing
    ours.ssl_handshake_timeout = min(config.ssl_handshake_timeout, _HANDSHAKE_SECONDS)
    return ours


def _close(sockets: Sockets) -> None:
    for each in (*sockets.secure_sockets, *sockets.insecure_sockets, *sockets.quic_sockets):
        each.close()


@final
class _OpenStreams:
    """The event streams that are open on this server; see `DrainRegistry`."""

    def __init__(self) -> None:
        self.streams: dict[OpenStream, None] = {}
        self.waiting: set[trio.CancelScope] = set()
        self._is_draining = False
        self._changed = trio.lowlevel.ParkingLot()

    def check(self) -> None:
        if self._is_draining:
            raise temporary_refusal(503, "the server is shutting down")

    def remove(self, stream: OpenStream) -> None:
        del self.streams[stream]
        if not self.streams:
            self._changed.unpark_all()

    async def drain(self, drain_timeout: float) -> None:
        """End all streams, and wait until they have ended."""
        self._is_draining = True
        for scope in self.waiting:
            scope.cancel()
        await end_streams(list(self.streams), drain_timeout=drain_timeout)
        while self.streams:
            await self._changed.park()


@final
class _RegistryMiddleware:
    """The app, with the registry in the scopes of its requests."""

    def __init__(self, app: ASGIApp, streams: _OpenStreams) -> None:
        self._app = app
        self._streams = streams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            scope["extensions"] = {**(scope.get("extensions") or {}), DRAIN_REGISTRY: self._streams}
        await self._app(scope, receive, send)
