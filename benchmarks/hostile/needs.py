"""What some scenarios need of the machine."""

from __future__ import annotations

import glob
import os
import shutil
from pathlib import Path

from benchmarks.hostile.scenario import Need

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])

#: The cgroup that limits memory, of version 1 or 2.
CGROUPS = (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup"))


def find(program: str) -> str | None:
    """Return the path of a program."""
    return shutil.which(program, path=_PATH)


def program(name: str) -> Need:
    """Return a need of a program."""
    return lambda: None if find(name) else f"{name} is not installed"


def root() -> str | None:
    """Need root."""
    return None if os.geteuid() == 0 else "this needs root"


def tun() -> str | None:
    """Need devices whose packets a program may lose."""
    return None if os.path.exists("/dev/net/tun") else "there is no /dev/net/tun"


def libfaketime() -> str | None:
    """Need the library that changes the clock of one process."""
    return None if faketime_library() else "libfaketime is not installed"


def faketime_library() -> str | None:
    """Return the path of that library."""
    found = glob.glob("/usr/lib/*/faketime/libfaketime.so.1") + glob.glob(
        "/usr/lib/faketime/libfaketime.so.1"
    )
    return next(iter(found), None)


def memory_cgroup() -> str | None:
    """Need a cgroup that limits memory."""
    return None if cgroup_folder() else "there is no cgroup for memory that can be written"


def cgroup_folder() -> Path | None:
    """Return the folder in which a cgroup for memory can be created."""
    names = ("memory.limit_in_bytes", "memory.max", "memory.stat")
    for folder in CGROUPS:
        if any((folder / name).exists() for name in names) and os.access(folder, os.W_OK):
            return folder
    return None
