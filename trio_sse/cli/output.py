"""The standard streams, whose readers may leave at any time."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO


@contextmanager
def reader_may_leave(stream: IO[str]) -> Iterator[None]:
    """Print to a standard stream, and flush it; once its reader has left, discard all output instead."""
    try:
        yield
        stream.flush()
    except ConnectionError:
        discard(stream)


def discard(stream: IO[str]) -> None:
    """Discard what a standard stream has buffered, and all that is printed to it from now on."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
    stream.flush()
