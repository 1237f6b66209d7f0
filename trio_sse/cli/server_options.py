"""The options of `Server` that `trio-sse serve` can set, one line each: see `SERVER_OPTIONS`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, TypeVar, final

import click

from .._asgi.types import ASGIApp
from .._program.errors import ProgramError
from .._program.reloader import DRAIN_SECONDS, RECONNECT_SECONDS
from .._server.server import Server
from .grouped_options import grouped

F = TypeVar("F", bound=Callable[..., Any])

_SECONDS = click.FloatRange(min=0, min_open=True)
_COUNT = click.IntRange(min=1)


@final
class ServerOption(NamedTuple):
    """An option of `Server` as an option of the program: `max_duration` is `--max-duration`.

    Attributes:
        name: the argument of `Server`.
        type: how its text is parsed.
        metavar: what the help calls the value.
        help: what it is for.
        is_for_apps: whether it also concerns an app, which is served as `Server(app)`.
        is_repeated: whether it can be repeated; its values are a tuple. In the environment, they are
            separated by spaces.
        is_flag: whether it has no value. It can only be switched on, unless it has a negation.
        negation: the flag that switches it off.
        alias: another name of the flag, by which those may look for it who know another server.
    """

    name: str
    type: click.ParamType[Any]
    metavar: str
    help: str
    is_for_apps: bool = True
    is_repeated: bool = False
    is_flag: bool = False
    negation: str | None = None
    alias: str | None = None

    @property
    def flag(self) -> str:
        """How it is written on the command line."""
        return "--" + self.name.replace("_", "-")


SERVER_OPTIONS = (
    ServerOption(
        "keepalive",
        _SECONDS,
        "SECONDS",
        "Send a comment on a stream that was idle for this long.",
        is_for_apps=False,
    ),
    ServerOption(
        "max_duration",
        _SECONDS,
        "SECONDS",
        "End a stream, or a WebSocket of an app, after this long; its client reconnects.",
    ),
    ServerOption(
        "max_connections", _COUNT, "N", "Refuse further streams, WebSockets and requests above this number."
    ),
    ServerOption("max_connections_per_host", _COUNT, "N", "The same for each client address."),
    ServerOption(
        "allowed_hosts",
        click.STRING,
        "HOST",
        "Host name that requests may be for; by default all. Can be repeated.",
        is_repeated=True,
    ),
    ServerOption(
        "liveness_path",
        click.STRING,
        "PATH",
        "Answer 200 here while the event loop turns; /healthz, but nowhere if there is an app.",
    ),
    ServerOption(
        "readiness_path",
        click.STRING,
        "PATH",
        "Answer 503 here with the reasons while no client should be sent here; /readyz, but nowhere if "
        "there is an app.",
    ),
    ServerOption(
        "metrics_path",
        click.STRING,
        "PATH",
        "Answer here with metrics for Prometheus; by default nowhere. Needs the extra metrics.",
    ),
    ServerOption("console", click.BOOL, "", "Show a console at /_sse/, which needs a token.", is_flag=True),
    ServerOption(
        "console_token",
        click.STRING,
        "TOKEN",
        "Token of the console; by default one is made and printed. Other users of the machine see command "
        "lines, so set TRIO_SSE_CONSOLE_TOKEN instead.",
    ),
    ServerOption(
        "console_peers",
        click.STRING,
        "ADDRESS",
        "Address or network that may use the console, besides this machine. Can be repeated.",
        is_repeated=True,
    ),
    ServerOption("max_body_size", click.IntRange(min=0), "BYTES", "Refuse larger bodies of requests."),
    ServerOption(
        "body_timeout", _SECONDS, "SECONDS", "Refuse a request whose body pauses for longer than this."
    ),
    ServerOption(
        "keep_alive",
        _SECONDS,
        "SECONDS",
        "Close a connection that is idle for this long between requests.",
        alias="--keep-alive-timeout",
    ),
    ServerOption("max_header_size", _COUNT, "BYTES", "Refuse requests with larger heads."),
    ServerOption("max_header_fields", _COUNT, "N", "Refuse requests with more header fields."),
    ServerOption("max_target_size", _COUNT, "BYTES", "Refuse requests with longer targets."),
    ServerOption(
        "websocket_max_message_size",
        _COUNT,
        "BYTES",
        "Refuse larger messages from the clients of an app's WebSockets.",
    ),
    ServerOption(
        "websocket_ping_interval",
        _SECONDS,
        "SECONDS",
        "Send a ping to the client of an app's WebSocket that was silent for this long.",
    ),
    ServerOption(
        "websocket_ping_timeout", _SECONDS, "SECONDS", "Disconnect it if it stays silent for this long after."
    ),
    ServerOption(
        "drain_timeout", click.FloatRange(min=0), "SECONDS", "How long a graceful shutdown may take."
    ),
    ServerOption(
        "reconnect_spread",
        click.FloatRange(min=1),
        "SECONDS",
        "At a shutdown, ask clients to reconnect after one second to this long.",
    ),
    ServerOption(
        "trusted_proxies",
        click.STRING,
        "ADDRESS",
        "Address or network of a proxy whose X-Forwarded-* or Forwarded headers say who the client is; "
        "'unix' for Unix sockets. Can be repeated.",
        is_repeated=True,
    ),
    ServerOption(
        "forwarded_headers",
        click.STRING,
        "NAME",
        "Name of a header that the trusted proxies set; by default all of X-Forwarded-* and Forwarded. "
        "Can be repeated.",
        is_repeated=True,
    ),
    ServerOption(
        "http2",
        click.BOOL,
        "",
        "Whether clients with TLS may choose HTTP/2.  [default: with --certfile, if its extra is installed]",
        is_flag=True,
        negation="--no-http2",
    ),
    ServerOption(
        "http2_cleartext",
        click.BOOL,
        "",
        "Let clients without TLS begin with HTTP/2, such as a proxy in front.",
        is_flag=True,
    ),
    ServerOption(
        "http2_max_streams", _COUNT, "N", "How many requests may be open on one connection of HTTP/2."
    ),
    ServerOption("access_log", click.BOOL, "", "Log each request, beside each stream.", is_flag=True),
    ServerOption(
        "connection_id_header",
        click.STRING,
        "NAME",
        "Have each connection's number, as in the log, in this field of the response.",
    ),
    ServerOption("log_identities", click.BOOL, "", "Log at the end of a stream whose it was.", is_flag=True),
    ServerOption(
        "root_path", click.STRING, "PATH", "Beginning of all paths, like /app, which a proxy has removed."
    ),
)

# Those that `trio_sse.hypercorn.serve` has, too.
_HYPERCORN_OPTIONS = ("drain_timeout", "trusted_proxies", "forwarded_headers", "root_path")

# Those that concern hypercorn's own configuration.
_CONFIG_OPTIONS = ("access_log", "http2")


def _click_option(option: ServerOption) -> Callable[[F], F]:
    if option.is_flag:
        envvar = f"TRIO_SSE_{option.name.upper()}"
        flag = option.flag if option.negation is None else f"{option.flag}/{option.negation}"
        return click.option(flag, is_flag=True, default=None, envvar=envvar, help=option.help)
    flags = [option.flag] if option.alias is None else [option.flag, option.alias]
    return click.option(
        *flags,
        option.name,
        type=option.type,
        envvar=f"TRIO_SSE_{option.name.upper()}",
        multiple=option.is_repeated,
        metavar=option.metavar,
        help=option.help,
    )


#: Decorates a command that takes the options of `Server` as a mapping. Those that are not set are `None`, or
#: empty if they can be repeated.
add_server_options = grouped(
    "server_options",
    dict,
    [option.name for option in SERVER_OPTIONS],
    [_click_option(option) for option in SERVER_OPTIONS],
)


def configure(found: Server | ASGIApp, values: Mapping[str, object]) -> Server:
    """Return a server, or the server of an app, with the options that are set.

    Raises:
        ProgramError: an option is not acceptable, or is not for an app.
    """
    changes = _set_options(values)
    if not isinstance(found, Server):
        _check_for_app(changes)
    try:
        if not isinstance(found, Server):
            return Server(found, **changes)
        found.configure(**changes)
    except (TypeError, ValueError, ImportError) as error:  # such as NaN, which passes the option's own check
        raise ProgramError(str(error)) from error
    return found


def options_for_hypercorn(values: Mapping[str, object]) -> dict[str, Any]:
    """Return the options, of those that are set, with which hypercorn serves an app.

    Raises:
        ProgramError: another option is set.
    """
    changes = _set_options(values)
    _check_for_app(changes)
    for option in SERVER_OPTIONS:
        if option.name in changes and option.name not in (*_HYPERCORN_OPTIONS, *_CONFIG_OPTIONS):
            raise ProgramError(
                f"{option.flag} cannot be combined with --host hypercorn: it is an option of a Server"
            )
    configure(Server(), changes)  # which checks them
    changes.pop("http2", None)  # decided by the certificates' ALPN
    return changes


def shortened_for_reload(values: Mapping[str, object], *, on_hypercorn: bool) -> dict[str, object]:
    """Return options with which a shutdown is quick: a developer waits for it."""
    drain_timeout = min(float(str(values.get("drain_timeout") or DRAIN_SECONDS)), DRAIN_SECONDS)
    shortened = {**values, "drain_timeout": drain_timeout}
    return shortened if on_hypercorn else {**shortened, "reconnect_spread": RECONNECT_SECONDS}


def _set_options(values: Mapping[str, object]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None and value != ()}


def _check_for_app(changes: Mapping[str, object]) -> None:
    """Raise `ProgramError` if an option does not concern an app."""
    for option in SERVER_OPTIONS:
        if option.name in changes and not option.is_for_apps:
            raise ProgramError(
                f"{option.flag} applies to a Server; for an app, set it on QuartSSE or event_stream"
            )
