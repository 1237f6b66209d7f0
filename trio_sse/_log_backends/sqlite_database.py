"""The database of `trio_sse.sqlite`: its tables, its transactions, and what its errors mean to a hub."""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Iterator
from contextlib import contextmanager

from .._shared_log.protocol import EventRefused, LogRefused, LogUnavailable
from .sqlite_columns import missing_columns
from .sqlite_run_tables import RUN_SCHEMA

_SCHEMA = """
create table if not exists log_state (epoch integer not null);
create table if not exists log_start (number integer not null, inode integer not null);
create table if not exists log_entries (
  number integer primary key autoincrement, milliseconds integer not null, record blob not null
);
create index if not exists log_ids on log_entries (milliseconds, number);
create table if not exists log_keys (
  number integer primary key autoincrement, digest blob not null unique, time real not null
);
create table if not exists log_leases (name text primary key, holder text not null, until real not null);
create table if not exists log_notices (name text primary key, notice blob not null, until real not null);
create table if not exists log_publishers (name text primary key, last integer not null, time real not null);
"""

_ALL_TABLES = _SCHEMA + RUN_SCHEMA

# Errors that waiting does not resolve: a missing folder, or one that is not writable. Extended codes, whose
# last byte is one of these, are not among them: an error of a full disk's journal may pass.
_FINAL = (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)

# SQLite's columns take any type: a row that another program has put there may have no time.
HAS_TIME = "typeof(milliseconds) = 'integer' and milliseconds >= 0"

_LONGEST_TIMEOUT = 86_400.0  # SQLite counts milliseconds in 32 bits, and takes more as none


def open_database(path: str, timeout: float) -> sqlite3.Connection:
    """Open the file, and create what it lacks.

    Raises:
        LogUnavailable, LogRefused: it cannot be opened.
    """
    with translated(path):
        connection = sqlite3.connect(
            path,
            timeout=min(timeout, _LONGEST_TIMEOUT),
            isolation_level=None,
            check_same_thread=False,
        )
        try:
            connection.execute("pragma journal_mode = wal")
            connection.execute("pragma synchronous = full")
            connection.execute("pragma foreign_keys = on")
            _add_missing_columns(connection, path)
            connection.executescript(_ALL_TABLES)
            with transaction(connection):
                if connection.execute("select 1 from log_state").fetchone() is None:
                    connection.execute("insert into log_state values (?)", (round(time.time() * 1000),))
                inode = os.stat(path).st_ino
                start = connection.execute("select inode from log_start").fetchone()
                if start is None:
                    connection.execute("insert into log_start values (0, ?)", (inode,))
                elif start[0] != inode:  # a copy: the original may have had more
                    begin_epoch(connection)
                    connection.execute("update log_start set inode = ?", (inode,))
        except BaseException:
            connection.close()
            raise
    return connection


def _add_missing_columns(connection: sqlite3.Connection, path: str) -> None:
    """Let a file of an older version have the columns that it lacks; raises `LogRefused` if it cannot."""
    if missing_columns(connection, _ALL_TABLES, path):
        with transaction(connection):
            for statement in missing_columns(connection, _ALL_TABLES, path):  # unless another process has
                connection.execute(statement)


def entry_id(number: int, milliseconds: int) -> str:
    """Return an entry's id; it starts with the time, so a restored backup assigns no id again."""
    return f"{milliseconds}-{number}"


def begin_epoch(connection: sqlite3.Connection) -> None:
    """Begin a new epoch; the entries of the old one are no longer read."""
    connection.execute(
        "update log_state set epoch = max(?, epoch + 1,"
        f" (select coalesce(max(milliseconds), 0) + 1 from log_entries where {HAS_TIME}))",
        (round(time.time() * 1000),),
    )
    connection.execute(
        "update log_start set number = coalesce("
        "(select seq from sqlite_sequence where name = 'log_entries'), 0)"
    )


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "immediate") -> Iterator[None]:
    """Commit what is done in the context, or roll it back if that raises an exception."""
    connection.execute(f"begin {kind}")
    try:
        yield
    except BaseException:
        connection.execute("rollback")
        raise
    connection.execute("commit")


@contextmanager
def refused_if_invalid(path: str) -> Iterator[None]:
    """Raise `EventRefused` if a row can never be stored: it is too large, for example."""
    try:
        yield
    except (sqlite3.DataError, sqlite3.IntegrityError) as error:
        raise EventRefused(f"SQLite, {path}: {error}") from error


@contextmanager
def translated(path: str) -> Iterator[None]:
    """Translate the errors of SQLite, and of the file at `path`, into `LogUnavailable` or `LogRefused`."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        code = getattr(error, "sqlite_errorcode", None)  # missing where Python itself raises it
        is_passing = isinstance(error, sqlite3.OperationalError) and code not in _FINAL
        kind = LogUnavailable if is_passing else LogRefused
        raise kind(f"SQLite, {path}: {error}") from error
    except OSError as error:  # of the file itself
        raise LogUnavailable(f"SQLite, {path}: {error.strerror}") from error
