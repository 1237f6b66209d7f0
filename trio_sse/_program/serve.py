"""Running a server or an app as a program: its module, its addresses, and the signals that end it."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import json
import logging
import os
import signal
import socket
import ssl
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import trio

from .._asgi.types import ASGIApp
from .._hub.hub import Hub, existing_hubs
from .._log.protocol import Log, LogRefused
from .._server.server import Server

logger = logging.getLogger("trio_sse.program")

_TELL_SECONDS = 1.0
_TELL_SHARE = 1 / 200  # of a worker's time at most

Announce = Callable[[list[str]], None]


class ProgramError(Exception):
    """What the user asked for can't be done; the text says why, and what would be right."""


def load_target(target: str) -> Server | ASGIApp:
    """Import the `Server` or ASGI app that `module:attribute` names, with the working directory on the path.

    Raises:
        ProgramError: there is none.
    """
    module_name, colon, attribute = target.partition(":")
    if not (module_name and colon and attribute) or module_name.startswith("."):
        raise ProgramError(f"{target!r} is not like module:server, as in: trio-sse serve app:server")
    folder = str(Path.cwd())
    if folder not in sys.path:
        sys.path.insert(0, folder)
    found = _import(module_name)
    for name in attribute.split("."):
        found = getattr(found, name, None)
    if isinstance(found, Server) or _is_app(found):
        return found  # type: ignore[return-value]  # it was looked at
    what = "nothing" if found is None else f"of type {type(found).__name__}"
    raise ProgramError(f"{target!r} is {what}, neither a trio_sse.Server nor an ASGI app")


def _is_app(found: object) -> bool:
    call = found if inspect.isfunction(found) else getattr(found, "__call__", None)  # noqa: B004
    return not isinstance(found, type) and inspect.iscoroutinefunction(call)


def _import(name: str) -> object:
    try:
        return importlib.import_module(name)
    except Exception as error:  # the user's module may raise anything
        if isinstance(error, ModuleNotFoundError) and f"{name}.".startswith(f"{error.name}."):
            raise ProgramError(f"there is no module {name!r} here or on the path") from None
        logger.debug("importing %s failed", name, exc_info=error)
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ProgramError(
            f"module {name!r} fails: {type(error).__name__}: {error} "
            f"({last.filename}, line {last.lineno}; --log-level debug tells more)"
        ) from error


def use_log(server: Server, url: str) -> None:
    """Have a server's hub use the shared log that a URL names; raises `ProgramError` if that can't be."""
    try:
        server.hub.use_log(_make_log(url))
    except (ImportError, RuntimeError, ValueError) as error:
        raise ProgramError(f"--log: {error}") from error


def _make_log(url: str) -> Log:
    if url.startswith("sqlite:"):
        from ..sqlite import SQLiteLog

        return SQLiteLog(url.removeprefix("sqlite:").removeprefix("//"))
    if not url.startswith(("redis://", "rediss://", "unix://")):
        raise ValueError(f"a log is redis://..., rediss://..., unix://... or sqlite:PATH, not {url!r}")
    if importlib.util.find_spec("coredis") is None:
        raise ImportError("Redis needs its extra: pip install 'trio-sse[redis]'")
    from ..redis import RedisLog

    return RedisLog(url)


@contextmanager
def telling_refusal() -> Iterator[None]:
    """Turn a shared log's refusal, which ends what uses it, into a `ProgramError`."""
    try:
        yield
    except LogRefused as error:
        raise ProgramError(f"the log refuses to serve: {error}") from error
    except BaseExceptionGroup as group:
        refusal = group.subgroup(LogRefused)
        if refusal is None:
            raise
        found: BaseException = refusal
        while isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
        raise ProgramError(f"the log refuses to serve: {found}") from group


