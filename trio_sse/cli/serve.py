"""`trio-sse serve`: run a server or an ASGI app, in one process or several."""

from __future__ import annotations

import math
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import trio

from .._asgi.types import ASGIApp
from .._hub.engine import existing_engines
from .._process.descriptors import raise_descriptor_limit
from .._process.garbage_collector import tune_garbage_collector
from .._program.errors import AppProgramError, ProgramError, expected_errors_as_program_errors
from .._program.importer import load_target
from .._program.listening import ListenOptions, listen_options, listening_on
from .._program.serve import load_certificate, serve_by_hypercorn, serve_until_signalled
from .._program.shared_log import check_shareable, use_log
from .._program.stop_guard import StopGuard
from .._program.worker_process import WorkerTimeouts
from .._program.worker_status import check_status_file
from .._server.server import Server
from .options import Command, Permissions, bind_option, log_level_option, set_up_logging
from .output import reader_may_leave
from .server_options import add_server_options, configure, drain_timeout_of

_LEAST_SILENCE_SECONDS = 4


@click.command(cls=Command)
@click.argument("target", metavar="MODULE:NAME", envvar="TRIO_SSE_SERVER")
@bind_option
@click.option(
    "--unix-mode",
    type=Permissions(),
    default="666",
    show_default=True,
    envvar="TRIO_SSE_UNIX_MODE",
    metavar="OCTAL",
    help="Permissions of Unix sockets.",
)
@add_server_options
@click.option(
    "--certfile",
    type=click.Path(exists=True, dir_okay=False),
    envvar="TRIO_SSE_CERTFILE",
    help="Serve over TLS, with the certificate chain in this PEM file.",
)
@click.option(
    "--keyfile",
    type=click.Path(exists=True, dir_okay=False),
    envvar="TRIO_SSE_KEYFILE",
    help="PEM file with the certificate's key, if it is not in --certfile.",
)
@click.option(
    "--http2",
    is_flag=True,
    envvar="TRIO_SSE_HTTP2",
    help="Serve an app with hypercorn, over HTTP/2 and HTTP/1.1. Needs --certfile.",
)
@click.option(
    "--log",
    "log_url",
    envvar="TRIO_SSE_LOG",
    metavar="URL",
    help="Log that all processes share: redis://..., rediss://..., unix://... or sqlite:PATH.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    envvar="TRIO_SSE_WORKERS",
    help="Number of processes. Several need --log or --separate-hubs.",
)
@click.option(
    "--separate-hubs",
    is_flag=True,
    envvar="TRIO_SSE_SEPARATE_HUBS",
    help="Run a hub in each worker: events that one publishes do not reach the clients of the others.",
)
@click.option(
    "--start-timeout",
    type=click.FloatRange(min=0),
    default=30.0,
    show_default=True,
    envvar="TRIO_SSE_START_TIMEOUT",
    metavar="SECONDS",
    help="Kill and restart a worker that takes longer than this to start. 0 means no limit.",
)
@click.option(
    "--worker-timeout",
    type=click.FloatRange(min=0),
    default=60.0,
    show_default=True,
    envvar="TRIO_SSE_WORKER_TIMEOUT",
    metavar="SECONDS",
    help="Kill and restart a worker whose event loop is blocked for longer than this. The least is 4; "
    "0 means no limit.",
)
@click.option(
    "--status-file",
    type=click.Path(dir_okay=False),
    envvar="TRIO_SSE_STATUS_FILE",
    help="Write the workers' statistics to this file each second, as JSON. "
    "Enables the supervisor even for one worker.",
)
@log_level_option
def serve(
    target: str,
    addresses: Sequence[str],
    unix_mode: int,
    certfile: str | None,
    keyfile: str | None,
    http2: bool,
    log_url: str | None,
    workers: int,
    separate_hubs: bool,
    start_timeout: float,
    worker_timeout: float,
    status_file: str | None,
    log_level: str,
    **server_options: object,
) -> None:
    """Run a Server or an ASGI app, as in: trio-sse serve app:server.

    MODULE is imported from the working directory or Python's path. NAME is the server or app in it.

    SIGTERM and SIGINT start a graceful shutdown: the server closes its streams, and clients reconnect
    elsewhere or later. A second SIGINT stops at once.

    Each option can also be set in the environment: TRIO_SSE_BIND, TRIO_SSE_KEEPALIVE and so on. Those of the
    Server override what the program has set.
    """
    set_up_logging(log_level)
    is_supervised = workers > 1 or status_file is not None
    if is_supervised:
        # SIGHUP replaces workers. While the app is imported there are none, and its default is to exit.
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        click.get_current_context().call_on_close(partial(signal.signal, signal.SIGHUP, before))
    try:
        listen = listen_options(addresses, environment=os.environ, unix_mode=unix_mode)
        if status_file == "":
            raise ProgramError("--status-file must name a file")
        if status_file is not None:
            check_status_file(Path(status_file))
        timeouts = _timeouts(start_timeout, worker_timeout)
        found = load_target(target)
        if not isinstance(found, Server) and log_url is not None:
            raise ProgramError("--log applies to a Server; for an app, set the log on its Hub")
        if not http2:
            server = configure(found, server_options)
            if log_url is not None:
                use_log(server, log_url)
        if is_supervised and http2:
            raise ProgramError(
                "--http2 cannot be combined with --workers or --status-file; "
                "run several instances behind a proxy"
            )
        tune_garbage_collector()
        if is_supervised:
            if workers > 1 and not separate_hubs:
                check_shareable(existing_engines(), workers)
            _run_workers(server, listen, workers, load_certificate(certfile, keyfile), timeouts, status_file)
        elif http2:
            serve_app = _http2(found, listen, certfile, keyfile, server_options)
            with expected_errors_as_program_errors():
                trio.run(serve_app)
        else:
            _run(server, listen, load_certificate(certfile, keyfile))
    except ProgramError as error:
        raise click.ClickException(str(error)) from error


