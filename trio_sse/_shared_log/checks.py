"""What a log returns, checked before it touches the hub: the log may be an application's own, or broken.

The invariant: after these checks an entry can be put into the window without an error. An entry that no hub
can have appended becomes a foreign one, which is skipped. If reading could not go on, since an id is
malformed or does not advance, the session fails instead.
"""

from __future__ import annotations

from collections.abc import Sequence

from .entry_id import is_id, parse_id
from .protocol import Entry, LogEnd

_MOST_DIGITS = 20


def check_end(end: LogEnd) -> LogEnd:
    """Return where a log ends, if that is possible.

    Raises:
        TypeError, ValueError: it is not.
    """
    epoch, number, last = end
    if not _is_epoch(epoch) or not _is_number(number) or parse_id(last) is None:
        raise ValueError("the log's end is not an epoch, a number and an id")
    return LogEnd(epoch, number, last)


def check_after(entries: Sequence[Entry], after: str) -> list[Entry]:
    """Return entries that were read after an id; raise what `check_end` raises."""
    checked = [_checked(entry) for entry in entries]
    if checked and _order_of(checked[-1].id) <= (parse_id(after) or (0, 0)):
        raise ValueError("the log has returned entries before those that were read")
    return checked


def check_upto(entries: Sequence[Entry], upto: str) -> list[Entry]:
    """Return entries that were read backward from an id; raise what `check_end` raises."""
    checked = [_checked(entry) for entry in entries]
    if checked and not (0, 0) < _order_of(checked[-1].id) <= _order_of(checked[0].id) <= _order_of(upto):
        raise ValueError("the log has returned entries after those that were asked for")
    return checked


def _checked(entry: Entry) -> Entry:
    id, epoch, number, record = entry
    if not is_id(id):  # not `parse_id`: this is for every entry that is read
        raise ValueError("the log has returned an entry whose id is malformed")
    if type(record) is bytes and _is_epoch(epoch) and _is_number(number) and number > 0:
        return entry
    return Entry(id, "", 0, b"")


def _is_epoch(epoch: object) -> bool:
    return type(epoch) is str and epoch.isascii() and epoch.isdigit() and len(epoch) <= _MOST_DIGITS


def _is_number(number: object) -> bool:
    return type(number) is int and 0 <= number < 2**64


def _order_of(id: str) -> tuple[int, int]:
    return parse_id(id) or (0, 0)
