"""Serve an app by hypercorn, for what only hypercorn has: `docs/http2.md` says what that is.

::

    config = hypercorn.config.Config()
    config.bind = ["0.0.0.0:8443"]
    config.certfile, config.keyfile = "cert.pem", "key.pem"
    await trio_sse.hypercorn.serve(app, config)

It is hypercorn with our listening sockets, a graceful shutdown, and safe values for the settings that would
cut long-lived streams. The streams are those of `trio_sse.quart` and `trio_sse.asgi` in the app. They go
through ASGI's `send`: `docs/hosts.md` says what that costs, and what it cannot promise.

Some input, such as a path of HTTP/2 that is not ASCII, makes hypercorn raise an exception that ends it as a
whole. So the app's lifespan and the listening sockets are ours. When hypercorn fails, it is started again on
the same sockets. Its connections are lost then, and the clients of streams reconnect.

Needs the extra `hypercorn`: pip install 'trio-sse[hypercorn]'.
"""

from __future__ import annotations

import copy
import socket
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import Any, final

import trio

from ._app.lifespan import Lifespan
from ._asgi.contained_log import OnAccess, contained_log
from ._asgi.origin_middleware import OriginMiddleware
from ._asgi.outermost_app import OpenWork, OutermostApp
from ._asgi.types import ASGIApp
from ._asgi.websocket_guard import Handshakes
from ._backoff import delay
from ._groups import leaf_exceptions, split_failure
from ._logger import get_logger
from ._process.descriptors import raise_descriptor_limit
from ._process.handshakes import refuse_handshakes
from ._process.socket_file import SocketFile
from ._process.watchdog import Watchdog
from ._proxies.forwarded import FORWARDED_HEADERS
from ._server.listeners import prepare
from ._validate import check_bounds, check_seconds

try:
    from hypercorn.config import Config, Sockets
    from hypercorn.trio import serve as serve_by_hypercorn
except ImportError as error:
    raise ImportError("trio_sse.hypercorn needs its extra: pip install 'trio-sse[hypercorn]'") from error

__all__ = ["serve"]

logger = get_logger("trio_sse.hypercorn")

# Hypercorn ends a connection after some requests, and with it all streams of an HTTP/2 connection. That is
# its only defence against requests that are reset at once (CVE-2023-44487), so it stays bounded. A page that
# makes two requests a second beside its stream has an hour and a half, which is longer than a stream lasts.
_REQUESTS = 10_000

# Open streams per HTTP/2 connection: hypercorn's 100 are soon used up if each lasts an hour.
_CONCURRENT_STREAMS = 1000

_HANDSHAKE_SECONDS = 10.0

# How long before the end of the drain time hypercorn shuts down, and cancels everything that still runs.
_LAST_SECONDS = 0.25

# Hypercorn closes connections whose requests have not arrived when it shuts down. For this long the last
# clients can be accepted and send theirs.
_REQUEST_SECONDS = 0.5

# How long hypercorn may take to close its connections when it shuts down and no request is open.
_CLOSE_SECONDS = 0.5

# How long to wait before hypercorn is started again: the first time, and at most. A server that has run for a
# while starts with the first again.
_RESTART_SECONDS = (0.05, 5.0)
_STABLE_SECONDS = 10.0


