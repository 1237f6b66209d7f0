"""Programs that some tests need: where they are missing, the tests skip; in CI, that is an error."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

#: The names that a program may have.
PROGRAMS: Mapping[str, Sequence[str]] = {
    # The first has no windows: a page of it takes a quarter of the CPU.
    "chromium": ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome"),
    "redis-server": ("redis-server",),
    "nginx": ("nginx",),
    "haproxy": ("haproxy",),
    "caddy": ("caddy",),
    "curl": ("curl",),
    "nghttp": ("nghttp",),
    "h2load": ("h2load",),
    "nghttpx": ("nghttpx",),
    "node": ("node", "nodejs"),
    "prometheus": ("prometheus",),
}

#: Modules of programs, as files.
MODULES: Mapping[str, Path] = {"nginx's stream module": Path("/usr/lib/nginx/modules/ngx_stream_module.so")}

_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin"])
_REASON = "needs {}, which is missing"


def _search(program: str) -> str | None:
    if program == "chromium" and (chosen := os.environ.get("TRIO_SSE_CHROMIUM")):
        return chosen
    if program in MODULES:
        return str(MODULES[program]) if MODULES[program].exists() else None
    found = (shutil.which(name, path=_PATH) for name in PROGRAMS[program])
    return next(filter(None, found), None)


def find(program: str) -> str:
    """Return the path of a program, in a test that is marked with what it `needs`."""
    found = _search(program)
    assert found is not None, f"{program} is missing"
    return found


def needs(program: str) -> pytest.MarkDecorator:
    """Mark tests that need a program.

    Raises:
        RuntimeError: it is missing, and this is CI, where no test of ours may be skipped.
    """
    is_missing = _search(program) is None
    if is_missing and os.environ.get("CI"):
        raise RuntimeError(f"{program} is missing, and in CI no test is skipped")
    return pytest.mark.skipif(is_missing, reason=_REASON.format(program))


def is_in_need(item: pytest.Item) -> bool:
    """Return whether a test is marked with a program that it `needs`."""
    return any(str(mark.kwargs.get("reason")).startswith("needs ") for mark in item.iter_markers("skipif"))


def count_skipped(reasons: Sequence[str]) -> dict[str, int]:
    """Return how many of these reasons to skip a test are due to each missing program."""
    needed = (*PROGRAMS, *MODULES)
    counts = {program: sum(_REASON.format(program) in text for text in reasons) for program in needed}
    return {program: count for program, count in counts.items() if count}
