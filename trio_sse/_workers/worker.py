"""What a worker process runs; `supervisor` is its parent process."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import time
from collections.abc import AsyncIterator, Sequence

import trio

from .._hub.engine import existing_engines
from .._logger import get_logger
from .._pausing import timed_in_pieces
from .._program.certificates import Certificates
from .._program.monitor import monitor_of
from .._program.stop_guard import StopGuard
from .._server.server import Server, report_to_consoles, statistics_of
from .._server.shared_metrics import shared_metrics
from .._server.statistics import ServerStatistics

logger = get_logger("trio_sse.program")

_REPORT_SECONDS = 1.0
_MOST_REPORT_SHARE = 1 / 200  # of a worker's CPU time


async def serve_as_worker(  # pragma: no cover  # in a fork, which ends by os._exit
    server: Server,
    sockets: Sequence[socket.socket],
    pipe: int,
    supervisor_alive: int,
    *,
    guard: StopGuard,
    certificates: Certificates | None,
    proxy_protocol: bool,
    monitor_sockets: Sequence[socket.socket],
) -> None:
    """Serve until SIGTERM, which drains, or until the supervisor ends.

    On SIGUSR2 the worker stops accepting: another process accepts on the same sockets. On SIGHUP, which a
    terminal also sends to the whole group when it is closed, it loads the certificates again, if there are
    any.

    Args:
        pipe: the descriptor to write signs of life and statistics to, from when the worker listens.
        supervisor_alive: a descriptor that becomes readable when the supervisor ends.
        guard: ends the process if the stop takes too long.
        monitor_sockets: where to answer with metrics and health checks, if anywhere; all workers share them.
    """

    is_serving = False
    monitor = monitor_of(server) if monitor_sockets else None

    async def handle_signals(signals: AsyncIterator[int], nursery: trio.Nursery) -> None:
        async for number in signals:
            if number == signal.SIGUSR2:
                server.stop_accepting()
                if monitor is not None:
                    monitor.stop_accepting()  # another worker is ready
            elif number == signal.SIGHUP:
                assert certificates is not None
                certificates.reload()
            elif is_serving:
                nursery.start_soon(server.drain)
            else:
                nursery.cancel_scope.cancel()

    async def end_with_supervisor(nursery: trio.Nursery) -> None:
        await trio.lowlevel.wait_readable(supervisor_alive)
        logger.error("the supervisor has ended: stopping")
        nursery.cancel_scope.cancel()

    numbers = [signal.SIGTERM, signal.SIGUSR2]
    if certificates is not None:
        numbers.append(signal.SIGHUP)
    context = None if certificates is None else certificates.context
    with guard.signals(*numbers) as signals:
        if certificates is not None:
            # The supervisor's SIGHUP may have come before there was a handler.
            certificates.reload(is_logged=False)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(handle_signals, signals, nursery)
            nursery.start_soon(end_with_supervisor, nursery)

            async def serve(*, task_status: trio.TaskStatus[object]) -> None:
                await server.serve_listeners(
                    list(sockets),
                    ssl_context=context,
                    proxy_protocol=proxy_protocol,
                    task_status=task_status,
                )
                nursery.cancel_scope.cancel()

            if monitor is not None:
                nursery.start_soon(monitor.serve_listeners, list(monitor_sockets))
            await nursery.start(serve)
            is_serving = True
            nursery.start_soon(_report_statistics, server, pipe)


async def _report_statistics(server: Server, pipe: int) -> None:  # pragma: no cover  # in a fork, too
    """Write a sign of life each second, and the statistics as often as their cost allows."""
    os.set_blocking(pipe, False)
    due_at = 0.0
    try:
        while True:
            if trio.current_time() >= due_at:
                seconds = await report_to_consoles(server)
                statistics, more_seconds = await timed_in_pieces(statistics_of(server))
                began_at = time.thread_time()
                _write_statistics(statistics, pipe)
                seconds += more_seconds + time.thread_time() - began_at
                due_at = trio.current_time() + seconds / _MOST_REPORT_SHARE
            else:
                _write_line(pipe, b"")
            await trio.sleep(_REPORT_SECONDS)
    finally:
        _write_statistics(server.statistics(), pipe)


def _write_statistics(statistics: ServerStatistics, pipe: int) -> None:  # pragma: no cover  # in a fork, too
    if (shared := shared_metrics()) is not None:
        shared.write(statistics)
    line = {
        "is_ready": all(e.sequencer.is_ready for e in existing_engines() if e.inbox.is_open),
        "is_draining": statistics.is_draining,
        "open_streams": statistics.open_streams,
        "opened": statistics.opened,
        "events_sent": statistics.events_sent,
        "bytes_sent": statistics.bytes_sent,
        "refused": statistics.refused,
        "published": statistics.hub.published,
    }
    _write_line(pipe, json.dumps(line).encode())


def _write_line(pipe: int, line: bytes) -> None:  # pragma: no cover  # in a fork, too
    with contextlib.suppress(BlockingIOError, BrokenPipeError):  # the supervisor is busy, or has ended
        os.write(pipe, line + b"\n")
