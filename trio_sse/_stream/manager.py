"""What the event streams of one server, or of one app, share: options, hub, hooks and counts."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from .._http.exceptions import HTTPException, temporary_refusal
from .._hub.hub import Hub
from .._hub.statistics import HubStatistics
from .._validate import check_seconds
from .._wire.event import Dumps, dumps_compact
from .end_reason import EndReason

if TYPE_CHECKING:
    from .connection import Connection
    from .scope import ServeScope


ConnectHook = Callable[["Connection"], Awaitable[None] | None]
DisconnectHook = Callable[["Connection"], None]


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """The options that concern each stream; seconds, and `math.inf` for none.

    Attributes:
        keepalive: idle time after which a comment is sent. WHATWG (HTML, 9.2.7) advises about 15 s.
        max_duration: the longest life of a stream; each gets 80 to 100 % of it, at random.
        write_timeout: how long a peer may take no byte at all while there are some for it.
        reconnect_spread: when the server shuts down, each client is told to come back after a time of
            its own between one second and this.
        dumps: encodes data that is not text.
    """

    keepalive: float = 15.0
    max_duration: float = 3600.0
    write_timeout: float = 30.0
    reconnect_spread: float = 5.0
    dumps: Dumps = dumps_compact

    def __post_init__(self) -> None:
        check_seconds(
            keepalive=self.keepalive, max_duration=self.max_duration, write_timeout=self.write_timeout
        )
        if not 1 <= self.reconnect_spread <= 3600:
            raise ValueError(f"reconnect_spread must be 1 to 3600 seconds, not {self.reconnect_spread}")


@dataclass(frozen=True, slots=True)
class StreamStatistics:
    """The figures of an app's streams at one moment.

    Attributes:
        open_streams: streams that are open.
        opened: streams that were ever opened.
        ended: how many of them ended for which reason.
        events_sent, bytes_sent: over all streams, replayed events among them.
        hub: the hub's figures.
    """

    open_streams: int
    opened: int
    ended: Mapping[EndReason, int]
    events_sent: int
    bytes_sent: int
    hub: HubStatistics


@final
class StreamManager:
    """One server's streams, or one app's, all together.

    Attributes:
        max_connections: streams that may be open at once, where the server doesn't bound them itself.
        refusals: the exceptions by which handlers and hooks refuse a request.
        streams: those that are open, oldest first.
        serve_scopes: the calls to serve that are under way.
        ended: how many have ended for which reason.
        events_sent, bytes_sent: by those that have ended.
    """

    def __init__(
        self,
        hub: Hub,
        options: StreamOptions,
        *,
        max_connections: int | None = None,
        refusals: tuple[type[Exception], ...] = (),
    ) -> None:
        self.hub = hub
        self.options = options
        self._max_connections = max_connections
        self.refusals: tuple[type[Exception], ...] = (HTTPException, *refusals)
        self.ids = itertools.count(1)
        self.streams: dict[Connection, None] = {}
        self.serve_scopes: dict[ServeScope, None] = {}
        self.ended: Counter[EndReason] = Counter()
        self.events_sent = 0
        self.bytes_sent = 0
        self.on_connect: list[ConnectHook] = []
        self.on_disconnect: list[DisconnectHook] = []

    def check_room(self) -> None:
        """Raise an `HTTPException` if there are as many streams as there may be."""
        if self._max_connections is not None and len(self.streams) >= self._max_connections:
            raise temporary_refusal(503, "the app has reached its limit of open streams")

    def statistics(self) -> StreamStatistics:
        """Give the figures at this moment. It looks at every stream: not for hot code."""
        events_sent, bytes_sent = self.total_sent(self.streams)
        return StreamStatistics(
            open_streams=len(self.streams),
            opened=len(self.streams) + self.ended.total(),
            ended=dict(self.ended),
            events_sent=events_sent,
            bytes_sent=bytes_sent,
            hub=self.hub.statistics(),
        )

    def total_sent(self, streams: Iterable[Connection]) -> tuple[int, int]:
        """Give the events and bytes that these streams have sent, and those that have ended."""
        events_sent, bytes_sent = self.events_sent, self.bytes_sent
        for stream in streams:
            events, size = stream.sent()
            events_sent += events
            bytes_sent += size
        return events_sent, bytes_sent

    def count_end(self, connection: Connection) -> None:
        """Take note that a stream has ended."""
        self.ended[connection.end_reason or EndReason.SERVER_SHUTDOWN] += 1
        self.events_sent, self.bytes_sent = self.total_sent([connection])