def parse_address(address: str) -> tuple[str | None, int]:
    """Parse `host:port`, `[host]:port`, `:port` (all addresses) or `host`.

    Raises:
        ProgramError: it is none of these.
    """
    host, colon, port = address.rpartition(":")
    if not colon or address.endswith("]"):
        host, port = address, "8000"
    is_port = port.isascii() and port.isdigit() and len(port) <= 5 and int(port) < 65536
    if not (address and is_port) or (":" in host and host[0] != "["):
        raise ProgramError(f"{address!r} is not like 127.0.0.1:8000, [::1]:8000 or :8000")
    return host.strip("[]") or None, int(port)


async def listen(addresses: Sequence[str]) -> list[trio.SocketListener]:
    """Listen on all addresses; raises `ProgramError` if one can't be listened on."""
    listeners: list[trio.SocketListener] = []
    for address in addresses:
        host, port = parse_address(address)
        try:
            listeners += await trio.open_tcp_listeners(port, host=host)
        except (OSError, UnicodeError) as error:  # the latter is of a host that can't be a name
            for listener in listeners:
                listener.socket.close()
            reason = getattr(error, "strerror", None) or error
            raise ProgramError(f"can't listen on {address}: {reason}") from error
    return listeners


def load_certificate(certfile: str | None, keyfile: str | None) -> ssl.SSLContext | None:
    """Make a TLS context of PEM files; raises `ProgramError` if they are not fit for one."""
    if certfile is None:
        if keyfile is not None:
            raise ProgramError("a key needs its certificate: give --certfile, too")
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(certfile, keyfile)
    except (OSError, ssl.SSLError) as error:
        raise ProgramError(f"can't use the certificate {certfile}: {error}") from error
    return context


async def serve_until_signalled(
    server: Server,
    addresses: Sequence[str],
    *,
    ssl_context: ssl.SSLContext | None = None,
    announce: Announce,
    beside: Callable[[], Awaitable[None]] | None = None,
) -> None:
    """Serve until SIGTERM or SIGINT, which drain; a second SIGINT stops at once.

    Args:
        announce: is called with the URLs when they are served.
        beside: runs from then on, and is cancelled at the end.

    Raises:
        ProgramError: an address can't be listened on.
    """
    listeners = await listen(addresses)
    is_serving = False

    async def drain() -> None:
        if is_serving:
            await server.drain()
        else:
            nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey_signals, signals, drain, nursery)
            scheme = "http" if ssl_context is None else "https"

            async def serve(*, task_status: trio.TaskStatus[object]) -> None:
                await server.serve_listeners(listeners, ssl_context=ssl_context, task_status=task_status)
                nursery.cancel_scope.cancel()

            sockets = await nursery.start(serve)
            is_serving = True
            announce([f"{scheme}://{describe_address(address)}" for address in sockets])
            if beside is not None:
                nursery.start_soon(beside)


def check_shareable(hubs: Collection[Hub], workers: int) -> None:
    """Refuse several workers where a hub's log is in the memory of one; raises `ProgramError`."""
    if not all(hub.is_shared for hub in hubs):
        raise ProgramError(
            f"{workers} workers would have {workers} hubs, and what is published in one would reach only its "
            "own clients: give them one log, by --log redis://... or --log sqlite:PATH for a Server's hub, "
            "by Hub(log=...) for an app's; or say --separate-hubs, if nothing is published, or to each for "
            "itself"
        )


