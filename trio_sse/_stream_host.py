"""What the event streams of one server share: options, hub, hooks and counts."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, final

from ._end_reason import EndReason
from ._event import Dumps, dumps_compact
from ._hub import Hub

if TYPE_CHECKING:
    from ._connection import Connection
    from ._serving import Serving


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


def check_seconds(**options: float) -> None:
    """Refuse options that are no positive number of seconds."""
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise TypeError(f"{name} must be a number of seconds, not {type(value).__name__}")
        if math.isnan(value) or value <= 0:
            raise ValueError(f"{name} must be more than 0 seconds (math.inf for none), not {value}")


@final
class StreamHost:
    """One server's streams, all together."""

    def __init__(self, hub: Hub, options: StreamOptions) -> None:
        self.hub = hub
        self.options = options
        self.ids = itertools.count(1)
        self.streams: dict[Connection, None] = {}  # those that are open, oldest first
        self.servings: dict[Serving, None] = {}  # the calls to serve that are under way
        self.ended: Counter[EndReason] = Counter()
        self.events_sent = 0  # by those that have ended
        self.bytes_sent = 0
        self.on_connect: list[ConnectHook] = []
        self.on_disconnect: list[DisconnectHook] = []
