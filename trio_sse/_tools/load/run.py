"""`trio-sse load`: many streams of any SSE endpoint, opened from many addresses, and what comes of them.

Each stream has a task of its own. All are in one process and on one core; if that is what holds things up,
the report says so.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

import trio

from ..interrupt import interruptible
from .client import LoadClient
from .dialer import LoadDialer
from .reader import LoadReader
from .target import LoadTarget
from .totals import STAMPS, Totals

#: Of that share of a core on, the tool itself may be what is slow.
BUSY_SHARE = 0.9


@dataclass(frozen=True, kw_only=True)
class LoadOptions:
    """What to do.

    Args:
        url: http or https.
        connections: streams to hold open.
        duration: seconds from the first stream's beginning.
        rate: streams to open each second.
        sources: addresses to connect from; by default the system's choice, and many where the target is on
            this machine.
        headers: further fields of each request, or such that replace its own.
        stamp: the member of an event's JSON that has the time at which it was sent, in seconds or
            milliseconds since 1970; by default one of "t", "server_time" and "time".
        verify: check the server's certificate.
    """

    url: str
    connections: int
    duration: float
    rate: float = 500.0
    sources: Sequence[str] = ()
    headers: Sequence[tuple[str, str]] = ()
    stamp: str | None = None
    verify: bool = True


@final
class Load:
    """One run of the tool."""

    def __init__(self, options: LoadOptions) -> None:
        """Check the options.

        Raises:
            ValueError: the URL is none that can be asked for, or a source none to connect from.
        """
        self.options = options
        self.totals = Totals(STAMPS if options.stamp is None else (options.stamp,))
        target = LoadTarget(options.url, options.headers)
        self._dialer = LoadDialer(target, options.sources, verify=options.verify)
        self._has_reader = not target.is_secure and hasattr(select, "epoll")
        self._began_at = self._cpu_at_begin = 0.0
        self.seconds = self.cpu_seconds = 0.0

    async def run(self, tell: Callable[[], None], *, every: float = 1.0) -> None:
        """Load until the time is over, or SIGINT comes; `tell` is called each so many seconds.

        Raises:
            OSError: the host has no address.
        """
        await self._dialer.resolve()
        reader = LoadReader() if self._has_reader else None
        self._began_at, self._cpu_at_begin = time.perf_counter(), time.process_time()
        async with trio.open_nursery() as nursery:
            if reader is not None:
                nursery.start_soon(reader.run)
            nursery.start_soon(self._tell, tell, every)
            # Not around the nursery: the time that it takes to close all streams isn't the load's.
            with interruptible(), trio.move_on_after(self.options.duration):
                await self._open(nursery, reader)
                await trio.sleep_forever()
            self._take_time()
            nursery.cancel_scope.cancel()

    async def _open(self, nursery: trio.Nursery, reader: LoadReader | None) -> None:
        begin = trio.current_time()
        for number in range(self.options.connections):
            await trio.sleep_until(begin + number / self.options.rate)
            nursery.start_soon(LoadClient(number, self._dialer, reader, self.totals).run)

    async def _tell(self, tell: Callable[[], None], every: float) -> None:
        while True:
            await trio.sleep(every)
            self._take_time()
            tell()

    def _take_time(self) -> None:
        self.seconds = time.perf_counter() - self._began_at
        self.cpu_seconds = time.process_time() - self._cpu_at_begin

    # What came of it

    @property
    def cpu_share(self) -> float:
        """The share of a core that this process has taken."""
        return self.cpu_seconds / self.seconds if self.seconds else 0.0

    def report(self) -> dict[str, object]:
        """Give all figures, for JSON."""
        totals = self.totals
        return {
            "url": self.options.url,
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
