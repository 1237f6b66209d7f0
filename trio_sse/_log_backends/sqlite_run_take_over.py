"""Taking over the runs of holders without a lease, in an SQLite file."""

from __future__ import annotations

import json
import secrets
import sqlite3
import time
from collections.abc import Collection
from typing import Any, final

from .._shared_log.run_session import AttemptStart, ClaimedRun, encode_starts
from .sqlite_run_tables import finish

_FIELDS = "id, function, arguments, attempt, number, checkpoint, until, cancel, attempts, cancel_end"


@final
class SQLiteTakeOver:
    """One call of `RunSession.take_over_runs`, whose arguments these are, in a transaction.

    Attributes:
        lost, claimed, cancelled: what has become of the runs so far.
    """

    def __init__(
        self, connection: sqlite3.Connection, holder: str, functions: Collection[str], end: str, limit: int
    ) -> None:
        self.lost: list[str] = []
        self.claimed: list[ClaimedRun] = []
        self.cancelled: list[str] = []
        self._execute = connection.execute
        self._connection = connection
        self._holder = holder
        self._functions = functions
        self._end = end
        self._limit = limit
        self._epoch = secrets.token_hex(4)

    def take(self, other: str) -> None:
        """Take over runs of another holder."""
        limit = self._limit - len(self.lost) - len(self.claimed) - len(self.cancelled)
        rows = self._execute(
            f"select {_FIELDS} from runs where holder = ? and ending is null"
            " and (function is null or attempt >= attempts or holder != ''"
            " or function in (select value from json_each(?))) limit ?",
            (other, json.dumps(list(self._functions)), limit),
        ).fetchall()
        for id, function, arguments, attempt, number, checkpoint, until, cancel, attempts, cancel_end in rows:
            if function is None or attempt >= attempts:
                finish(self._connection, id, cancel_end or self._end)
                (self.cancelled if cancel_end else self.lost).append(id)
            elif function in self._functions:
                self._claim(id, attempt + 1)
                left = until - time.time()
                self.claimed.append(
                    ClaimedRun(id, function, arguments, attempt + 1, number, checkpoint, left, cancel)
                )
            else:
                self._execute("update runs set holder = '' where id = ?", (id,))

    def _claim(self, id: str, attempt: int) -> None:
        def rows(query: str) -> list[Any]:
            return self._execute(query, (id,)).fetchall()

        ((version, starts),) = rows("select state_version, starts from runs where id = ?")
        ((events,),) = rows("select count(*) from run_events where run = ?")
        lengths = tuple(
            length for (length,) in rows("select length from run_texts where run = ? order by number")
        )
        starts += encode_starts([AttemptStart(self._epoch, events, version, lengths)])
        self._execute(
            "update runs set holder = ?, attempt = ?, starts = ? where id = ?",
            (self._holder, attempt, starts, id),
        )
