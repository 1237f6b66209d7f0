"""`trio-sse serve`: run a server or an ASGI app, in one process or several."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import click
import trio

from .._asgi.types import ASGIApp
from .._hub.engine import existing_engines
from .._logger import get_logger
from .._process.garbage_collector import tune_garbage_collector
from .._program.errors import ProgramError, expected_errors_as_program_errors
from .._program.importer import load_target
from .._program.listening import listen_options
from .._program.reloader import take_inherited
from .._program.serve import ServiceOptions, serve_by_hypercorn, serve_until_signalled
from .._program.service_manager import ServiceManager
from .._program.shared_log import check_shareable, use_log
from .._server.server import Server, take_console_token
from .config_file import config_option
from .host_option import HYPERCORN, OWN_HOST, HostName
from .monitoring_options import MonitoringValues, add_monitoring_options
from .options import Command, Permissions, bind_option, log_level_option, set_up_logging
from .output import reader_may_leave
from .reload_options import ReloadValues, add_reload_options
from .server_options import add_server_options, configure, options_for_hypercorn, shortened_for_reload
from .tls_options import TLSValues, add_tls_options
from .worker_options import WorkerValues, add_worker_options

logger = get_logger("trio_sse.program")


@click.command(cls=Command)
@click.argument("target", metavar="MODULE:NAME", envvar="TRIO_SSE_SERVER")
@config_option("server", envvar="TRIO_SSE_CONFIG")
@click.option(
    "--app-dir",
    type=click.Path(exists=True, file_okay=False),
    default=".",
    envvar="TRIO_SSE_APP_DIR",
    help="Import MODULE from this folder, too.  [default: the working directory]",
)
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
@add_monitoring_options
@click.option(
    "--proxy-protocol",
    is_flag=True,
    envvar="TRIO_SSE_PROXY_PROTOCOL",
    help="Connections from the trusted proxies begin with a header of the PROXY protocol.",
)
@add_tls_options
@click.option(
    "--host",
    type=HostName(),
    default=OWN_HOST,
    show_default=True,
    envvar="TRIO_SSE_HOST",
    metavar="NAME",
    help="The server that runs an app: trio_sse or hypercorn.",
)
@click.option(
    "--log",
    "log_url",
    envvar="TRIO_SSE_LOG",
    metavar="URL",
    help="Log that all processes share: redis://..., rediss://..., unix://... or sqlite:PATH.",
)
@add_worker_options
@add_reload_options
@log_level_option
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"], case_sensitive=False),
    default="text",
    show_default=True,
    envvar="TRIO_SSE_LOG_FORMAT",
    help="What is logged to standard error: text, or a JSON object in each line.",
)
@click.option(
    "--log-config",
    type=click.Path(exists=True, dir_okay=False),
    envvar="TRIO_SSE_LOG_CONFIG",
    help="Configure Python's logging from this file instead: .toml or .json for dictConfig, or "
    "fileConfig's own format.",
)
def serve(
    target: str,
    app_dir: str,
    addresses: Sequence[str],
    unix_mode: int,
    server_options: Mapping[str, object],
    monitoring: MonitoringValues,
    proxy_protocol: bool,
    tls: TLSValues,
    host: str,
    log_url: str | None,
    workers: WorkerValues,
    reload: ReloadValues,
    log_level: str,
    log_format: str,
    log_config: str | None,
) -> None:
    """Run a Server or an ASGI app, as in: trio-sse serve app:server.

    MODULE is imported from the working directory or Python's path. NAME is the server or app in it, or a
    factory that returns one, as in: trio-sse serve 'app:create_app()'.

    With --certfile, clients may choose HTTP/2.

    SIGTERM and SIGINT start a graceful shutdown: the server closes its streams, and clients reconnect
    elsewhere or later. A second SIGINT stops at once. SIGHUP loads the certificates again.

    Each option can also be set in the environment: TRIO_SSE_BIND, TRIO_SSE_KEEPALIVE and so on. Those of the
    Server override what the program has set.
    """
    set_up_logging(log_level, log_config, log_format)
    has_workers = workers.is_supervised
    if reload.reload:
        workers = workers.unsupervised()
    ignored = [signal.SIGHUP] if workers.is_supervised or tls.certfiles else []
    if workers.is_supervised:
        ignored += [signal.SIGUSR1, signal.SIGUSR2]
    for number in ignored:
        # Their default is to exit. While the app is imported, there is nothing to reload or to replace.
        before = signal.signal(number, signal.SIG_IGN)
        click.get_current_context().call_on_close(partial(signal.signal, number, before))
    try:
        on_hypercorn = host == HYPERCORN
        if on_hypercorn and workers.is_supervised:
            raise ProgramError(
                "--host hypercorn cannot be combined with --workers or --status-file; "
                "run several instances behind a proxy"
            )
        if on_hypercorn and proxy_protocol:
            raise ProgramError("--proxy-protocol cannot be combined with --host hypercorn")
        if server_options["http2"] and not (tls.certfiles or server_options["http2_cleartext"]):
            raise ProgramError(
                "--http2 needs --certfile: browsers use HTTP/2 only over TLS; "
                "--http2-cleartext is for a proxy in front"
            )
        if on_hypercorn and monitoring.is_set:
            raise ProgramError("--metrics-bind and --metrics-topic cannot be combined with --host hypercorn")
        # Before anything else is opened.
        inherited = take_inherited(os.environ)
        if inherited is not None:
            listen = inherited.listen
        else:
            listen = listen_options(addresses, environment=os.environ, unix_mode=unix_mode)
            if reload.reload:
                if has_workers:
                    logger.warning("--reload runs one process: --workers and --status-file are ignored")
                reload.run(listen)
                return
        manager = ServiceManager(os.environ)
        has_console, token = False, None
        found = load_target(target, Path(app_dir))
        if log_url is not None and not isinstance(found, Server):
            raise ProgramError("--log applies to a Server; for an app, set the log on its Hub")
        if inherited is not None:
            server_options = shortened_for_reload(server_options, on_hypercorn=on_hypercorn)
        if on_hypercorn:
            run = _by_hypercorn(found, server_options)
            offers_http2 = server_options["http2"] is not False
            has_http2 = offers_http2
        else:
            server, run = _by_server(found, server_options, log_url, workers, proxy_protocol=proxy_protocol)
            monitoring.count_topics()
            offers_http2 = server.http2
            has_http2 = offers_http2 if tls.certfiles else server.http2_cleartext
            has_console, token = server.console_token is not None, take_console_token(server)
        run(
            ServiceOptions(
                listen=listen,
                announce=partial(
                    _announce,
                    "HTTP/2, HTTP/1.1" if has_http2 else "HTTP/1.1",
                    partial(_console_link, token) if has_console else None,
                ),
                certificates=tls.load(offers_http2=offers_http2),
                proxy_protocol=proxy_protocol,
                manager=manager,
                monitor_listen=monitoring.listen(listen),
                announce_monitor=_announce_monitor,
                parent_alive=None if inherited is None else inherited.parent_alive,
            )
        )
    except ProgramError as error:
        raise click.ClickException(str(error)) from error


def _by_server(
    found: Server | ASGIApp,
    server_options: Mapping[str, object],
    log_url: str | None,
    workers: WorkerValues,
    *,
    proxy_protocol: bool,
) -> tuple[Server, Callable[[ServiceOptions], None]]:
    """Return a server, or that of an app, and what runs it, in one process or several."""
    status_file, timeouts = workers.status_path(), workers.timeouts()
    engines = (
        None if isinstance(found, Server) else list(existing_engines())
    )  # an app cannot use its server's
    server = configure(found, server_options)
    if log_url is not None:
        use_log(server, log_url)
    if proxy_protocol and not server.trusted_proxies:
        raise ProgramError("--proxy-protocol needs --trusted-proxies, the proxies that send PROXY headers")
    if not workers.is_supervised:
        return server, partial(_run, partial(serve_until_signalled, server))
    if workers.workers > 1 and not workers.separate_hubs:
        check_shareable(existing_engines() if engines is None else engines, workers.workers)

    def supervise(options: ServiceOptions) -> None:
        from .._workers.serve_workers import serve_with_workers

        sys.exit(
            serve_with_workers(server, options, workers.workers, timeouts=timeouts, status_file=status_file)
        )

    return server, supervise


def _by_hypercorn(
    found: Server | ASGIApp, server_options: Mapping[str, object]
) -> Callable[[ServiceOptions], None]:
    """Return what runs an app by hypercorn."""
    if isinstance(found, Server):
        raise ProgramError("--host hypercorn is for ASGI apps: a Server serves itself, over HTTP/2, too")
    return partial(_run, partial(serve_by_hypercorn, found, **options_for_hypercorn(server_options)))


def _run(serve: Callable[[ServiceOptions], Awaitable[None]], options: ServiceOptions) -> None:
    """Serve in this process."""
    tune_garbage_collector()
    with expected_errors_as_program_errors():
        trio.run(serve, options)


def _console_link(token: str | None, url: str) -> str:
    from .._server.console import console_link  # for those only who want it

    return console_link(url, token)


def _announce(protocols: str, link: Callable[[str], str] | None, urls: Sequence[str]) -> None:
    with reader_may_leave(sys.stdout):
        for url in urls:
            click.echo(f"Serving on {url} ({protocols})")
        if link is not None:
            click.echo(f"Console: {link(urls[0])}")


def _announce_monitor(urls: Sequence[str]) -> None:
    with reader_may_leave(sys.stdout):
        for url in urls:
            click.echo(f"Metrics and health checks on {url}")
