"""Shared time: one ticker for a topic, so that all its clients see the same time, whenever they connected.

Ticks are at whole multiples of the interval on the wall clock: at 12:00:30, not "30 s after you connected".
All values in a tick are absolute, so a client that joins late sees what all others see. The time between two
ticks is measured on the monotonic clock, which nobody sets. So a step of the wall clock moves the ticks, is
reported in the next one, and doesn't change `elapsed`.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Protocol, final

import trio

logger = logging.getLogger("trio_sse.hub")

# The wall clock may be set unnoticed while the ticker sleeps, so it reads the clock at least this often.
_LOOK_SECONDS = 60.0

# The two clocks differ a little when the wall clock is slewed. From this difference on, it has been stepped.
_STEP_SECONDS = 0.5


class Publisher(Protocol):
    """`Hub.publish`, as far as a ticker calls it."""

    def __call__(self, topic: str, data: object, *, event: str | None) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class TickerStatistics:
    """A ticker's statistics at one moment.

    Attributes:
        ticks: ticks that were published.
        skipped: ticks that were not published, since their time had passed before they could be.
        steps: how often the wall clock was stepped.
        sequence: the last tick's number.
    """

    ticks: int
    skipped: int
    steps: int
    sequence: int


@final
class Ticker:
    """The ticks of one topic; only `Hub.run_ticker` makes one, and passes it to `task_status.started`."""

    def __init__(
        self,
        topic: str,
        publish: Publisher,
        *,
        every: float,
        event: str | None,
        reference: datetime | float | None,
        clock: Callable[[], float],
    ) -> None:
        if isinstance(every, bool) or not isinstance(every, int | float):
            raise TypeError(f"every must be a number of seconds, not {type(every).__name__}")
        if not 0.01 <= every <= 86_400:
            raise ValueError(f"every must be 0.01 to 86400 seconds, not {every}")
        self._topic = topic
        self._publish = publish
        self._every = float(every)
        self._event = event
        self._clock = clock
        # Trio's time at which the wall clock would have shown 0, had it never been stepped.
        self._epoch = trio.current_time() - clock()
        self._reference = _seconds_of(reference, default=clock())
        self._stepped = 0.0  # by how much the wall clock was stepped since the start
        self._unreported_step = 0.0
        self._ticks = self._skipped = self._steps = self._sequence = 0

    def statistics(self) -> TickerStatistics:
        """Return the ticker's statistics at this moment."""
        return TickerStatistics(self._ticks, self._skipped, self._steps, self._sequence)

    @property
    def elapsed(self) -> float:
        """Seconds from the reference until now, for a page that is rendered now and follows the ticks."""
        return trio.current_time() - self._epoch - self._reference

    async def run(self) -> None:
        """Tick until cancelled."""
        multiple = self._next_multiple(self._clock())
        looked_at = trio.current_time()
        while True:
            now = self._clock()
            if self._was_stepped(now):
                # From the last reading on, by the clock as it is now: no tick that became due is left out.
                multiple = self._next_multiple(now - (trio.current_time() - looked_at))
            looked_at = trio.current_time()
            # A product each time: adding up intervals of 0.1 s, say, would drift by 80 ms in a day.
            due = multiple * self._every
            if due > now:
                await trio.sleep(min(due - now, _LOOK_SECONDS))
                continue
            missed = math.floor((now - due) / self._every)
            multiple += missed
            self._skipped += missed
            self._sequence += missed
            await self._tick(multiple * self._every, now)
            multiple += 1

    def _next_multiple(self, now: float) -> int:
        return math.floor(now / self._every) + 1

    def _was_stepped(self, now: float) -> bool:
        step = now - (trio.current_time() - self._epoch) - self._stepped
        if abs(step) < _STEP_SECONDS:
            return False
        self._stepped += step
        self._unreported_step += step
        self._steps += 1
        logger.warning("ticker %r: the wall clock was stepped by %+.3f s", self._topic, step)
        return True

    async def _tick(self, due: float, now: float) -> None:
        self._sequence += 1
        self._ticks += 1
        at = datetime.fromtimestamp(round(due, 3), UTC).isoformat(timespec="milliseconds")
        tick: dict[str, object] = {
            "sequence": self._sequence,
            "time": at.removesuffix("+00:00") + "Z",
            "elapsed": round(due - self._stepped - self._reference, 3),
            "server_time": round(now * 1000),
        }
        if self._unreported_step:
            tick["stepped"] = round(self._unreported_step, 3)
            self._unreported_step = 0.0
        await self._publish(self._topic, tick, event=self._event)


def _seconds_of(reference: datetime | float | None, *, default: float) -> float:
    if reference is None:
        return default
    if isinstance(reference, datetime):
        if reference.tzinfo is None:
            raise ValueError("a reference must have a time zone, as datetime.now(UTC) has")
        return reference.timestamp()
    if isinstance(reference, bool) or not isinstance(reference, int | float) or not math.isfinite(reference):
        raise TypeError(f"a reference must be a datetime or a time in seconds, not {reference!r}")
    return float(reference)