def _timeouts(start: float, silence: float) -> WorkerTimeouts:
    if math.isnan(start) or math.isnan(silence):
        raise ProgramError("--start-timeout and --worker-timeout must be numbers of seconds")
    if 0 < silence < _LEAST_SILENCE_SECONDS:
        raise ProgramError(
            f"--worker-timeout must be 0 or at least {_LEAST_SILENCE_SECONDS}: workers report once a second"
        )
    return WorkerTimeouts(start=start or math.inf, silence=silence or math.inf)


def _run(server: Server, listen: ListenOptions, context: ssl.SSLContext | None) -> None:
    with expected_errors_as_program_errors():
        trio.run(partial(serve_until_signalled, server, listen, ssl_context=context, announce=_announce))


def _http2(
    found: Server | ASGIApp,
    listen: ListenOptions,
    certfile: str | None,
    keyfile: str | None,
    server_options: Mapping[str, object],
) -> Callable[[], Awaitable[None]]:
    if isinstance(found, Server):
        raise ProgramError("--http2 is for ASGI apps: a Server speaks HTTP/1.1; put a proxy in front of it")
    if certfile is None:
        raise ProgramError("--http2 needs --certfile: browsers use HTTP/2 only over TLS")
    return partial(
        serve_by_hypercorn,
        found,
        listen,
        certfile=certfile,
        keyfile=keyfile,
        drain_timeout=drain_timeout_of(server_options),
        announce=_announce,
    )


def _run_workers(
    server: Server,
    listen: ListenOptions,
    workers: int,
    context: ssl.SSLContext | None,
    timeouts: WorkerTimeouts,
    status_file: str | None,
) -> None:
    from .._program.supervisor import Supervisor
    from .._program.worker import serve_as_worker

    raise_descriptor_limit()

    def run_worker(
        sockets: Sequence[socket.socket], pipe: int, supervisor_alive: int
    ) -> None:  # pragma: no cover  # in a fork
        with StopGuard(server.drain_timeout, supervisor_alive) as guard:
            for engine in existing_engines():
                engine.sequencer.renew()
            serve = partial(
                serve_as_worker, server, sockets, pipe, supervisor_alive, guard=guard, ssl_context=context
            )
            try:
                with expected_errors_as_program_errors():
                    trio.run(serve)
            except AppProgramError:
                raise
            except ProgramError as error:
                sys.exit(str(error))

    with listening_on(listen, workers) as listening:
        supervisor = Supervisor(
            listening,
            run_worker,
            drain_timeout=server.drain_timeout,
            timeouts=timeouts,
            status_file=None if status_file is None else Path(status_file),
        )
        _announce(listening.describe("http" if context is None else "https"))
        status = supervisor.run()
    sys.exit(status)


def _announce(urls: Sequence[str]) -> None:
    with reader_may_leave(sys.stdout):
        for url in urls:
            click.echo(f"Serving on {url}")
