"""The files of an SQLite database, watched for what SQLite does not notice.

SQLite keeps working on files that were moved, deleted, replaced or truncated: what it stores there is lost,
or is seen by its own connection only. So a session compares the files with those that it opened, before and
after everything it does. What it stored is acknowledged only if they are still the same.
"""

from __future__ import annotations

import os
from typing import final

from .._shared_log.protocol import LogUnavailable

_COMPANIONS = ("-wal", "-shm")


@final
class DatabaseFiles:
    """The files of an open database in the mode WAL, as they were when it was opened."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._database = os.stat(path)
        self._sizes = dict.fromkeys(("", *_COMPANIONS), 0)
        self._companions = {suffix: os.stat(path + suffix) for suffix in _COMPANIONS}

    @property
    def inode(self) -> int:
        """The number of the database's file."""
        return self._database.st_ino

    def check(self) -> None:
        """Raise `LogUnavailable` if a file was replaced or has become shorter, `OSError` if it is gone."""
        self._check("", self._database)
        for suffix, opened in self._companions.items():
            self._check(suffix, opened)

    def _check(self, suffix: str, opened: os.stat_result) -> None:
        found = os.stat(self._path + suffix)
        if not os.path.samestat(found, opened):
            raise LogUnavailable(f"SQLite, {self._path}: the file was replaced")
        if found.st_size < self._sizes[suffix]:
            raise LogUnavailable(f"SQLite, {self._path}: the file was truncated")
        self._sizes[suffix] = found.st_size
