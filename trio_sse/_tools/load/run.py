"""`trio-sse load`: open many streams to any SSE endpoint, and collect statistics.

Each stream has its own task. All run in one process, on one core. If that core was the bottleneck, the
report says so.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import trio

from ..credentials import without_credentials
from ..interrupt import cancel_on_sigint
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
        connections: streams to hold open.
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
    rate: float = 500.0
    sources: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    timestamp_field: str | None = None
    verify: bool = True


@final
class Load:
    """One run of the tool."""

    def __init__(self, options: LoadOptions) -> None:
        """Check the options.

        Raises:
            ValueError: the URL or a source address is malformed.
        """
        self.options = options
        self.totals = Totals(
            TIMESTAMP_FIELDS if options.timestamp_field is None else (options.timestamp_field,)
        )
        target = LoadTarget(options.url, options.headers)
        self._dialer = LoadDialer(target, options.sources, verify=options.verify)
        self._has_reader = not target.is_secure and hasattr(select, "epoll")
        self._began_at = self._cpu_at_begin = 0.0
        self.seconds = self.cpu_seconds = 0.0

    async def run(self, show: Callable[[], None], *, every: float = 1.0) -> None:
        """Hold the streams open until the duration ends, or SIGINT; call `show` each `every` seconds.

        Raises:
            OSError: the host has no address.
        """
        await self._dialer.resolve()
        reader = LoadReader() if self._has_reader else None
        self._began_at, self._cpu_at_begin = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as nursery:
            if reader is not None:
                nursery.start_soon(reader.run)
            nursery.start_soon(self._show, show, every)
            # Not around the nursery: closing all streams is not part of the measured time.
            with cancel_on_sigint(), trio.move_on_after(self.options.duration):
                await self._open(nursery, reader)
                await trio.sleep_forever()
            self._take_time()
            nursery.cancel_scope.cancel()

    async def _open(self, nursery: trio.Nursery, reader: LoadReader | None) -> None:
        begin = trio.current_time()
        for number in range(self.options.connections):
            await trio.sleep_until(begin + number / self.options.rate)
            nursery.start_soon(LoadClient(number, self._dialer, reader, self.totals).run)

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
