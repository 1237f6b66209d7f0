"""Serving in one process, until a signal ends it."""

from __future__ import annotations

import logging
import signal
import ssl
from collections.abc import Awaitable, Callable

import trio

from .._asgi.types import ASGIApp
from .._server.server import Server
from .errors import ProgramError
from .listening import ListenOptions, listening_on
from .signals import drain_on_signal
from .stop_guard import StopGuard

_HYPERCORN_DRAIN_SECONDS = 10.0

Announce = Callable[[list[str]], None]


def load_certificate(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """Return a TLS context that uses PEM files, or `None` without a certificate.

    Raises:
        ProgramError: the files cannot be used.
    """
    if certfile is None:
        if keyfile is not None:
            raise ProgramError("--keyfile needs --certfile")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except (OSError, ssl.SSLError) as error:
        raise ProgramError(f"cannot use the certificate {certfile}: {error}") from error
    return context


async def serve_until_signalled(
    server: Server,
    listen: ListenOptions,
    *,
    ssl_context: ssl.SSLContext | None = None,
    announce: Announce,
    background: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, which drain; a second SIGINT stops at once.

    If the drain takes longer than it may, or the stop is not at once, the process ends; see `StopGuard`.

    Args:
        announce: is called with the URLs once the server listens.
        background: runs from then on, and is cancelled when the server has ended.

    Raises:
        ProgramError: an address is not available.
    """
    is_serving = False

    async def drain() -> None:
        listening.remove_files()  # before the last clients are accepted
        if is_serving:
            await server.drain()
        else:
            nursery.cancel_scope.cancel()

    with (
        StopGuard(server.drain_timeout) as guard,
        guard.signals(signal.SIGINT, signal.SIGTERM) as signals,  # before anybody can connect
        listening_on(listen) as listening,
    ):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_on_signal, signals, drain, nursery)

            async def serve(*, task_status: trio.TaskStatus[object]) -> None:
                await server.serve_listeners(
                    listening.sockets,
                    ssl_context=ssl_context,
                    exclusive=listening.is_exclusive,
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            names = listening.describe("http" if ssl_context is None else "https")
            await nursery.start(serve)
            is_serving = True
            announce(names)
            if background is not None:
                nursery.start_soon(background)


async def serve_by_hypercorn(
    app: ASGIApp,
    listen: ListenOptions,
    *,
    certfile: str,
    keyfile: str | None,
    drain_timeout: float | None = None,
    announce: Announce,
) -> None:
    """Serve an app over HTTP/2 and HTTP/1.1 until SIGTERM or SIGINT, as `serve_until_signalled` does.

    Raises:
        ProgramError: an address or the certificate cannot be used, or the extra is missing.
    """
    try:
        from hypercorn.config import Config

        from .. import hypercorn
    except ImportError:
        raise ProgramError("--http2 needs its extra: pip install 'trio-sse[hypercorn]'") from None
    drain_timeout = _HYPERCORN_DRAIN_SECONDS if drain_timeout is None else drain_timeout
    load_certificate(certfile, keyfile)  # hypercorn's own error would be a traceback
    config = Config()
    config.certfile, config.keyfile = certfile, keyfile or certfile
    config.errorlog = logging.getLogger("hypercorn.error")
    shutdown = trio.Event()

    async def shut_down() -> None:
        listening.remove_files()
        shutdown.set()

    with (
        StopGuard(drain_timeout) as guard,
        guard.signals(signal.SIGINT, signal.SIGTERM) as signals,
        listening_on(listen) as listening,
    ):
        names = listening.describe("https")
        config.bind = [f"fd://{each.detach()}" for each in listening.sockets]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(drain_on_signal, signals, shut_down, nursery)

            async def serve(*, task_status: trio.TaskStatus[object]) -> None:
                await hypercorn.serve(
                    app,
                    config,
                    shutdown_trigger=shutdown.wait,
                    exclusive=listening.is_exclusive,
                    drain_timeout=drain_timeout,
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            await nursery.start(serve)
            announce(names)
