"""The memory that a process may still allocate: what the machine has left, and what its control groups allow.

Page cache counts as available in both, because the kernel drops it before it refuses an allocation. A group's
limit applies to all groups below it, so each group is read, from the process's own up to the root. In a
container, /proc may name groups that are not visible; then the root stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from .procfs import Proc

_MOUNT = "sys/fs/cgroup"


class _Names(NamedTuple):
    """The files in a group's folder, and the line of memory.stat with the cache that is easily dropped."""

    limit: str
    used: str
    cache: str


_VERSION_1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Names("memory.max", "memory.current", "inactive_file")


def available_memory(proc: Proc) -> int | None:
    """Return the bytes that this process may still allocate, or `None` if that is unknown."""
    found = [_available_in(proc, folder, names) for folder, names in _groups(proc)]
    kibibytes = proc.named("proc/meminfo", "MemAvailable:")
    found.append(None if kibibytes is None else kibibytes * 1024)
    return min((each for each in found if each is not None), default=None)


def _groups(proc: Proc) -> Iterator[tuple[str, _Names]]:
    """Yield the folders of the groups that may limit this process's memory."""
    for line in (proc.text("proc/self/cgroup") or "").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount, names = _MOUNT, _VERSION_2
        elif "memory" in controllers.split(","):
            mount, names = f"{_MOUNT}/memory", _VERSION_1
        else:
            continue
        group = PurePosixPath(path)
        for each in (group, *group.parents):
            yield f"{mount}{each}", names


def _available_in(proc: Proc, folder: str, names: _Names) -> int | None:
    limit, used = proc.number(f"{folder}/{names.limit}"), proc.number(f"{folder}/{names.used}")
    if limit is None or used is None:  # it has no limit
        return None
    cache = proc.named(f"{folder}/memory.stat", names.cache) or 0
    return max(0, limit - used + cache)