async def serve_as_worker(  # pragma: no cover  # in a fork, which ends by os._exit
    server: Server,
    sockets: Sequence[socket.socket],
    pipe: int,
    life: int,
    *,
    ssl_context: ssl.SSLContext | None,
) -> None:
    """Serve as one of several processes until SIGTERM, which drains, or until the supervisor is gone.

    On SIGHUP it accepts no more: another process does, on the same sockets.

    Args:
        pipe: where to tell the figures, each second, the first time when it listens.
        life: becomes readable when the supervisor is gone.
    """

    is_serving = False

    async def obey(signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGHUP:
                server.stop_accepting()
            elif is_serving:
                nursery.start_soon(server.drain)
            else:
                nursery.cancel_scope.cancel()

    async def end_with_supervisor(nursery: trio.Nursery) -> None:
        await trio.lowlevel.wait_readable(life)
        logger.error("the supervisor is gone: stopping")
        nursery.cancel_scope.cancel()

    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGHUP) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, signals, nursery)
            nursery.start_soon(end_with_supervisor, nursery)

            async def serve(*, task_status: trio.TaskStatus[object]) -> None:
                await server.serve_listeners(list(sockets), ssl_context=ssl_context, task_status=task_status)
                nursery.cancel_scope.cancel()

            await nursery.start(serve)
            is_serving = True
            nursery.start_soon(_tell_figures, server, pipe)


async def _tell_figures(server: Server, pipe: int) -> None:  # pragma: no cover  # in a fork, too
    os.set_blocking(pipe, False)
    try:
        while True:
            began_at = time.thread_time()
            _tell(server, pipe)
            took = time.thread_time() - began_at  # they look at every stream
            await trio.sleep(max(_TELL_SECONDS, took / _TELL_SHARE))
    finally:
        _tell(server, pipe)


def _tell(server: Server, pipe: int) -> None:  # pragma: no cover  # in a fork, too
    statistics = server.statistics()
    figures = {
        "is_ready": all(hub.is_ready for hub in existing_hubs() if hub.is_running),
        "open_streams": statistics.open_streams,
        "opened": statistics.opened,
        "events_sent": statistics.events_sent,
        "bytes_sent": statistics.bytes_sent,
        "refused": statistics.refused,
        "published": statistics.hub.published,
    }
    with contextlib.suppress(BlockingIOError, BrokenPipeError):  # the supervisor is busy, or gone
        os.write(pipe, json.dumps(figures).encode() + b"\n")


async def serve_by_hypercorn(
    app: ASGIApp, addresses: Sequence[str], *, certfile: str, keyfile: str | None, announce: Announce
) -> None:
    """Serve an app over HTTP/2 and HTTP/1.1 until SIGTERM or SIGINT, as `serve_until_signalled` does.

    Raises:
        ProgramError: an address can't be listened on, or the certificate can't be used.
    """
    try:
        from hypercorn.config import Config

        from .. import hypercorn
    except ImportError:
        raise ProgramError("--http2 needs its extra: pip install 'trio-sse[hypercorn]'") from None
    load_certificate(certfile, keyfile)  # what is wrong with it is told here
    config = Config()
    config.certfile, config.keyfile = certfile, keyfile or certfile
    config.errorlog = logging.getLogger("hypercorn.error")
    config.bind = [f"fd://{listener.socket.detach()}" for listener in await listen(addresses)]
    shutdown = trio.Event()

    async def shut_down() -> None:
        shutdown.set()

    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_obey_signals, signals, shut_down, nursery)

            async def serve(*, task_status: trio.TaskStatus[list[str]]) -> None:
                await hypercorn.serve(app, config, shutdown_trigger=shutdown.wait, task_status=task_status)
                nursery.cancel_scope.cancel()

            announce(await nursery.start(serve))


async def _obey_signals(
    signals: AsyncIterator[int], drain: Callable[[], Awaitable[None]], nursery: trio.Nursery
) -> None:
    is_draining = False
    async for number in signals:
        name = signal.Signals(number).name
        if is_draining:
            if number == signal.SIGINT:
                logger.warning("second %s: stopping at once", name)
                nursery.cancel_scope.cancel()
                return
            continue
        is_draining = True
        logger.info("%s: draining; SIGINT stops at once", name)
        nursery.start_soon(drain)


def describe_address(address: tuple[object, ...]) -> str:
    """Give an address of a socket as it stands in a URL."""
    host, port = address[:2]
    return f"[{host}]:{port}" if ":" in str(host) else f"{host}:{port}"
