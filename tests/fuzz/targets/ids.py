"""Ids that clients send back: each is read as it was written, and any other text is no id, or harmless."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from trio_sse import ServerSentEvent
from trio_sse._http.offset import seconds_of
from trio_sse._http.request import Headers, find_last_event_id
from trio_sse._log.memory import Gap, MemoryLog
from trio_sse._runs.position import format_position, is_beyond, parse_position
from trio_sse._shared_log.entry_id import id_before, is_id, parse_id
from trio_sse._shared_log.protocol import Entry
from trio_sse._shared_log.window import Window
from trio_sse._wire.composite_id import compose, parse_composite
from trio_sse._wire.cursor import Cursor
from trio_sse._wire.message import Message

from ...corpus import case
from ..source import Source

_RUN = "b3JZ5cQwAbCdEfGh"
# As hubs make ids: of one epoch, or of a shared log.
_OF_HUB = re.compile(r"abc\.[0-9]+|[0-9]+-[0-9]+")
_PARAMETERS = ("last_event_id", "lastEventId", "Last-Event-ID", "evs_last_event_id", "x")


def seeds() -> Iterator[bytes]:
    for one in case.read("cursors")[1]:
        yield one.raw
    for text in (
        *(
            "b3JZ5cQw.2-1-840-12",
            "b3JZ5cQw.0-0-end",
            "b3JZ5cQw.1-0-7~0a9z",
            "00000000.3",
            "1-2",
            "0-0",
            "18446744073709551616-0",
        ),
        *("abc.12~0123abcd.7~89abcdef.4", "1-7~0123abcd.1-5", "1.5e3", "07", "1e999"),
    ):
        yield text.encode()
    yield b"\1\x08abc.0012\0\x06abc.13\2\x03x-1"


def check(data: bytes) -> None:
    text = data.decode("utf-8", "surrogateescape")
    _check_position(text)
    _check_composite(text)
    _check_entry_id(text)
    _check_logs(text)
    assert not seconds_of(text) < 0
    _check_last_event_id(Source(data))


def _check_position(text: str) -> None:
    position = parse_position(_RUN, text)
    if position is None:
        return
    written = format_position(_RUN, position)
    assert len(written) <= len(text) and parse_position(_RUN, written) == position
    assert parse_position("another run", written) is None
    assert not is_beyond(position, *position[:3])
    assert is_beyond(position, position.events - 1, position.state, position.lengths)


def _check_composite(text: str) -> None:
    parsed = parse_composite(text)
    if parsed is None:
        return
    assert text.startswith(parsed.base) and 0 < len(parsed.own) <= text.count("~")
    cursors = [(tag, Cursor(place, id)) for place, (tag, id) in enumerate(parsed.own.items())]
    written = compose(cursors)
    again = parse_composite(written)
    if again is not None and all(map(_OF_HUB.fullmatch, parsed.own.values())):
        assert again.base == cursors[0][1].id
        assert again.own == parsed.own, (again, parsed)
    pinned = compose([("ffffffff", Cursor(0, "zz.1"))], parsed)
    assert pinned.startswith(parsed.base)


def _check_entry_id(text: str) -> None:
    parsed = parse_id(text)
    assert is_id(text) == (parsed is not None)
    if parsed is None or parsed == (0, 0):
        return
    assert "{}-{}".format(*parsed) == text
    before = parse_id(id_before(text))
    assert before is not None and before < parsed
    assert before in ((parsed[0], parsed[1] - 1), (parsed[0] - 1, 2**64 - 1))


def _logs() -> tuple[MemoryLog, Window]:
    log = MemoryLog(max_events=3, max_bytes=10_000)
    log.epoch = "00000000"
    window = Window(max_events=3, max_bytes=10_000)
    window.restart("1", 2, "1-2")
    for number in range(1, 6):
        event = ServerSentEvent(str(number))
        message = Message("t", event, str(number))
        message.place(number, log.id_at(number))
        log.append(message)
        window.put(
            Entry(f"{1 + number // 3}-{number}", "1", number + 2, b""), Message("t", event, str(number))
        )
    return log, window


_LOG, _WINDOW = _logs()


def _check_logs(text: str) -> None:
    found = _LOG.position_of(text, ["t"])
    if not isinstance(found, Gap):
        assert re.fullmatch(rf"00000000\.0*{found}", text) and 0 <= found <= 5
        _LOG.read(found, ["t"])
    found = _WINDOW.position_of(text, ["t"])
    if not isinstance(found, Gap):
        assert is_id(text) and 0 <= found <= 7
        assert not _WINDOW.is_ahead(text)
        _WINDOW.read(found, ["t"])
    elif _WINDOW.is_ahead(text):
        assert is_id(text)


def _check_last_event_id(source: Source) -> None:
    ids: list[tuple[str, str]] = []
    while source and len(ids) < 6:
        ids.append((source.choice(_PARAMETERS), re.sub(r"[^0-9A-Za-z_.~-]", "", source.text())))
    header = source.take(0).decode()
    query = "&".join(f"{name}={value}" for name, value in ids)
    found = find_last_event_id(
        Headers([(b"last-event-id", header.encode())]) if header else Headers([]), query
    )
    given = [value for name, value in ids if name != "x" and value]
    assert found in given if given else found is None
    numbers = [re.fullmatch(r"e\.([0-9]{1,20})", value) for value in given]
    if found is not None and given and all(numbers):
        assert int(found[2:]) == max(int(match[1]) for match in numbers if match)
    assert math.isnan(seconds_of("-1"))
