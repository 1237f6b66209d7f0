"""The program `trio-sse`: serve, demo, tail, load, doctor."""

from __future__ import annotations

import json
import logging
import math
import os
import signal
import socket
import ssl
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import aclosing, contextmanager
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import trio

from .._http.fields import parse_field
from .._hub.hub import existing_hubs
from .._process.descriptors import raise_descriptor_limit, raised_descriptor_limit
from .._process.garbage_collector import tune_garbage_collector
from .._program.serve import (
    ProgramError,
    check_shareable,
    describe_address,
    load_certificate,
    load_target,
    parse_address,
    serve_as_worker,
    serve_by_hypercorn,
    serve_until_signalled,
    telling_refusal,
    use_log,
)
from .._server.server import Server
from .._tools.interrupt import interruptible

_MISSING_EXTRA = "the program needs its extra: pip install 'trio-sse[cli]'"

try:
    import click
except ImportError:
    sys.exit(f"trio-sse: {_MISSING_EXTRA}")

if TYPE_CHECKING:
    from .._asgi.types import ASGIApp
    from .._tools.tail import Tail

_LEVELS = click.Choice(["debug", "info", "warning", "error"], case_sensitive=False)


class _Program(click.Group):
    """The commands; their exit status does not depend on who reads their output."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run a command, and leave nothing in the buffers of the standard streams.

        Python flushes them when it exits, and makes the exit status 120 if that fails.
        """
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        try:
            sys.exit(super().main(args, prog_name, complete_var, False, **extra))
        except click.ClickException as error:
            with _reader_may_leave(sys.stderr):
                error.show()
            sys.exit(error.exit_code)
        except click.Abort:
            sys.exit(1)
        finally:
            for stream in (sys.stdout, sys.stderr):
                with _reader_may_leave(stream):
                    pass


