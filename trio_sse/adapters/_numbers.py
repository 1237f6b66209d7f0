"""The numbers of a run's events in a protocol, by which clients resume.

What a run emits and its main text have one order, in which their events are numbered. A further text that
grows at the same time has an order of its own: which of two texts a viewer reads first depends on when it
reads. So an id counts the events of each: `TAG.12` is number 12, and `TAG.12-4` is the same with the first
four events of a second text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

from .._runs.content import MOST_TEXTS
from .._runs.protocol import MAIN_TEXT

_TAG_SIZE = 8
_MOST_DIGITS = 15


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
        self._counts = [0]

    def next(self, text: str) -> str | None:
        """Return the id of a text's next event; `None` if the client has that event."""
        index = 0 if text == MAIN_TEXT else 1 + self._texts.index(text)
        self._counts += [0] * (index + 1 - len(self._counts))
        count = self._counts[index]
        self._counts[index] += 1
        if index < len(self._had) and count < self._had[index]:
            return None
        return f"{self._tag}.{'-'.join(map(str, [self._counts[0] - 1, *self._counts[1:]]))}"


def events_had(run_id: str, last_event_id: str | None) -> Sequence[int]:
    """Return how many events of each text a client has, by its cursor; none if it is not one of this run."""
    tag, _, rest = (last_event_id or "").partition(".")
    parts = rest.split("-")
    are_numbers = all(part.isascii() and part.isdigit() and len(part) <= _MOST_DIGITS for part in parts)
    most = MOST_TEXTS + 1  # the main text has its place even if it is empty
    if tag != run_id[:_TAG_SIZE] or not are_numbers or len(parts) > most:
        return ()
    number, *counts = map(int, parts)
    return (number + 1, *counts)
