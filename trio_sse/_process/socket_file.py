"""The file that is the name of a Unix socket."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from typing import final


@final
@dataclass(frozen=True, slots=True)
class SocketFile:
    """The name of a Unix socket that this program has bound."""

    path: str
    device: int
    inode: int

    @classmethod
    def of(cls, path: str) -> SocketFile:
        """Return the file of a socket that has just been bound; raises `OSError` if there is none."""
        found = os.lstat(path)
        return cls(path, found.st_dev, found.st_ino)

    def is_there(self) -> bool:
        """Return whether the name is still this socket's."""
        try:
            return SocketFile.of(self.path) == self
        except OSError:
            return False

    def remove(self) -> None:
        """Remove it, unless it is another socket's by now. Clients that have connected stay in the queue."""
        if self.is_there():
            with contextlib.suppress(OSError):
                os.unlink(self.path)