@click.group(cls=_Program, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trio-sse")
def main() -> None:
    """A Server-Sent Events server on Trio."""
    # Python has `None` for one that was closed: whoever prints there would fail.
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115  # for good


def _set_up_logging(level: str) -> None:
    logging.basicConfig(level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("coredis").setLevel(logging.CRITICAL)  # what fails is told by the hub, in a line
    logging.raiseExceptions = False  # a broken log pipe must not end the service, nor flood it


_bind = click.option(
    "--bind",
    "addresses",
    multiple=True,
    default=["127.0.0.1:8000"],
    show_default=True,
    envvar="TRIO_SSE_BIND",
    metavar="HOST:PORT",
    help="Address to listen on; may be given several times.",
)
_log_level = click.option(
    "--log-level",
    type=_LEVELS,
    default="info",
    show_default=True,
    envvar="TRIO_SSE_LOG_LEVEL",
    help="What to log, on standard error.",
)


@main.command()
@click.argument("target", metavar="MODULE:NAME", envvar="TRIO_SSE_SERVER")
@_bind
@click.option(
    "--keepalive",
    type=click.FloatRange(min=0, min_open=True),
    envvar="TRIO_SSE_KEEPALIVE",
    metavar="SECONDS",
    help="Idle time after which a comment is sent, instead of the server's own.",
)
@click.option(
    "--max-duration",
    type=click.FloatRange(min=0, min_open=True),
    envvar="TRIO_SSE_MAX_DURATION",
    metavar="SECONDS",
    help="Longest life of a stream, instead of the server's own.",
)
@click.option(
    "--certfile",
    type=click.Path(exists=True, dir_okay=False),
    envvar="TRIO_SSE_CERTFILE",
    help="Serve under TLS with this certificate chain (PEM).",
)
@click.option(
    "--keyfile",
    type=click.Path(exists=True, dir_okay=False),
    envvar="TRIO_SSE_KEYFILE",
    help="The certificate's key (PEM), if it is in a file of its own.",
)
@click.option(
    "--http2",
    is_flag=True,
    envvar="TRIO_SSE_HTTP2",
    help="Serve an app by hypercorn, over HTTP/2 and HTTP/1.1; needs a certificate.",
)
@click.option(
    "--log",
    "log_url",
    envvar="TRIO_SSE_LOG",
    metavar="URL",
    help="Log that the server's hub shares: redis://..., rediss://... or sqlite:PATH.",
)
@click.option(
    "--workers",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    envvar="TRIO_SSE_WORKERS",
    help="Processes; more than one need a shared log.",
)
@click.option(
    "--separate-hubs",
    is_flag=True,
    envvar="TRIO_SSE_SEPARATE_HUBS",
    help="Let each worker have a hub of its own.",
)
@click.option(
    "--status-file",
    type=click.Path(dir_okay=False),
    envvar="TRIO_SSE_STATUS_FILE",
    help="Write the workers' figures there, as JSON, each second; a single one is supervised, too.",
)
@_log_level
def serve(
    target: str,
    addresses: Sequence[str],
    keepalive: float | None,
    max_duration: float | None,
    certfile: str | None,
    keyfile: str | None,
    http2: bool,
    log_url: str | None,
    workers: int,
    separate_hubs: bool,
    status_file: str | None,
    log_level: str,
) -> None:
    """Run the Server, or the ASGI app, that NAME is in MODULE.

    SIGTERM and SIGINT drain: streams are told to end and their clients come back. A second SIGINT stops
    at once. Every option can be set in the environment, as TRIO_SSE_BIND, TRIO_SSE_KEEPALIVE and so on.
    """
    _set_up_logging(log_level)
    if workers > 1 or status_file is not None:
        # While the app is imported, there is nothing to replace. By default, it would end the program.
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        click.get_current_context().call_on_close(partial(signal.signal, signal.SIGHUP, before))
    try:
        if status_file == "":
            raise ProgramError("--status-file must name a file")
        found = load_target(target)
        if not isinstance(found, Server):
            if keepalive is not None or max_duration is not None or log_url is not None:
                raise ProgramError("an app's streams have options of their own: give them to QuartSSE, say")
        else:
            _configure(found, keepalive, max_duration)
            if log_url is not None:
                use_log(found, log_url)
        tune_garbage_collector()
        if workers > 1 or status_file is not None:
            if http2:
                raise ProgramError("--http2 has one process, not supervised: run several behind a proxy")
            if workers > 1 and not separate_hubs:
                check_shareable(existing_hubs(), workers)
            context = load_certificate(certfile, keyfile)
            _serve_by_workers(found, addresses, workers, context, status_file)
            return
        if http2:
            trio.run(_serve_http2(found, addresses, certfile, keyfile))
            return
        server = found if isinstance(found, Server) else Server(found)
        context = load_certificate(certfile, keyfile)
        with telling_refusal():
            trio.run(
                partial(serve_until_signalled, server, addresses, ssl_context=context, announce=_announce)
            )
    except ProgramError as error:
        raise click.ClickException(str(error)) from error


def _serve_http2(
    found: Server | ASGIApp, addresses: Sequence[str], certfile: str | None, keyfile: str | None
) -> Callable[[], Awaitable[None]]:
    if isinstance(found, Server):
        raise ProgramError("--http2 is for ASGI apps: a Server speaks HTTP/1.1; put a proxy in front of it")
    if certfile is None:
        raise ProgramError("browsers speak HTTP/2 only under TLS: give --certfile, too")
    return partial(
        serve_by_hypercorn, found, addresses, certfile=certfile, keyfile=keyfile, announce=_announce
    )


def _serve_by_workers(
    found: Server | ASGIApp,
    addresses: Sequence[str],
    workers: int,
    context: ssl.SSLContext | None,
    status_file: str | None,
) -> None:
    from .._program.supervisor import Supervisor
    from .._program.worker_sockets import bind_places

    server = found if isinstance(found, Server) else Server(found)
    raise_descriptor_limit()
    try:
        places = bind_places([parse_address(address) for address in addresses], workers)
    except (OSError, UnicodeError) as error:  # the latter is of a host that can't be a name
        reason = getattr(error, "strerror", None) or error
        raise ProgramError(f"can't listen on {', '.join(addresses)}: {reason}") from error

    def run_worker(
        sockets: Sequence[socket.socket], pipe: int, life: int
    ) -> None:  # pragma: no cover  # a fork
        for hub in existing_hubs():
            hub.note_fork()
        try:
            with telling_refusal():
                trio.run(partial(serve_as_worker, server, sockets, pipe, life, ssl_context=context))
        except ProgramError as error:
            sys.exit(str(error))

    supervisor = Supervisor(
        places,
        run_worker,
        drain_timeout=server.drain_timeout,
        status_file=None if status_file is None else Path(status_file),
    )
    scheme = "http" if context is None else "https"
    _announce([f"{scheme}://{describe_address(listening.getsockname())}" for listening in places[0]])
    sys.exit(supervisor.run())


def _configure(server: Server, keepalive: float | None, max_duration: float | None) -> None:
    try:
        server.configure(keepalive=keepalive, max_duration=max_duration)
    except ValueError as error:  # not a number
        raise ProgramError(str(error)) from error


def _announce(urls: Sequence[str]) -> None:
    with _reader_may_leave(sys.stdout):
        for url in urls:
            click.echo(f"Serving on {url}")


@contextmanager
def _reader_may_leave(stream: IO[str]) -> Iterator[None]:
    """Print to a standard stream, and flush it; once its reader has left, discard all output instead."""
    try:
        yield
        stream.flush()
    except ConnectionError:
        _discard(stream)


def _discard(stream: IO[str]) -> None:
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    stream.flush()


@main.command()
@_bind
@click.option(
    "--history",
    type=click.IntRange(min=0),
    default=1500,
    show_default=True,
    help="Events that the log keeps. With few, an outage shows a gap.",
)
@_log_level
def demo(addresses: Sequence[str], history: int, log_level: str) -> None:
    """Show a live dashboard of this machine in the browser."""
    _set_up_logging(log_level)
    try:
        trio.run(_demo, addresses, history)
    except ProgramError as error:
        raise click.ClickException(str(error)) from error


async def _demo(addresses: Sequence[str], history: int) -> None:
    try:
        from ..demo import Dashboard
    except ImportError as error:
        raise click.ClickException(_MISSING_EXTRA) from error
    dashboard = Dashboard(history=history)
    await serve_until_signalled(
        dashboard.server, addresses, announce=_announce_dashboard, beside=dashboard.run
    )


def _announce_dashboard(urls: Sequence[str]) -> None:
    with _reader_may_leave(sys.stdout):
        for url in urls:
            click.echo(f"Dashboard of this machine:  {url}/")
            click.echo(f"The same in a terminal:     curl -N {url}/events")


@main.command()
@click.argument("url")
@click.option("--last-event-id", default="", metavar="ID", help="Resume after this event.")
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Further header of the request."
)
@click.option("-n", "--count", type=click.IntRange(min=1), metavar="N", help="Stop after so many events.")
@click.option("--json", "as_json", is_flag=True, help="Print each event as one line of JSON.")
@click.option("--no-reconnect", is_flag=True, help="Stop when the stream ends.")
@click.option("--insecure", is_flag=True, help="Don't check the server's certificate.")
@click.option("-q", "--quiet", is_flag=True, help="Print events only.")
def tail(
    url: str,
    last_event_id: str,
    headers: Sequence[str],
    count: int | None,
    as_json: bool,
    no_reconnect: bool,
    insecure: bool,
    quiet: bool,
) -> None:
    """Print the events of URL as they come, coming back with Last-Event-ID as browsers do.

    What happens to the connection is told on standard error.
    """
    try:
        from .._tools.tail import Tail, TailError
    except ImportError as error:
        raise click.ClickException(_MISSING_EXTRA) from error

    def say(text: str) -> None:
        if not quiet:
            with _reader_may_leave(sys.stderr):
                click.echo(f"# {text}", err=True)

    follower = Tail(
        url=url,
        say=say,
        headers=_parse_headers(headers),
        last_event_id=last_event_id,
        may_reconnect=not no_reconnect,
        verify=not insecure,
    )
    try:
        is_interrupted = trio.run(_print_events, follower, count, as_json)
    except TailError as error:
        raise click.ClickException(str(error)) from error
    except BrokenPipeError:
        _discard(sys.stdout)  # its reader has left
        return
    if is_interrupted:
        sys.exit(130)


class _Finite(click.FloatRange):
    """A number within bounds, of which infinity and NaN are none."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{number} is not a finite number.", param, ctx)
        return number


@main.command()
@click.argument("url")
@click.option(
    "--connections", "-c", type=click.IntRange(min=1), default=100, show_default=True, help="Streams."
)
@click.option(
    "--duration",
    "-d",
    type=_Finite(min=0, min_open=True),
    default=10.0,
    show_default=True,
    help="Seconds.",
)
@click.option(
    "--rate",
    type=_Finite(min=0, min_open=True),
    default=500.0,
    show_default=True,
    help="Streams opened a second.",
)
@click.option(
    "--source", "sources", multiple=True, metavar="ADDRESS", help="Connect from here; several take turns."
)
@click.option(
    "-H", "--header", "headers", multiple=True, metavar="NAME:VALUE", help="Further header of the requests."
)
@click.option(
    "--timestamp", "stamp", metavar="FIELD", help="Member of an event's JSON that says when it was sent."
)
@click.option(
    "--json", "json_file", type=click.Path(dir_okay=False, writable=True), help="Write the figures there."
)
@click.option("--insecure", is_flag=True, help="Don't check the server's certificate.")
def load(
    url: str,
    connections: int,
    duration: float,
    rate: float,
    sources: Sequence[str],
    headers: Sequence[str],
    stamp: str | None,
    json_file: str | None,
    insecure: bool,
) -> None:
    """Open many streams of URL, and tell what comes of them. Any SSE endpoint will do.

    Each stream comes back with Last-Event-ID when it was cut, as browsers do.
    """
    from .._tools.load.report import LiveTable, write_report
    from .._tools.load.run import Load, LoadOptions

    try:
        run = Load(
            LoadOptions(
                url=url,
                connections=connections,
                duration=duration,
                rate=rate,
                sources=sources,
                headers=_parse_headers(headers),
                stamp=stamp,
                verify=not insecure,
            )
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if json_file is not None:
        try:
            Path(json_file).touch()  # before the time is spent
        except OSError as error:
            raise click.BadParameter(f"{json_file}: {error.strerror}", param_hint="--json") from None
    _check_descriptors(connections)
    table = LiveTable(run, sys.stderr)

    def show() -> None:
        with _reader_may_leave(sys.stderr):
            table.show()

    async def run_until_interrupted() -> None:
        with interruptible():  # what has come so far is reported
            await run.run(show)

    try:
        trio.run(run_until_interrupted)
    except OSError as error:
        raise click.ClickException(f"{url}: {error.strerror or error}") from error
    with _reader_may_leave(sys.stderr):
        table.finish()
    with _reader_may_leave(sys.stdout):
        write_report(run, sys.stdout)
    if json_file is not None:
        try:
            Path(json_file).write_text(json.dumps(run.report(), indent=2) + "\n")
        except OSError as error:
            raise click.ClickException(f"{json_file}: {error.strerror}") from error
    if not run.totals.opened:
        sys.exit(1)


def _check_descriptors(connections: int) -> None:
    limit = raised_descriptor_limit()
    if limit is not None and connections > limit - 50:
        raise click.ClickException(
            f"{connections} streams need as many file descriptors, and this process may have {limit}: "
            f"`trio-sse doctor --connections {connections}` tells what raises it; or run several of these"
        )


@main.command()
@click.option(
    "--connections",
    "-c",
    type=click.IntRange(min=1),
    default=10_000,
    show_default=True,
    help="To be held on this machine.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor(connections: int, as_json: bool) -> None:
    """Tell what bounds this machine, and how to raise it. Exits with 1 if it can't hold that many streams."""
    from .._tools.doctor import examine, write_diagnosis

    diagnosis = examine(connections)
    with _reader_may_leave(sys.stdout):
        if as_json:
            click.echo(json.dumps(diagnosis.as_json(), indent=2))
        else:
            write_diagnosis(diagnosis, sys.stdout)
    if not diagnosis.is_fine:
        sys.exit(1)


async def _print_events(follower: Tail, count: int | None, as_json: bool) -> bool:
    """Print events; return whether that was interrupted."""
    from .._tools.tail import format_event

    printed = 0
    with interruptible() as interruption:
        async with aclosing(follower.events()) as events:
            async for event in events:
                with interruption.raises():
                    print(format_event(event, as_json=as_json), flush=True)
                printed += 1
                if printed == count:
                    break
    return interruption.has_come


def _parse_headers(headers: Sequence[str]) -> list[tuple[str, str]]:
    try:
        return [parse_field(header) for header in headers]
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--header") from None
