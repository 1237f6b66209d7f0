"""What a store of runs returns, checked before it touches a run: other programs may have written there.

The invariant: after these checks, a run can be shown from any position. A text that is not UTF-8, or an event
that comes after more of a text than there is, would fail or never end where a viewer reads it. A line's end
in the wrong place would let the program that has stored it write other fields of the viewers' streams.
"""

from __future__ import annotations

import json
import math

from .._logger import get_logger
from .._shared_log.run_session import AttemptStart, StoredRun
from .content import MOST_TEXTS, Emitted
from .position import EPOCH
from .protocol import RESERVED, event_text
from .status import RunEnd, RunStatus

logger = get_logger("trio_sse.runs")


def log_unreadable(id: str, error: ValueError) -> None:
    """Log that what a store has of a run is none of a node's."""
    logger.error("the run %s in the store cannot be read: %s", id[:8], error)


def check_description(stored: StoredRun) -> None:
    """Check what a store says of a run, beside its content.

    Raises:
        ValueError: no node can have stored it.
    """
    texts = (stored.owner, stored.key, stored.end)
    numbers = (stored.attempt, stored.number, stored.size, stored.event_count, stored.state_version)
    if not (
        all(text is None or type(text) is str for text in texts)
        and all(type(number) is int and number >= 0 for number in (*numbers, *stored.lengths))
        and all(map(_is_start, stored.starts))
        and _is_time(stored.created_at)
    ):
        raise ValueError("a field of the run is of the wrong type")


def check_texts(stored: StoredRun) -> None:
    """Check what was read of the texts; raises `ValueError` if no node can have stored it."""
    for name, piece in zip(stored.names, stored.pieces, strict=True):
        if type(name) is not str or type(piece) is not bytes:
            raise ValueError("a text of the run is of the wrong type")
        piece.decode("utf-8", "surrogatepass")
    if len(stored.names) > MOST_TEXTS:
        raise ValueError(f"a run has at most {MOST_TEXTS} texts")


def decode_event(record: bytes) -> Emitted:
    """Return an event that was stored; raises `ValueError` if no node can have stored it."""
    match _parse(record):
        case [None | str() as event, str(data), list(lengths)] if event not in RESERVED and all(
            type(length) is int and length >= 0 for length in lengths
        ):
            _check_sent(data, event)
            return Emitted(event, data, tuple(lengths))
    raise ValueError("an event of the run is malformed")


def check_state(state: str) -> str:
    """Return a state that was stored, if it is JSON; raises `ValueError`."""
    _parse(state)
    _check_sent(state, None)
    return state


def decode_end(text: str) -> RunEnd:
    """Return the end that was stored; raises `ValueError` if no node can have stored it."""
    match _parse(text):
        case [str(status), None | str() as reason, None | str() as result, int() | float() as at] if _is_time(
            at
        ):
            if result is not None:
                _parse(result)
                if "\r" in result:
                    raise ValueError("the result of the run has a carriage return")
            end = RunEnd(RunStatus(status), reason, result, at)
            if end.status.is_end:
                return end
    raise ValueError("the end of the run is malformed")


def _parse(text: str | bytes) -> object:
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("what is stored of the run is nested too deeply") from None


def _is_start(start: AttemptStart) -> bool:
    counts = (start.events, start.state, *start.lengths)
    return EPOCH.fullmatch(start.epoch) is not None and all(count >= 0 for count in counts)


def _is_time(value: object) -> bool:
    return type(value) in (int, float) and 0 <= value < math.inf  # type: ignore[operator]


def _check_sent(data: str, event: str | None) -> None:
    """Refuse what would be sent as something else, or not at all."""
    try:
        text = event_text(data, event)
    except TypeError as error:
        raise ValueError(str(error)) from None
    if text != data:
        raise ValueError("the data of a run's event has a carriage return")
