"""The memory that a process may still take: the machine's, and what its control groups leave it.

Page cache counts as available in both, since the kernel gives it up before it refuses anything. A group's
bound holds for all below it, so each from the process's own up to the root is looked at. Where /proc names
groups that can't be seen, in a container, say, the root is what stands for them.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from .procfs import Proc

_MOUNT = "sys/fs/cgroup"


class _Names(NamedTuple):
    """Files of a group's folder, and the member of its memory.stat that is cache and easily given up."""

    limit: str
    used: str
    cache: str


_VERSION_1 = _Names("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Names("memory.max", "memory.current", "inactive_file")


def available_memory(proc: Proc) -> int | None:
    """Give the bytes that this process may still take; `None` if the system doesn't tell."""
    found = [_left(proc, folder, names) for folder, names in _groups(proc)]
    kibibytes = proc.named("proc/meminfo", "MemAvailable:")
    found.append(None if kibibytes is None else kibibytes * 1024)
    return min((each for each in found if each is not None), default=None)


def _groups(proc: Proc) -> Iterator[tuple[str, _Names]]:
    """Give the folders of the groups that may bound this process's memory."""
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


def _left(proc: Proc, folder: str, names: _Names) -> int | None:
    limit, used = proc.number(f"{folder}/{names.limit}"), proc.number(f"{folder}/{names.used}")
    if limit is None or used is None:  # it is unbounded
        return None
    cache = proc.named(f"{folder}/memory.stat", names.cache) or 0
    return max(0, limit - used + cache)
