"""The tables of runs in an SQLite file, and the steps that several transactions have in common."""

from __future__ import annotations

import sqlite3
import time

from .._process.suspension import seconds_suspended

#: A run that has not ended has no `ending`. Its `holder` is empty while it waits to be resumed. `until` is
#: when it is removed, by the wall clock; `watched_until` and leases count by a clock that nobody sets.
RUN_SCHEMA = """
create table if not exists runs (
  id text primary key, owner text, key text, digest blob unique, created_at real not null,
  until real not null, ttl real not null, holder text not null, attempt integer not null default 1,
  number integer not null default 0, size integer not null default 0,
  state_version integer not null default 0, state text, checkpoint text,
  ending text, cancel text, watched_until real not null default 0, function text, arguments text,
  attempts integer not null, starts text not null default '', cancel_end text
);
create index if not exists runs_by_holder on runs (holder) where ending is null;
create index if not exists runs_by_owner on runs (owner, until);
create index if not exists runs_by_time on runs (until);
create table if not exists run_texts (
  run text not null references runs on delete cascade, number integer not null, name text not null,
  length integer not null, primary key (run, number)
) without rowid;
create table if not exists run_pieces (
  run text not null references runs on delete cascade, text integer not null, begin integer not null,
  piece blob not null, primary key (run, text, begin)
) without rowid;
create table if not exists run_events (
  run text not null references runs on delete cascade, number integer not null, record blob not null,
  primary key (run, number)
) without rowid;
create table if not exists run_leases (holder text primary key, until real not null, seconds real not null);
"""


def clock() -> float:
    """Return the time of a clock that all processes of this machine share, and that nobody sets."""
    return time.monotonic() + seconds_suspended()


def renew(connection: sqlite3.Connection, holder: str, seconds: float) -> None:
    """Hold a lease for so many seconds from now on; with none, end it."""
    if seconds > 0:
        row = (holder, clock() + seconds, seconds)
        connection.execute("insert or replace into run_leases values (?, ?, ?)", row)
    else:
        connection.execute("delete from run_leases where holder = ?", (holder,))


def holders_without_lease(connection: sqlite3.Connection, holder: str) -> list[str]:
    """Return the holders of runs, other than this one, whose leases have passed."""
    # A lease that ends later than any that begins now is from before the machine was started.
    rows = connection.execute(
        "select distinct holder from runs where ending is null and holder != ? and holder not in"
        " (select holder from run_leases where until > ? and until <= ? + seconds)",
        (holder, clock(), clock()),
    )
    return [other for (other,) in rows.fetchall()]


def finish(connection: sqlite3.Connection, id: str, end: str) -> None:
    """End a run; it is kept for its `ttl` from now on."""
    connection.execute(
        "update runs set ending = ?, until = ? + ttl, checkpoint = null, arguments = null where id = ?",
        (end, time.time(), id),
    )


def has_old(connection: sqlite3.Connection, now: float) -> bool:
    """Whether `drop_old` has something to remove."""
    return connection.execute("select 1 from runs where until <= ? limit 1", (now,)).fetchone() is not None


def drop_old(connection: sqlite3.Connection, now: float) -> None:
    """Remove runs that are no longer kept, and leases that have passed long ago."""
    connection.execute("delete from runs where until <= ?", (now,))
    connection.execute("delete from run_leases where until + 2 * seconds < ?", (clock(),))
