"""Workers of `trio-sse serve --workers`: to run them, and to ask which of them answers."""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from . import http
from .programs import Program, serving
from .waiting import SECONDS, until_blocking

APP = "tests.support.apps.worker_app:server"


@contextmanager
def workers(tmp_path: Path, count: int = 2, *options: str | Path) -> Iterator[tuple[Program, str, Path]]:
    """Run workers on one log; yield the program, its URL, and the status file."""
    status = tmp_path / "status.json"
    log = f"sqlite:{tmp_path / 'log.db'}"
    arguments = ["--workers", f"{count}", "--log", log, "--status-file", status, *options]
    with serving(APP, *arguments) as (program, url):
        until_blocking(lambda: status.exists() and len(status_of(status)["sum"]) > 0)
        until_blocking(lambda: all("opened" in worker for worker in status_of(status)["workers"]))
        yield program, url, status


def status_of(file: Path) -> dict:  # type: ignore[type-arg]
    return json.loads(file.read_text())  # type: ignore[no-any-return]


def pid_of(url: str) -> int:
    """Ask which process answers, on its own connection."""
    return int(http.get(f"{url}/pid").text)


def pids_of(url: str, count: int) -> set[int]:
    found: set[int] = set()
    deadline = time.monotonic() + SECONDS
    while len(found) < count:
        assert time.monotonic() < deadline, f"only {found} answer"
        with contextlib.suppress(httpx.ReadError):  # it waited in the queue of a slot that was withdrawn
            found.add(pid_of(url))
    return found


def is_alive(pid: int) -> bool:
    with contextlib.suppress(ProcessLookupError, FileNotFoundError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False
