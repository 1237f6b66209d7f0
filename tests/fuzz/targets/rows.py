"""Rows of SQLite that any program has stored: the log is read past them, and its own entries are found."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Iterator
from functools import cache
from typing import Any

from trio_sse import LogRefused, LogUnavailable
from trio_sse._log_backends.sqlite_database import open_database
from trio_sse._shared_log.checks import check_after, check_end, check_upto
from trio_sse._shared_log.protocol import KeyedRecord
from trio_sse.sqlite import SQLiteLog, _Session

from ..source import Source

_OWN = b'["t","own",null,null,null,"m"]'


def seeds() -> Iterator[bytes]:
    yield b"\1\0\7record\1\2"
    yield bytes(range(40))
    yield b"\3\2\3\1\0\0\xff\xff\xff\xff\xff\xff\xff\x7f\4\3abc\5"


@cache
def _session() -> Any:
    """Return a session of a new log, whose file is in memory where there is such a folder."""
    folder = tempfile.TemporaryDirectory(dir="/dev/shm" if os.path.isdir("/dev/shm") else None)
    path = os.path.join(folder.name, "log")
    session: Any = _Session(SQLiteLog(path), open_database(path, 1.0))
    session.folder = folder
    session._connection.execute("pragma synchronous = off")
    return session


def check(data: bytes) -> None:
    session, source = _session(), Source(data)
    execute = session._connection.execute
    for table in ("log_entries", "log_publishers", "log_keys"):
        execute(f"delete from {table}")
    expected = 0
    for number in range(1 + source.number(6)):
        if source.number(2):
            session._append("p", [KeyedRecord(expected + 1, _OWN, None)])
            expected += 1
            continue
        row = _value(source), _value(source)
        try:
            execute("insert into log_entries (milliseconds, record) values (?, ?)", row)
        except (sqlite3.IntegrityError, sqlite3.DataError, OverflowError):
            continue
        assert number < 7
    _check(session, expected)


def _value(source: Source) -> object:
    """Return a value of any type that a column takes."""
    kind = source.number(6)
    if kind == 0:
        return source.piece()
    if kind == 1:
        return source.piece().decode("latin-1")
    if kind == 2:
        return int.from_bytes(source.take(8), signed=True)
    if kind == 3:
        return source.number(256) / 7
    return None if kind == 4 else source.number(256)


def _check(session: Any, expected: int) -> None:
    try:
        end = check_end(session._tail())
    except (LogUnavailable, LogRefused):
        raise AssertionError("the log cannot be read any more") from None
    condition = "(milliseconds, number) > (?, ?) order by milliseconds, number"
    entries = check_after(session._select(condition, "0-0", 100), "0-0")
    assert sum(entry.record == _OWN for entry in entries) >= expected
    assert len({entry.id for entry in entries}) == len(entries)
    if entries:
        order = "(milliseconds, number) <= (?, ?) order by milliseconds desc, number desc"
        backward = check_upto(session._select(order, end.last, 100), end.last)
        assert set(backward) <= set(entries)
