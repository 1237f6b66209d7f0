"""An application's own logs that are broken, and what others can put into a log: nothing ends the hub."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Entry, Hub, LogEnd, LogRefused, LogSession, LogUnavailable
from trio_sse._shared_log.record import decode_record, encode_record
from trio_sse._wire.event import MAX_DATA_SIZE, ServerSentEvent
from trio_sse._wire.message import Message
from trio_sse.sqlite import SQLiteLog

from ..support.cases import each_case
from ..support.raised import Panic
from ..support.serving import running
from ..support.waiting import SECONDS

METHODS = ["connect", "tail", "read_backward", "read", "append", "leave"]
RAISED = [
    *(ValueError, RecursionError, LogUnavailable, asyncio.CancelledError, GeneratorExit, SystemExit, Panic),
    *(StopAsyncIteration, trio.TooSlowError),
]
JUNK: list[Any] = [
    None,
    7,
    "text",
    (),
    [None],
    [()],
    [("1-1", "1", 1)],
    [("x", "1", 1, b"")],
    [("1-1", "1", 1, b"") * 2],
]


class ListLog:
    """A log in a list, each of whose methods can be broken. It keeps this many entries, or all."""

    publish_timeout = 5.0

    def __init__(self, kept: int | None = None) -> None:
        self.entries: list[Entry] = []
        self.kept = kept
        self.dropped = 0
        self.number = 0
        self.broken: dict[str, Callable[[], Any]] = {}
        self.waits = True
        self.last: dict[str, int] = {}

    def add(self, record: bytes) -> None:
        self.number += 1
        self.entries.append(Entry(f"1-{self.size + 1}", "1", self.number, record))
        if self.kept is not None:
            self.drop(len(self.entries) - self.kept)

    @property
    def size(self) -> int:
        """How many entries there are and were."""
        return self.dropped + len(self.entries)

    def drop(self, count: int) -> None:
        """Drop the oldest entries."""
        if count > 0:
            self.dropped += count
            del self.entries[:count]

    def add_foreign(self, record: bytes = b"", **fields: Any) -> None:
        entry = Entry(f"1-{self.size + 1}", "1", self.number + 1, record)
        self.entries.append(entry._replace(**fields))

    def do(self, method: str) -> Any:
        return self.broken[method]() if method in self.broken else None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        self.do("connect")
        yield ListSession(self)
        self.do("leave")


class ListSession:
    def __init__(self, log: ListLog) -> None:
        self.log = log

    async def tail(self) -> LogEnd:
        if "tail" in self.log.broken:
            return self.log.do("tail")  # type: ignore[no-any-return]  # whatever it is
        return LogEnd("1", self.log.number, f"1-{self.log.size}")

    async def read_backward(self, upto: str, limit: int) -> Sequence[Entry]:
        if "read_backward" in self.log.broken:
            return self.log.do("read_backward")  # type: ignore[no-any-return]  # whatever it is
        return self.log.entries[: max(int(upto[2:]) - self.log.dropped, 0)][::-1][:limit]

    async def read(self, after: str, limit: int) -> Sequence[Entry]:
        if "read" in self.log.broken:
            return self.log.do("read")  # type: ignore[no-any-return]  # whatever it is
        if self.log.waits:
            await trio.sleep(0.01)
        return self.log.entries[max(int(after[2:]) - self.log.dropped, 0) :][:limit]

    async def append(self, publisher: str, records: Sequence[tuple[int, bytes]]) -> None:
        self.log.do("append")
        for number, record in records:
            if number > self.log.last.get(publisher, 0):
                self.log.last[publisher] = number
                self.log.add(record)


def raising(kind: type[BaseException]) -> Callable[[], Any]:
    def function() -> Any:
        raise kind

    return function


async def check_it_works(hub: Hub) -> None:
    async with hub.subscribe("t") as events:
        with trio.fail_after(30):
            await hub.publish("t", "next")
            while (await anext(events)).data != "next":
                pass  # a reset, or what was published before


async def break_and_mend(hub: Hub, log: ListLog, method: str, fault: Callable[[], Any]) -> None:
    """Break a log before the hub runs, and again while it does."""
    log.broken = {method: fault}
    async with running(hub):
        await trio.sleep(5)
        log.broken = {}
        await trio.sleep(5)  # until the next try
        await check_it_works(hub)
        log.broken = {method: fault}
        hub.publish_nowait("t", "meanwhile")
        await trio.sleep(5)
        log.broken = {}
        await trio.sleep(5)  # until the next try
        await check_it_works(hub)


@pytest.mark.integration
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("kind", RAISED)
async def test_what_a_method_raises_ends_its_session_only(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture, method: str, kind: type[BaseException]
) -> None:
    log = ListLog()
    await break_and_mend(Hub(log=log), log, method, raising(kind))
    tries = [record for record in caplog.records if "the shared log" in record.getMessage()]
    assert len(tries) < 12


@pytest.mark.integration
@pytest.mark.parametrize("method", ["tail", "read_backward", "read"])
@pytest.mark.parametrize("junk", JUNK, ids=repr)
async def test_what_a_method_returns_ends_its_session_only(
    autojump_clock: MockClock, method: str, junk: object
) -> None:
    log = ListLog()
    log.add(encode_record(message("first"), "mark"))
    await break_and_mend(Hub(log=log), log, method, lambda: junk)


@pytest.mark.integration
@pytest.mark.parametrize(
    "end",
    [
        ("x", 1, "1-1"),
        ("1", -1, "1-1"),
        ("1", "1", "1-1"),
        ("1", 1, "1"),
        ("1", 1, None),
        (1, 1, "1-1"),
        ("٣", 1, "1-1"),
    ],
)
async def test_an_end_that_is_none_ends_its_session_only(autojump_clock: MockClock, end: Any) -> None:
    log = ListLog()
    await break_and_mend(Hub(log=log), log, "tail", lambda: LogEnd(*end))


@pytest.mark.integration
async def test_a_log_that_never_waits_does_not_block_the_program(autojump_clock: MockClock) -> None:
    log = ListLog()
    log.waits = False
    hub = Hub(log=log)
    async with running(hub):
        await trio.sleep(5)
        await check_it_works(hub)


async def test_a_log_that_returns_the_same_for_ever_does_not_block_the_program(
    autojump_clock: MockClock,
) -> None:
    log = ListLog()
    log.add(encode_record(message("first"), "mark"))
    for method in ("read_backward", "read"):
        await break_and_mend(Hub(log=log), log, method, lambda: log.entries[:1])


async def test_a_refusal_in_a_group_is_a_refusal(autojump_clock: MockClock) -> None:
    def refuse() -> None:
        raise ExceptionGroup("", [LogUnavailable("away"), LogRefused("no")])

    log = ListLog()
    log.broken = {"connect": refuse}
    with pytest.raises(LogRefused, match="no"):
        await Hub(log=log).run()


@each_case("timeout", [None, "5", -1, 0, True])
def test_a_log_without_a_timeout_is_refused_at_once(timeout: Any) -> None:
    log = ListLog()
    log.publish_timeout = timeout
    with pytest.raises((TypeError, ValueError), match="publish_timeout"):
        Hub(log=log)


# Entries of others


def message(data: str) -> Message:
    return Message("t", ServerSentEvent(data), data)


BROKEN: dict[str, bytes] = {
    "empty": b"",
    "no UTF-8": b"\xff\xfe",
    "not JSON": b"[",
    "no list": b"{}",
    "another program's": b'{"event": "x"}',
    "too short": b'["t","x"]',
    "nested": b"[" * 1_000_000,
    "nested and closed": b"[" * 100_000 + b"]" * 100_000,
    "nested in an object": b'{"a":' * 100_000,
    "a number of many digits": b"[" + b"9" * 1_000_000 + b"]",
    "data that is not text": b'["t",{},null,null,null,"m"]',
    "NaN": b'["t","x",null,null,NaN,"m"]',
    "a retry that is infinite": b'["t","x",null,null,1e999,"m"]',
    "a topic of control characters": b'["\\u0000","x",null,null,null,"m"]',
    "a topic that is none": b'[null,"x",null,null,null,"m"]',
    "a type with line breaks": b'["t","x","a\\nb",null,null,"m"]',
    "a type that is long": json.dumps(["t", "x", "e" * 5000, None, None, "m"]).encode(),
    "a key that is long": json.dumps(["t", "x", None, "k" * 5000, None, "m"]).encode(),
    "a lone surrogate": b'["t","\\ud800",null,null,null,"m"]',
    "data that is too large": json.dumps(["t", "x" * (MAX_DATA_SIZE + 1), None, None, None, "m"]).encode(),
    "line breaks that are too many": json.dumps(["t", "\n" * MAX_DATA_SIZE, None, None, None, "m"]).encode(),
    "enormous": b'["t","' + b"x" * 20_000_000,
}
broken = pytest.mark.parametrize("record", BROKEN.values(), ids=BROKEN.keys())


@broken
async def test_a_broken_record_is_skipped(autojump_clock: MockClock, record: bytes) -> None:
    log = ListLog()
    log.add(record)
    hub = Hub(log=log)
    async with running(hub), hub.subscribe("t") as events:
        await hub.publish("t", "one")
        log.add(record)
        await hub.publish("t", "two")
        with trio.fail_after(5):
            assert [(await anext(events)).data for _ in range(2)] == ["one", "two"]
        async with hub.subscribe("t", last_event_id="1-2") as again:
            assert (await anext(again)).data == "two"


@pytest.mark.parametrize(
    "fields",
    [
        {"epoch": ""},
        {"epoch": "x"},
        {"epoch": 1},
        {"epoch": None},
        {"epoch": "9" * 5000},
        {"number": -1},
        {"number": 0},
        {"number": "1"},
        {"number": None},
        {"number": 2**64},
        {"number": True},
        {"record": None},
        {"record": "text"},
        {"record": bytearray(b"x")},
    ],
    ids=repr,
)
async def test_an_entry_that_no_hub_can_have_appended_is_skipped(
    autojump_clock: MockClock, fields: dict[str, Any]
) -> None:
    log = ListLog()
    hub = Hub(log=log)
    async with running(hub), hub.subscribe("t") as events:
        await hub.publish("t", "one")
        log.add_foreign(**fields)
        await trio.sleep(1)
        assert (await anext(events)).data == "one"
        log.add(encode_record(message("two"), "mark"))
        with trio.fail_after(5):
            assert (await anext(events)).data == "two"


async def test_many_entries_of_others_do_not_hold_up_the_start(autojump_clock: MockClock) -> None:
    log = ListLog()
    log.add(encode_record(message("old"), "mark"))
    for _ in range(30_000):
        log.add_foreign(epoch="")
    asked = 0
    read_backward = ListSession.read_backward

    async def counting(self: ListSession, upto: str, limit: int) -> Sequence[Entry]:
        nonlocal asked
        asked += 1
        return await read_backward(self, upto, limit)

    ListSession.read_backward = counting  # type: ignore[method-assign]  # it is put back
    try:
        async with running(Hub(log=log)) as nursery:
            assert asked < 60
            nursery.cancel_scope.cancel()
    finally:
        ListSession.read_backward = read_backward  # type: ignore[method-assign]


def test_the_largest_event_fits_into_a_record() -> None:
    name = "\0" * 4096
    for data in ("\0" * (MAX_DATA_SIZE // 6), '"' * MAX_DATA_SIZE):
        largest = Message("t", ServerSentEvent(data, event=name), data, name)
        record = encode_record(largest, "mark")
        assert len(record) < 2 * MAX_DATA_SIZE + 100_000
        assert decode_record(record).event.data == data


@pytest.mark.integration
@pytest.mark.parametrize("row", [("abc", b""), (-5, b""), (2**62, "text"), (1.5, b""), (b"x", b"")], ids=repr)
async def test_a_foreign_row_of_sqlite_is_skipped(tmp_path: Path, row: tuple[object, object]) -> None:
    hub = Hub(log=SQLiteLog(tmp_path / "log.db"))
    async with running(hub), hub.subscribe("t") as events:
        await hub.publish("t", "one")
        with sqlite3.connect(tmp_path / "log.db") as connection:
            connection.execute("insert into log_entries (milliseconds, record) values (?, ?)", row)
        connection.close()
        await trio.sleep(0.2)
        with trio.fail_after(SECONDS):
            await hub.publish("t", "two")
            got = [await anext(events)]
            while got[-1].data != "two":  # there may be a reset
                got.append(await anext(events))
    assert got[0].data == "one"
