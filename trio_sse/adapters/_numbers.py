"""The numbers of a run's events in a protocol, by which clients resume.

What a run emits and its main text have one order, in which their events are numbered. A further text that
grows at the same time has an order of its own: which of two texts a viewer reads first depends on when it
reads. So an id counts the events of each: `TAG.12` is number 12, and `TAG.12-4` is the same with the first
four events of a second text.

No number has two meanings. A store that was restored to an older state may have lost what clients have, and
what the run's next attempt then writes is something else. So each attempt leaves out as many numbers as no
attempt has events, and not the same as another attempt. The end of a run that may have been stored in place
of a node that has died leaves out some, too. A client that has a number which does not come up has something
that is void.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import final

from .._runs.content import MOST_TEXTS
from .._runs.protocol import MAIN_TEXT

_TAG_SIZE = 8

#: As many digits a number has at most: it is exact in JavaScript for thousands of attempts.
MOST_DIGITS = 16

# Before the events of an attempt, at least so many numbers are left out, and less than twice as many.
_LEFT_OUT = 2**40


@final
@dataclass(frozen=True, slots=True)
class LeftOut:
    """So many numbers of each text are left out, among the items of a run."""

    count: int

    @classmethod
    def before_attempt(cls, epoch: str) -> LeftOut:
        """Return how many are left out before the events of an attempt."""
        return cls(_LEFT_OUT + int.from_bytes(sha256(epoch.encode()).digest()) % _LEFT_OUT)

    @classmethod
    def before_end(cls) -> LeftOut:
        """Return how many are left out before an end that another node may have stored."""
        return cls(2 * _LEFT_OUT)


@final
class EventNumbers:
    """Numbers the events of a run for one client.

    Args:
        further_texts: the names of the texts besides the main one, in the order in which they began; the
            list may grow.
        had: how many events of each the client has.
    """

    def __init__(self, run_id: str, further_texts: Sequence[str], had: Sequence[int]) -> None:
        self._tag = run_id[:_TAG_SIZE]
        self._texts = further_texts
        self._had = had
        self._counts = [0]  # of the events of each text, with the numbers that were left out
        self._left_out = 0

    def next(self, text: str) -> str | None:
        """Return the id of a text's next event; `None` if the client has that event."""
        index = 0 if text == MAIN_TEXT else 1 + self._texts.index(text)
        self._counts += [self._left_out] * (index + 1 - len(self._counts))
        count = self._counts[index]
        self._counts[index] += 1
        if index < len(self._had) and count < self._had[index]:
            return None
        return f"{self._tag}.{'-'.join(map(str, [self._counts[0] - 1, *self._counts[1:]]))}"

    def leave_out(self, count: int) -> bool:
        """Leave out so many numbers of each text, unless the client has one of them; return if it has."""
        self._counts += [self._left_out] * (len(self._had) - len(self._counts))
        if any(start < had < start + count for start, had in zip(self._counts, self._had, strict=False)):
            return True
        self._counts = [number + count for number in self._counts]
        self._left_out += count
        return False

    @property
    def missing(self) -> int:
        """How many events the client has that have not come up."""
        counts = self._counts + [self._left_out] * (len(self._had) - len(self._counts))
        return max([0, *(had - count for had, count in zip(self._had, counts, strict=False))])


def events_had(run_id: str, last_event_id: str | None) -> Sequence[int]:
    """Return how many events of each text a client has, by its cursor; none if it is not one of this run."""
    tag, _, rest = (last_event_id or "").partition(".")
    parts = rest.split("-")
    are_numbers = all(part.isascii() and part.isdigit() and len(part) <= MOST_DIGITS for part in parts)
    most = MOST_TEXTS + 1  # the main text has its place even if it is empty
    if tag != run_id[:_TAG_SIZE] or not are_numbers or len(parts) > most:
        return ()
    number, *counts = map(int, parts)
    return (number + 1, *counts)