async def serve(
    app: ASGIApp,
    config: Config,
    *,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    exclusive: bool | None = None,
    write_timeout: float = 30.0,
    drain_timeout: float = 10.0,
    send_buffer: int = 64 * 1024,
    slow_step: float = 1.0,
    trusted_proxies: Collection[str] = (),
    forwarded_headers: Collection[str] = FORWARDED_HEADERS,
    root_path: str = "",
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
        exclusive: no other process has the listening sockets, or ever gets them; see
            `trio_sse.Server.serve_listeners`. By default that is assumed unless the configuration has
            descriptors (`fd://`).
        write_timeout: seconds for which a client may accept no bytes while some are waiting for it. It is set
            as `TCP_USER_TIMEOUT`, with five seconds more, where the platform has that.
        drain_timeout: seconds that a shutdown may take before everything that still runs is cancelled.
        send_buffer: bytes that the kernel may buffer for each client (`SO_SNDBUF`).
        slow_step: a task that blocks the event loop for more than these seconds is named in a warning.
        trusted_proxies: the addresses and networks of the proxies in front of the server. What they say in
            header fields about a request counts; see `trio_sse.Server`.
        forwarded_headers: the header fields that these proxies set.
        root_path: the beginning of all paths, like `/app`, if a proxy removes it from the requests that it
            passes on; see `trio_sse.Server`. That of the configuration is for a proxy that does not.

    `task_status.started` is called with the URLs. When this is cancelled, everything has ended.

    Raises:
        OSError: an address cannot be listened on.
        RuntimeError: the app could not be started, or its lifespan ended while the app was served, which
            shuts the server down.
        TypeError, ValueError: an option is not acceptable.
    """
    check_seconds(write_timeout=write_timeout, drain_timeout=drain_timeout, slow_step=slow_step)
    check_bounds(1, send_buffer=send_buffer)
    called = app
    if trusted_proxies or root_path:
        called = OriginMiddleware(app, trusted_proxies, forwarded_headers, root_path=root_path)
    handshakes = Handshakes()
    ours = _with_safe_settings(config, drain_timeout, handshakes.on_access)
    if ours.ssl_enabled:
        ours.create_ssl_context()  # so that an error is raised before anything else has begun
    sockets = ours.create_sockets()
    if exclusive is None:
        exclusive = not any(bind.startswith("fd://") for bind in (*ours.bind, *ours.insecure_bind))
    watchdog = Watchdog(slow_step)
    watchdog.begin()
    trio.lowlevel.add_instrument(watchdog)
    try:
        raise_descriptor_limit()
        for listening in (*sockets.secure_sockets, *sockets.insecure_sockets):
            listening.listen(ours.backlog)
            prepare(listening, send_buffer=send_buffer, write_timeout=write_timeout)
        last = _LastClients(ours, sockets) if exclusive else None
        lifespan = Lifespan(app)
        async with lifespan.running(shutdown_timeout=ours.shutdown_timeout):
            open_work = OpenWork()
            outermost = OutermostApp(called, lifespan, open_work, handshakes, write_timeout=write_timeout)
            service = _Service(outermost, open_work, lifespan, ours, drain_timeout, task_status, last)
            # Of our copy: where hypercorn asks its configuration for sockets, it gets new copies of ours.
            ours.create_sockets = partial(_copies, sockets)  # type: ignore[method-assign]
            await service.run(shutdown_trigger)
    finally:
        watchdog.end()
        trio.lowlevel.remove_instrument(watchdog)
        _close(sockets)


@final
class _Service:
    """Hypercorn, which is started again whenever it fails; to it, the `TaskStatus` of its start."""

    def __init__(
        self,
        app: Any,  # hypercorn has its own ASGI types
        open_work: OpenWork,
        lifespan: Lifespan,
        config: Config,
        drain_timeout: float,
        task_status: trio.TaskStatus[list[str]],
        last_clients: _LastClients | None,
    ) -> None:
        self._app = app
        self._open_work = open_work
        self._lifespan = lifespan
        self._config = config
        self._last_clients = last_clients
        self._serving = trio.CancelScope()
        self._drain_timeout = drain_timeout
        self._task_status = task_status
        self._has_started = False
        self._has_begun_shutdown = False
        self._is_shutting_down = trio.Event()

    def started(self, value: Any = None) -> None:
        """Report the first start."""
        if not self._has_started:
            self._has_started = True
            self._task_status.started(value)

    async def run(self, shutdown_trigger: Callable[[], Awaitable[object]] | None) -> None:
        """Serve until cancelled, or until the trigger returns or the app's lifespan ends by itself."""
        async with trio.open_nursery() as nursery:
            self._open_work.nursery = nursery
            nursery.start_soon(self._shut_down_on, self._lifespan.failed.wait)
            if shutdown_trigger is not None:
                nursery.start_soon(self._shut_down_on, shutdown_trigger)
            attempt = 0
            while True:
                began_at = trio.current_time()
                if await self._serve():
                    break
                attempt = 0 if trio.current_time() >= began_at + _STABLE_SECONDS else attempt + 1
                await trio.sleep(delay(attempt, *_RESTART_SECONDS))
            nursery.cancel_scope.cancel()

    async def _serve(self) -> bool:
        """Run hypercorn once; return whether it has ended as it should."""
        try:
            with trio.CancelScope() as self._serving:
                await serve_by_hypercorn(
                    self._app,
                    self._config,
                    shutdown_trigger=self._is_shutting_down.wait,
                    task_status=self,
                )
        except BaseException as failure:
            if not self._has_started:
                raise
            passing, error = split_failure(failure)
            if error is not None:
                causes = leaf_exceptions(error) if isinstance(error, BaseExceptionGroup) else [error]
                what = "and is started again" if passing is None else "while it was cancelled"
                logger.error("hypercorn failed, %s: %s", what, ", ".join(map(repr, causes)))
                logger.debug("the failure was", exc_info=error)
            if passing is not None:
                raise passing from None
            return self._open_work.is_draining
        return True

    async def _shut_down_on(self, shutdown_trigger: Callable[[], Awaitable[object]]) -> None:
        await shutdown_trigger()
        if self._has_begun_shutdown:
            return
        self._has_begun_shutdown = True
        began = trio.current_time()
        deadline = began + self._drain_timeout
        self._open_work.nursery.start_soon(self._lifespan.drain.run, began, self._drain_timeout)
        with trio.move_on_at(deadline - min(_LAST_SECONDS, self._drain_timeout / 2)):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._open_work.drain, self._drain_timeout)
                if self._last_clients is not None:
                    await self._last_clients.answer()
        self._config.graceful_timeout = max(deadline - trio.current_time(), 0)
        self._is_shutting_down.set()
        # Hypercorn also waits for connections that will never close: of HTTP/2, if all requests were reset.
        await self._open_work.wait_idle()
        await trio.sleep(_CLOSE_SECONDS)
        self._serving.cancel()


