"""`trio-sse load`: open many streams to any SSE endpoint, and collect statistics.

Each stream has its own task; with HTTP/2, so has each connection. All run in one process, on one core.
If that core was the bottleneck, the report says so.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import final

import trio

from ..credentials import without_credentials
from ..interrupt import cancel_on_sigint
from .carrier import Carrier, ConnectionEach, SharedConnections
from .client import LoadClient
from .dialer import LoadDialer
from .reader import LoadReader
from .target import LoadTarget
from .totals import TIMESTAMP_FIELDS, Totals

#: From this share of a core on, the tool itself may be the bottleneck.
BUSY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What to load, and how.

    Args:
        url: http or https.
        connections: connections to hold open.
        streams_per_connection: streams of each of them; 1 without HTTP/2.
        is_http2: use HTTP/2: with https by ALPN, and with http by prior knowledge.
        duration: seconds to run, from when the first stream is opened.
        rate: streams to open per second.
        sources: addresses to connect from; by default the system's choice, or many addresses if the target is
            on this machine.
        headers: headers to add to each request; they replace the tool's own of the same name.
        timestamp_field: the field of an event's JSON with the time at which it was sent, in seconds or
            milliseconds since 1970; by default "t", "server_time" or "time".
        verify: verify the server's certificate.
    """

    url: str
    connections: int
    duration: float
    streams_per_connection: int = 1
    is_http2: bool = False
    rate: float = 500.0
    sources: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    timestamp_field: str | None = None
    verify: bool = True

    @property
    def streams(self) -> int:
        """How many streams to hold open."""
        return self.connections * self.streams_per_connection


@final
class Load:
    """One run of the tool."""

    def __init__(self, options: LoadOptions) -> None:
        """Check the options.

        Raises:
            ValueError: the URL or a source address is malformed, or HTTP/2 is not installed.
        """
        if options.is_http2 and not find_spec("hpack"):
            raise ValueError("--http2 needs its extra: pip install 'trio-sse[http2]'")
        self.options = options
        self.totals = Totals(
            TIMESTAMP_FIELDS if options.timestamp_field is None else (options.timestamp_field,)
        )
        target = LoadTarget(options.url, options.headers)
        self._dialer = LoadDialer(target, options.sources, verify=options.verify, is_http2=options.is_http2)
        self._has_reader = not target.is_secure and not options.is_http2 and hasattr(select, "epoll")
        self._began_at = self._cpu_at_begin = 0.0
        self.seconds = self.cpu_seconds = 0.0

    async def run(self, show: Callable[[], None], *, every: float = 1.0) -> None:
        """Hold the streams open until the duration ends, or SIGINT; call `show` each `every` seconds.

        Raises:
            OSError: the host has no address.
        """
        await self._dialer.resolve()
        self._began_at, self._cpu_at_begin = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as nursery:
            carrier = self._carrier(nursery)
            nursery.start_soon(self._show, show, every)
            # Not around the nursery: closing all streams is not part of the measured time.
            with cancel_on_sigint(), trio.move_on_after(self.options.duration):
                await self._open(nursery, carrier)
                await trio.sleep_forever()
            self._take_time()
            nursery.cancel_scope.cancel()

    def _carrier(self, nursery: trio.Nursery) -> Carrier:
        if self.options.is_http2:
            each = self.options.streams_per_connection
            return SharedConnections(self._dialer, each, self.totals, nursery)
        reader = LoadReader() if self._has_reader else None
        if reader is not None:
            nursery.start_soon(reader.run)
        return ConnectionEach(self._dialer, reader)

    async def _open(self, nursery: trio.Nursery, carrier: Carrier) -> None:
        begin = trio.current_time()
        for number in range(self.options.streams):
            await trio.sleep_until(begin + number / self.options.rate)
            nursery.start_soon(LoadClient(number, carrier, self.totals).run)

    async def _show(self, show: Callable[[], None], every: float) -> None:
        while True:
            await trio.sleep(every)
            self._take_time()
            show()

    def _take_time(self) -> None:
        self.seconds = time.perf_counter() - self._began_at
        self.cpu_seconds = time.process_time() - self._cpu_at_begin

    # Results

    @property
    def cpu_share(self) -> float:
        """The share of a core that this process has used."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0

    def report(self) -> dict[str, object]:
        """Return all statistics, for JSON."""
        totals = self.totals
        return {
            "url": without_credentials(self.options.url),
            "connections": self.options.connections,
            "streams": self.options.streams,
            "protocol": "HTTP/2" if self.options.is_http2 else "HTTP/1.1",
            "seconds": round(self.seconds, 3),
            "most_connected": totals.most_connected,
            "opened": totals.opened,
            "reconnects": totals.reconnects,
            "gave_up": totals.gave_up,
            "failures": dict(totals.failures.most_common()),
            "events": totals.events,
            "events_per_second": round(totals.events / self.seconds, 1) if self.seconds else 0.0,
            "bytes": totals.bytes,
            "milliseconds_to_head": totals.head_times.percentiles(),
            "latency_milliseconds": totals.latencies.percentiles(),
            "cpu_share": round(self.cpu_share, 3),
        }
