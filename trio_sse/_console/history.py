"""The last minutes, a record a second, for the charts.

The records are in memory that processes share if they are forked later, so that every worker shows the same
charts, whichever process shows them. Each second has its place in a ring, and a record that is too old
counts as none. Nothing is locked: two workers that write the same second write the same sums.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator, Mapping
from typing import final

from .source import CHARTED

#: How far back the charts reach, in seconds.
SPAN = 300

# A rate is the growth between two records, unless nobody watched in between.
_LONGEST_GAP = 10.0

# As long as somebody watches, there is a record a second, or at least one in this time.
_WATCHED = 5.0

_RECORD = struct.Struct(f"<{1 + len(CHARTED)}d")

#: The charted numbers that only grow, whose rates are charted, and the rates' names.
RATES = {
    "opened": "opened_rate",
    "events_sent": "events_rate",
    "bytes_sent": "bytes_rate",
    "published": "published_rate",
    "deliveries": "deliveries_rate",
    "refused": "refused_rate",
    "loop_seconds": "loop_busy",
}

#: A point of the charts: its numbers by name. A rate is `None` if what came before is not known.
Sample = dict[str, float | None]


@final
class History:
    """The records of the last five minutes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, SPAN * _RECORD.size)

    def add(self, at: float, totals: Mapping[str, float | None]) -> None:
        """Record what is known at a time, in seconds since 1970. Numbers that are not known count as 0."""
        values = [float(totals[name] or 0) for name in CHARTED]
        _RECORD.pack_into(self._memory, int(at) % SPAN * _RECORD.size, at, *values)

    def samples(self, now: float) -> Iterator[Sample]:
        """Yield the points of the last minutes, oldest first; each takes some 6 µs."""
        records = self._records(now)
        for before, record in zip([None, *records], records, strict=False):
            yield _sample(record, before)

    def _records(self, now: float) -> list[tuple[float, ...]]:
        records = _RECORD.iter_unpack(self._memory[:])
        return sorted(record for record in records if now - SPAN < record[0] <= now + 1)

    def is_watched(self, now: float) -> bool:
        """Whether somebody watches, in this process or another."""
        return any(now - _WATCHED < record[0] <= now + 1 for record in _RECORD.iter_unpack(self._memory[:]))

    def latest(self, now: float) -> Sample | None:
        """Return the newest point, if there is one."""
        records = self._records(now)
        return _sample(records[-1], records[-2] if len(records) > 1 else None) if records else None


def _sample(record: tuple[float, ...], before: tuple[float, ...] | None) -> Sample:
    sample: Sample = {"at": round(record[0], 3)}
    seconds = 0.0 if before is None else record[0] - before[0]
    for place, name in enumerate(CHARTED, start=1):
        if name not in RATES:
            sample[name] = record[place]
        elif before is None or not 0 < seconds <= _LONGEST_GAP:
            sample[RATES[name]] = None
        else:
            sample[RATES[name]] = round(max(0.0, record[place] - before[place]) / seconds, 4)
    if (busy := sample["loop_busy"]) is not None:
        # Of each process, on average. Other workers report once a second, so now and then there are two
        # reports of one between two records.
        sample["loop_busy"] = min(1.0, round(busy / max(1.0, sample["processes"] or 0.0), 4))
    return sample
