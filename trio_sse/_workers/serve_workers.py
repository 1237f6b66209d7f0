"""Serving with several workers, until a signal ends them."""

from __future__ import annotations

import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path

import trio

from .._hub.engine import existing_engines
from .._program.errors import AppProgramError, ProgramError, expected_errors_as_program_errors
from .._program.listening import listening_on
from .._program.monitor import listening_for_monitor
from .._program.serve import ServiceOptions
from .._program.stop_guard import StopGuard
from .._server.server import Server
from .._server.shared_metrics import shared_metrics, sharing_metrics
from .supervisor import Supervisor
from .worker import serve_as_worker
from .worker_process import WorkerTimeouts


def serve_with_workers(
    server: Server,
    options: ServiceOptions,
    workers: int,
    *,
    timeouts: WorkerTimeouts,
    status_file: Path | None,
) -> int:
    """Fork workers and supervise them until SIGTERM or SIGINT has ended them; return the exit status.

    Raises:
        ProgramError: an address is not available.
    """

    def run_worker(
        sockets: Sequence[socket.socket], pipe: int, supervisor_alive: int
    ) -> None:  # pragma: no cover  # in a fork
        with StopGuard(server.drain_timeout, supervisor_alive) as guard:
            for engine in existing_engines():
                engine.sequencer.renew()
                engine.revocations.has_unreachable_peers = workers > 1
            serve = partial(
                serve_as_worker,
                server,
                sockets,
                pipe,
                supervisor_alive,
                guard=guard,
                certificates=options.certificates,
                proxy_protocol=options.proxy_protocol,
                monitor_sockets=monitor_listening.sockets,
            )
            try:
                with expected_errors_as_program_errors():
                    trio.run(serve)
            except AppProgramError:
                raise
            except ProgramError as error:
                sys.exit(str(error))

    def announce() -> None:
        listening.keep_names()
        monitor_listening.keep_names()
        options.announce(listening.describe(options.scheme))

    has_metrics = server.metrics_path is not None or options.monitor_listen is not None
    has_console = server.console_token is not None
    with (
        sharing_metrics(workers) if has_metrics or has_console else nullcontext(),
        listening_on(options.listen, workers) as listening,
        listening_for_monitor(options.monitor_listen, options.announce_monitor) as monitor_listening,
    ):
        shared = shared_metrics()
        supervisor = Supervisor(
            listening,
            run_worker,
            drain_timeout=server.drain_timeout,
            timeouts=timeouts,
            status_file=status_file,
            certificates=options.certificates,
            manager=options.manager,
            announce=announce,
            **({} if shared is None else {"publish": shared.write_worker_counts}),
        )
        return supervisor.run()
