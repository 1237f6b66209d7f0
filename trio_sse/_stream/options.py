"""The options of streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import final

from .._validate import check_functions, check_seconds
from .._wire.event import Dumps, dumps_compact


@final
@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """Options of each stream. Durations are in seconds, `math.inf` for no limit.

    Attributes:
        keepalive: idle time after which a comment is sent. WHATWG (HTML, 9.2.7) advises about 15 s.
        max_duration: the longest life of a stream. Each stream gets 80 to 100 % of it, at random.
        write_timeout: how long a peer may accept no bytes while there are bytes to send.
        reconnect_spread: on shutdown, each client is asked to reconnect after a random time between one
            second and this.
        dumps: encodes data that is not text.
    """

    keepalive: float = 15.0
    max_duration: float = 3600.0
    write_timeout: float = 30.0
    reconnect_spread: float = 5.0
    dumps: Dumps = dumps_compact

    def __post_init__(self) -> None:
        check_seconds(
            keepalive=self.keepalive,
            max_duration=self.max_duration,
            write_timeout=self.write_timeout,
            reconnect_spread=self.reconnect_spread,
        )
        check_functions(dumps=self.dumps)
        if not 1 <= self.reconnect_spread <= 3600:
            raise ValueError(f"reconnect_spread must be 1 to 3600 seconds, not {self.reconnect_spread}")
