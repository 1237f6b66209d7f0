"""Serving in one process, until a signal ends it."""

from __future__ import annotations

import signal
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, final

import trio

from .._asgi.types import ASGIApp
from .._logger import get_logger
from .._server.server import Server
from .certificates import Certificates
from .errors import ProgramError
from .listening import Listening, ListenOptions, listening_on
from .monitor import listening_for_monitor, serve_monitor
from .service_manager import ServiceManager
from .signals import drain_on_signal
from .stop_guard import StopGuard

logger = get_logger("trio_sse.program")

_HYPERCORN_DRAIN_SECONDS = 10.0

Announce = Callable[[list[str]], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceOptions:
    """What a server of the program has around it.

    Attributes:
        listen: where to listen.
        announce: is called with the URLs once the server serves.
        certificates: serve over TLS with these. SIGHUP loads them again.
        proxy_protocol: connections from trusted proxies begin with a header of the PROXY protocol.
        manager: what started the program, and wants to know how it is.
        monitor_listen: where metrics and health checks have an address of their own.
        announce_monitor: is called with its URLs.
        parent_alive: a descriptor that becomes readable when the parent process, which restarts this one, has
            ended.
    """

    listen: ListenOptions
    announce: Announce
    certificates: Certificates | None = None
    proxy_protocol: bool = False
    manager: ServiceManager = field(default_factory=ServiceManager)
    monitor_listen: ListenOptions | None = None
    announce_monitor: Announce = lambda urls: None
    parent_alive: int | None = None

    @property
    def scheme(self) -> str:
        """The scheme of the URLs."""
        return "http" if self.certificates is None else "https"

    def reload(self) -> None:
        """Load the certificates again, and report it."""
        assert self.certificates is not None
        self.manager.reloading()
        self.certificates.reload()
        self.manager.ready("Serving")


async def serve_until_signalled(
    server: Server, options: ServiceOptions, *, background: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Serve until SIGTERM or SIGINT, which drain; a second SIGINT stops at once.

    If the drain takes longer than it may, or the stop is not at once, the process ends; see `StopGuard`.

    Args:
        background: runs while the server serves, and is cancelled when it has ended.

    Raises:
        ProgramError: an address is not available.
    """
    context = None if options.certificates is None else options.certificates.context

    async def serve(listening: Listening, task_status: trio.TaskStatus[object]) -> None:
        await server.serve_listeners(
            listening.sockets,
            ssl_context=context,
            exclusive=listening.is_exclusive,
            proxy_protocol=options.proxy_protocol,
            task_status=task_status,
        )

    await _run(
        options,
        serve,
        server.drain,
        drain_timeout=server.drain_timeout,
        background=background,
        monitored=server,
    )


async def serve_by_hypercorn(
    app: ASGIApp,
    options: ServiceOptions,
    *,
    drain_timeout: float | None = None,
    access_log: bool = False,
    **hypercorn_options: Any,
) -> None:
    """Serve an app by hypercorn until SIGTERM or SIGINT, as `serve_until_signalled` does.

    Further options are those of `trio_sse.hypercorn.serve`.

    Args:
        access_log: whether hypercorn logs each request.

    Raises:
        ProgramError: an address cannot be used, or the extra is missing.
    """
    try:
        from .. import hypercorn
        from .hypercorn_config import make_config
    except ImportError:
        raise ProgramError("--host hypercorn needs its extra: pip install 'trio-sse[hypercorn]'") from None
    seconds = _HYPERCORN_DRAIN_SECONDS if drain_timeout is None else drain_timeout
    context = None if options.certificates is None else options.certificates.context
    config = make_config(context, access_log=access_log)
    shutdown = trio.Event()

    async def serve(listening: Listening, task_status: trio.TaskStatus[object]) -> None:
        config.bind = [f"fd://{each.detach()}" for each in listening.sockets]
        await hypercorn.serve(
            app,
            config,
            shutdown_trigger=shutdown.wait,
            exclusive=listening.is_exclusive,
            drain_timeout=seconds,
            task_status=task_status,
            **hypercorn_options,
        )

    async def shut_down() -> None:
        shutdown.set()

    await _run(options, serve, shut_down, drain_timeout=seconds)


async def _run(
    options: ServiceOptions,
    serve: Callable[[Listening, trio.TaskStatus[object]], Awaitable[None]],
    drain: Callable[[], Awaitable[None]],
    *,
    drain_timeout: float,
    background: Callable[[], Awaitable[None]] | None = None,
    monitored: Server | None = None,
) -> None:
    """Run a server on the program's sockets until it has ended, and drain it on a signal."""
    is_serving = False
    numbers = [signal.SIGINT, signal.SIGTERM]
    if options.certificates is not None:
        numbers.append(signal.SIGHUP)

    async def begin_drain() -> None:
        options.manager.stopping()
        listening.remove_names()  # before the last clients are accepted
        if is_serving:
            await drain()
        else:
            nursery.cancel_scope.cancel()

    async def end_with_parent(parent_alive: int) -> None:
        await trio.lowlevel.wait_readable(parent_alive)
        logger.error("the parent process has ended: stopping")
        nursery.cancel_scope.cancel()

    async def run(*, task_status: trio.TaskStatus[object]) -> None:
        await serve(listening, task_status)
        nursery.cancel_scope.cancel()

    with (
        StopGuard(drain_timeout, options.parent_alive) as guard,
        guard.signals(*numbers) as signals,  # before anybody can connect
        listening_on(options.listen) as listening,
        listening_for_monitor(options.monitor_listen, options.announce_monitor) as monitor_listening,
    ):
        names = listening.describe(options.scheme)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_on_signal, signals, begin_drain, options.reload, nursery)
            if options.parent_alive is not None:
                nursery.start_soon(end_with_parent, options.parent_alive)
            if monitored is not None and monitor_listening.sockets:
                nursery.start_soon(serve_monitor, monitored, monitor_listening.sockets)
            await nursery.start(run)
            is_serving = True
            listening.keep_names()
            monitor_listening.keep_names()
            options.announce(names)
            options.manager.ready(f"Serving on {', '.join(names)}")
            nursery.start_soon(options.manager.say_alive)
            if background is not None:
                nursery.start_soon(background)
