"""The options of a server, checked where they are set. `Server` describes them."""

from __future__ import annotations

import importlib.util
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, final

from .._http.cors import CrossOrigin
from .._http.host_names import host_names
from .._http.id_header import check_id_header
from .._http.request_head import HeadLimits
from .._proxies.forwarded import ForwardedReader, parse_root_path
from .._proxies.trusted_proxies import TrustedProxies
from .._stream.options import StreamOptions
from .._validate import check_bounds, check_flags, check_paths, check_seconds, check_texts

# A route's body is in memory as a whole; an app receives it in pieces.
ROUTE_BODY_SIZE = 1024 * 1024
#: The console's token can be guessed at as fast as the server answers.
SHORTEST_TOKEN = 16

APP_BODY_SIZE = 16 * 1024 * 1024


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions:
    """The options that concern the listening sockets and the calls to serve.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    drain_timeout: float
    send_buffer: int
    slow_step: float

    def __post_init__(self) -> None:
        check_seconds(drain_timeout=self.drain_timeout, slow_step=self.slow_step)
        check_bounds(1, send_buffer=self.send_buffer)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class Http2Options:
    """The options that concern HTTP/2.

    Attributes:
        http2: whether TLS clients may choose it; `None` if they may where `hpack` is installed.
        http2_cleartext: whether clients without TLS may begin with it.
        is_on: whether any client may.

    Raises:
        ImportError: it is demanded, and `hpack` is not installed.
        TypeError, ValueError: an option is not acceptable.
    """

    http2: bool | None
    http2_cleartext: bool
    http2_max_streams: int
    is_on: bool = field(init=False)

    def __post_init__(self) -> None:
        check_bounds(1, http2_max_streams=self.http2_max_streams)
        check_flags(http2_cleartext=self.http2_cleartext)
        if self.http2 is not None:
            check_flags(http2=self.http2)
        is_installed = importlib.util.find_spec("hpack") is not None
        if (self.http2 or self.http2_cleartext) and not is_installed:
            raise ImportError("HTTP/2 needs the package hpack: pip install 'trio-sse[http2]'", name="hpack")
        is_on = self.http2_cleartext or self.http2 or (self.http2 is None and is_installed)
        object.__setattr__(self, "is_on", is_on)

    @property
    def is_offered(self) -> bool:
        """Whether TLS clients may choose HTTP/2 (ALPN)."""
        return self.is_on and self.http2 is not False


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class RequestOptions:
    """The options that concern requests.

    Attributes:
        max_body_size: `None` for a default that depends on what reads the body.
        body_timeout: how long a body may pause.
        keep_alive: how long a connection may be idle between two requests.
        allowed_hosts: a frozenset of what `canonical_host` returns; `None` for all.
        health_path, liveness_path, readiness_path, metrics_path: `None` for nowhere.
        request_timeout: of endpoints, in seconds.
        access_log: whether each request is logged.
        log_identities: whether the log says whose a stream was.
        connection_id_header: the header field that has a stream's number; `None` for none.

    Raises:
        ImportError: there are to be metrics, and `prometheus_client` is not installed.
        TypeError, ValueError: an option is not acceptable.
    """

    max_body_size: int | None
    body_timeout: float
    keep_alive: float
    max_header_size: int
    max_header_fields: int
    max_target_size: int
    allowed_hosts: Collection[str] | None
    cross_origin: CrossOrigin
    health_path: str | None
    liveness_path: str | None
    readiness_path: str | None
    metrics_path: str | None
    request_timeout: float
    access_log: bool
    log_identities: bool
    connection_id_header: str | None

    def __post_init__(self) -> None:
        check_seconds(
            request_timeout=self.request_timeout, body_timeout=self.body_timeout, keep_alive=self.keep_alive
        )
        check_bounds(
            1,
            max_header_size=self.max_header_size,
            max_header_fields=self.max_header_fields,
            max_target_size=self.max_target_size,
        )
        check_id_header(self.connection_id_header)
        check_flags(access_log=self.access_log, log_identities=self.log_identities)
        check_paths(
            health_path=self.health_path,
            liveness_path=self.liveness_path,
            readiness_path=self.readiness_path,
            metrics_path=self.metrics_path,
        )
        if self.max_body_size is not None:
            check_bounds(0, max_body_size=self.max_body_size)
        if self.metrics_path is not None and importlib.util.find_spec("prometheus_client") is None:
            text = "metrics need the package prometheus-client: pip install 'trio-sse[metrics]'"
            raise ImportError(text, name="prometheus_client")
        if self.allowed_hosts is not None:
            object.__setattr__(self, "allowed_hosts", host_names("allowed_hosts", self.allowed_hosts))

    @property
    def head_limits(self) -> HeadLimits:
        """The bounds on a request's head."""
        return HeadLimits(self.max_header_size, self.max_target_size, self.max_header_fields)

    def max_body_size_of(self, *, is_for_app: bool) -> int:
        """Return the largest body that a route, or the app, receives."""
        if self.max_body_size is not None:
            return self.max_body_size
        return APP_BODY_SIZE if is_for_app else ROUTE_BODY_SIZE


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionOptions:
    """The bounds on open streams, and on what waits for slow clients.

    `max_connections_per_host` may be `None` for no bound.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    max_connections: int
    max_connections_per_host: int | None
    max_pending_bytes: int

    def __post_init__(self) -> None:
        check_bounds(1, max_connections=self.max_connections, max_pending_bytes=self.max_pending_bytes)
        if self.max_connections_per_host is not None:
            check_bounds(1, max_connections_per_host=self.max_connections_per_host)


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyOptions:
    """The options that concern the proxies in front of a server.

    Attributes:
        proxies: the trusted ones.
        decoded_root_path: the root path, without a slash at its end.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    trusted_proxies: Collection[str]
    forwarded_headers: Collection[str]
    root_path: str
    proxies: TrustedProxies = field(init=False)
    decoded_root_path: str = field(init=False)

    def __post_init__(self) -> None:
        check_texts(root_path=self.root_path)
        object.__setattr__(self, "proxies", TrustedProxies(self.trusted_proxies))
        object.__setattr__(
            self, "decoded_root_path", parse_root_path(self.root_path) if self.root_path else ""
        )
        ForwardedReader(self.proxies, self.forwarded_headers)  # which checks them


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class WebSocketOptions:
    """The options that concern the WebSockets of an app.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    websocket_max_message_size: int
    websocket_ping_interval: float
    websocket_ping_timeout: float

    def __post_init__(self) -> None:
        check_bounds(1, websocket_max_message_size=self.websocket_max_message_size)
        check_seconds(
            websocket_ping_interval=self.websocket_ping_interval,
            websocket_ping_timeout=self.websocket_ping_timeout,
        )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ConsoleOptions:
    """The options that concern the console.

    Attributes:
        console: whether there is one.
        console_token: `None` for one that is made.
        console_peers: the addresses and networks that may use it, besides this machine.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    console: bool
    console_token: str | None
    console_peers: Collection[str]

    def __post_init__(self) -> None:
        check_flags(console=self.console)
        TrustedProxies(self.console_peers, name="console_peers")  # which checks them
        token = self.console_token
        if token is None:
            return
        check_texts(console_token=token)
        if len(token) < SHORTEST_TOKEN or not (token.isascii() and token.isprintable()) or " " in token:
            raise ValueError(
                f"console_token must have at least {SHORTEST_TOKEN} visible characters of ASCII, no spaces"
            )


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """All options of a server, by what they concern."""

    requests: RequestOptions
    streams: StreamOptions
    admission: AdmissionOptions
    serve: ServeOptions
    proxies: ProxyOptions
    websockets: WebSocketOptions
    http2: Http2Options
    console: ConsoleOptions

    def with_changes(self, changes: Mapping[str, object]) -> ServerOptions:
        """Return these options with some of them changed.

        Raises:
            TypeError, ValueError: there is no such option, or it is not acceptable.
        """
        groups = {group.name: getattr(self, group.name) for group in fields(self)}
        left: dict[str, Any] = dict(changes)
        for name, group in groups.items():
            own = {one.name: left.pop(one.name) for one in fields(group) if one.init and one.name in left}
            groups[name] = replace(group, **own)
        if left:
            raise TypeError(f"{', '.join(left)}: a server has no such option, or it cannot be changed")
        return ServerOptions(**groups)
