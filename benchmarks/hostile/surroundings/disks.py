"""A disk that is full for some seconds, under the log."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import trio

from benchmarks.hostile.scenario import Settings, Surroundings
from tests.support.redis_server import redis_server

_DISK = "16m"
_PIECE = bytes(4096)

#: When the disk becomes full, and when there is room again, as shares of the attack.
_FULL_FROM, _FULL_UNTIL = 0.2, 0.5


@contextmanager
def _small_disk() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", folder], check=True)
        try:
            yield Path(folder)
        finally:
            subprocess.run(["umount", "--lazy", folder], check=True)


async def _fill_and_free(folder: Path, seconds: float) -> None:
    filler = folder / "filler"
    await trio.sleep(seconds * _FULL_FROM)
    with trio.move_on_after(seconds * (_FULL_UNTIL - _FULL_FROM)):
        while True:  # also what the log frees meanwhile
            _fill(filler)
            await trio.sleep(0.05)
    filler.unlink()


def _fill(filler: Path) -> None:
    descriptor = os.open(filler, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        while True:
            os.write(descriptor, _PIECE)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
    finally:
        os.close(descriptor)


@asynccontextmanager
async def sqlite_on_a_full_disk(settings: Settings) -> AsyncIterator[Surroundings]:
    """Surround the server with an SQLite log whose disk is full for some seconds."""
    with _small_disk() as folder:

        async def disturb() -> None:
            await _fill_and_free(folder, settings.seconds)

        yield Surroundings(options=["--log", str(folder / "log.db")], disturb=disturb)


@asynccontextmanager
async def redis_on_a_full_disk(settings: Settings) -> AsyncIterator[Surroundings]:
    """Surround the server with a Redis whose disk is full for some seconds."""
    # While Redis cannot write, it refuses to be written to. With `always`, it would end.
    with _small_disk() as folder, redis_server(folder, "--appendfsync", "everysec") as server:
        await server.start()

        async def disturb() -> None:
            await _fill_and_free(folder, settings.seconds)

        yield Surroundings(options=["--log", server.url], disturb=disturb)
