"""Files that another version of the library has written: columns that they lack are added.

What cannot be added, since the rows that are there need a value, is refused with the reason.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import NamedTuple

from .._shared_log.protocol import LogRefused


class _Column(NamedTuple):
    """A column, as `pragma table_info` describes it."""

    number: int
    name: str
    type: str
    must_have_value: int
    default: str | None
    key: int

    @property
    def is_optional(self) -> bool:
        """Whether rows can be without a value of their own."""
        return not self.key and (not self.must_have_value or self.default is not None)

    @property
    def definition(self) -> str:
        """What adds it to a table."""
        value = "" if self.default is None else f" default {self.default}"
        return f"{self.name} {self.type}{' not null' * self.must_have_value}{value}"


def missing_columns(connection: sqlite3.Connection, schema: str, path: str) -> list[str]:
    """Return the statements that add what tables of an older version lack; there are none for a new file.

    Raises:
        LogRefused: the file is of a version whose tables cannot be used.
    """
    statements: list[str] = []
    with closing(sqlite3.connect(":memory:")) as fresh:
        fresh.executescript(schema)
        names = fresh.execute(
            "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'"
        )
        for (table,) in names.fetchall():
            expected, found = _columns(fresh, table), _columns(connection, table)
            if not found:
                continue  # it will be created
            missing = [column for name, column in expected.items() if name not in found]
            unknown = [column for name, column in found.items() if name not in expected]
            if not all(column.is_optional for column in (*missing, *unknown)):
                raise LogRefused(
                    f"SQLite, {path}: another version has written it, whose table {table!r} is not"
                    " like that of this one: use another file"
                )
            statements += [f"alter table {table} add column {column.definition}" for column in missing]
    return statements


def _columns(connection: sqlite3.Connection, table: str) -> dict[str, _Column]:
    rows = connection.execute(f"pragma table_info({table})").fetchall()
    return {column.name: column for column in map(_Column._make, rows)}
