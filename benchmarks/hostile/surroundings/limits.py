"""Limits of descriptors and memory."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import trio

from benchmarks.hostile.needs import cgroup_folder
from benchmarks.hostile.scenario import Settings, Surround, Surroundings

_REMOVED_WITHIN = 10.0


def descriptors(count: int) -> Surround:
    """Return surroundings in which the server may have so many descriptors, and those of clients."""

    @asynccontextmanager
    async def surround(settings: Settings) -> AsyncIterator[Surroundings]:
        # Healthy clients and newcomers, and what the server has anyway.
        limit = settings.healthy + count
        yield Surroundings(prefix=["prlimit", f"--nofile={limit}:{limit}"])

    return surround


def memory(mib: int) -> Surround:
    """Return surroundings in which the server may have so much memory, and is killed if it takes more."""
    return partial(_limit_memory, mib)


@asynccontextmanager
async def _limit_memory(mib: int, settings: Settings) -> AsyncIterator[Surroundings]:
    parent = cgroup_folder()
    assert parent is not None
    group = parent / f"hostile-{os.getpid()}"
    group.mkdir()
    try:
        limit = group / "memory.limit_in_bytes"
        (limit if limit.exists() else group / "memory.max").write_text(f"{mib * 1024 * 1024}")
        script = f'echo $$ > {group / "cgroup.procs"} && exec "$@"'
        yield Surroundings(prefix=["sh", "-c", script, "sh"])
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + _REMOVED_WITHIN):
            while not _removed(group):  # noqa: ASYNC110  # the kernel does not say when
                await trio.sleep(0.1)


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except OSError:
        return False
    return True