@final
class _LastClients:
    """The clients that connect when the server shuts down, on sockets that no other process has."""

    def __init__(self, config: Config, sockets: Sockets) -> None:
        every = (*sockets.secure_sockets, *sockets.insecure_sockets)
        self._tcp = [each for each in every if each.family in (socket.AF_INET, socket.AF_INET6)]
        binds = (*config.bind, *config.insecure_bind)
        self._files = [SocketFile.of(bind[5:]) for bind in binds if bind.startswith("unix:")]

    async def answer(self) -> None:
        """Refuse new clients, if that is possible, and let hypercorn accept and answer those that wait."""
        if self._tcp or self._files:
            refuse_handshakes(self._tcp)
            for file in self._files:
                file.remove()
            await trio.sleep(_REQUEST_SECONDS)


def _with_safe_settings(config: Config, drain_timeout: float, on_access: OnAccess) -> Config:
    """Return a copy of a configuration that does not cut long-lived streams."""
    ours = copy.copy(config)
    ours.backlog = max(config.backlog, socket.SOMAXCONN)
    ours.graceful_timeout = drain_timeout
    ours.h2_max_concurrent_streams = max(config.h2_max_concurrent_streams, _CONCURRENT_STREAMS)
    ours.keep_alive_max_requests = max(config.keep_alive_max_requests, _REQUESTS)
    ours.max_requests = None  # it would end a worker without a drain
    ours.read_timeout = None  # an event stream's client sends nothing
    ours.ssl_handshake_timeout = min(config.ssl_handshake_timeout, _HANDSHAKE_SECONDS)
    ours.logger_class = contained_log(config.logger_class, on_access)
    # Hypercorn would not recognize its own class, which it replaces by another if there is a `statsd_host`.
    ours.set_statsd_logger_class = partial(_choose_log, ours, config, on_access)  # type: ignore[method-assign]
    return ours


def _choose_log(ours: Config, config: Config, on_access: OnAccess, for_statsd: type[Any]) -> None:
    if config.logger_class is Config.logger_class and config.statsd_host is not None:
        ours.logger_class = contained_log(for_statsd, on_access)


def _copies(sockets: Sockets) -> Sockets:
    """Return copies of sockets for hypercorn to listen on, which it closes when it ends."""
    lists = sockets.secure_sockets, sockets.insecure_sockets, sockets.quic_sockets
    return Sockets(*([each.dup() for each in of] for of in lists))


def _close(sockets: Sockets) -> None:
    for each in (*sockets.secure_sockets, *sockets.insecure_sockets, *sockets.quic_sockets):
        each.close()
