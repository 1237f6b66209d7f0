"""Shared time: one ticker for a topic, so that all its clients see the same time, whenever they connected.

Ticks are at whole multiples of the interval on the wall clock: at 12:00:30, not "30 s after you connected".
All values in a tick are absolute, so a client that joins late sees what all others see. The time between two
ticks is measured on the monotonic clock, which nobody sets. So a step of the wall clock moves the ticks, is
reported in the next one, and does not change `elapsed`.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple, Protocol, final

import trio

from .._containment import contain
from .._groups import split_failure
from .._logger import get_logger
from .._process.suspension import seconds_suspended
from .._shared_log.protocol import EventRefused, LogUnavailable
from .._wire.message import Message

logger = get_logger("trio_sse.hub")

# The wall clock may be set unnoticed while the ticker sleeps, so it reads the clock at least this often.
_LOOK_SECONDS = 60.0

# The two clocks differ a little when the wall clock is slewed. From this difference on, it has been stepped.
_STEP_SECONDS = 0.5


# A clock beyond this, in the year 9990, is defective; the ticks of a day later can still be written as dates.
_LATEST = 253_086_768_000.0


class Publisher(Protocol):
    """`Hub.publish`, as far as a ticker calls it."""

    def __call__(self, topic: str, data: object, *, event: str | None) -> Awaitable[None]: ...


@dataclass(frozen=True, slots=True)
class TickerStatistics:
    """A ticker's statistics at one moment.

    Attributes:
        ticks: ticks that were published.
        skipped: ticks that were not published: their time had passed before they could be, or a shared log
            was not available.
        steps: how often the wall clock was stepped.
        sequence: the last tick's number.
    """

    ticks: int
    skipped: int
    steps: int
    sequence: int


@final
class Ticker:
    """The ticks of one topic; created by `Hub.run_ticker`, which passes it to `task_status.started`."""

    def __init__(
        self,
        topic: str,
        publish: Publisher,
        *,
        every: float,
        event: str | None,
        reference: datetime | float | None,
        clock: Callable[[], float],
        newest: Callable[[], Message | None] = lambda: None,
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
        now = _checked_time(clock())
        # Trio's time at which the wall clock would have shown 0, had it never been stepped.
        self._epoch = trio.current_time() - now
        self._reference = _seconds_of(reference, default=now)
        self._has_own_reference = reference is not None
        self._newest = newest
        self._slept_at_start = seconds_suspended()
        self._stepped = 0.0  # by how much the wall clock was stepped since the start
        self._unreported_step = 0.0
        self._has_clock_failed = False
        self._is_log_available = True
        self._ticks = self._skipped = self._steps = self._sequence = 0

    def statistics(self) -> TickerStatistics:
        """Return the ticker's statistics at this moment."""
        return TickerStatistics(self._ticks, self._skipped, self._steps, self._sequence)

    @property
    def elapsed(self) -> float:
        """Seconds from the reference until now, for a page that is rendered now and follows the ticks."""
        self._follow_newest()
        return self._unstepped_time() - self._reference

    def _unstepped_time(self) -> float:
        """Return what the wall clock would show if nobody had set it."""
        return trio.current_time() - self._epoch + seconds_suspended() - self._slept_at_start

    def _follow_newest(self) -> float | None:
        """Continue after the newest tick of another node, if there is one; return when it was due."""
        message = self._newest()
        if message is None or (tick := _parse_tick(message)) is None:
            return None
        if tick.sequence > self._sequence:
            self._sequence = tick.sequence
            if not self._has_own_reference:
                self._reference = tick.due - self._stepped - tick.elapsed
        return tick.due

    async def run(self) -> None:
        """Tick until cancelled."""
        multiple = self._next_multiple(self._read_clock())
        if (due := self._follow_newest()) is not None:  # ticks that nobody has published count, too
            missed = max(0, multiple - round(due / self._every) - 1)
            self._sequence += missed
            self._skipped += missed
        looked_at = trio.current_time()
        while True:
            now = self._read_clock()
            if self._was_stepped(now):
                # From the last reading on, by the clock as it is now: no tick that became due is left out.
                multiple = self._next_multiple(now - (trio.current_time() - looked_at))
            looked_at = trio.current_time()
            # A product each time: adding up intervals of 0.1 s, for example, would drift by 80 ms in a day.
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

    def _read_clock(self) -> float:
        """Return the wall clock's time; if the clock fails, what it would show if nobody had set it."""
        try:
            now = _checked_time(self._clock())
        except BaseException as failure:
            if not self._has_clock_failed:
                contain(failure, f"ticker {self._topic!r}: its clock failed and is left alone (logged once)")
                self._has_clock_failed = True
            elif (passing := split_failure(failure)[0]) is not None:
                raise passing from None
            return self._unstepped_time() + self._stepped
        return now

    def _next_multiple(self, now: float) -> int:
        return math.floor(now / self._every) + 1

    def _was_stepped(self, now: float) -> bool:
        step = now - self._unstepped_time() - self._stepped
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
        try:
            await self._publish(self._topic, tick, event=self._event)
        except (LogUnavailable, EventRefused) as error:  # the next tick has the time, too
            self._ticks -= 1
            self._skipped += 1
            if self._is_log_available:
                logger.warning("ticker %r: ticks are skipped: %s", self._topic, error)
            self._is_log_available = False
        else:
            self._is_log_available = True


class _Tick(NamedTuple):
    sequence: int
    due: float
    elapsed: float


def _parse_tick(message: Message) -> _Tick | None:
    """Return a tick that was published, on whichever node; `None` if it is none."""
    try:
        tick = message.event.json()
        due = datetime.fromisoformat(tick["time"]).timestamp()  # type: ignore[index]
        found = _Tick(int(tick["sequence"]), due, float(tick["elapsed"]))  # type: ignore[index]
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    return found


def _checked_time(now: object) -> float:
    """Return what a clock has shown, if it is a time that can be written as a date."""
    if isinstance(now, bool) or not isinstance(now, int | float):
        raise TypeError(f"a clock must return seconds since 1970, not {type(now).__name__}")
    if not 0 <= now <= _LATEST:
        raise ValueError(f"a clock must return seconds since 1970, not {now}")
    return float(now)


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
