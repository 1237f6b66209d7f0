"""Requests as fast as a server answers them, by wrk. It runs where this process does: on the load's core."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

import trio

from benchmarks.harness.paths import NATIVE
from benchmarks.harness.worker import BenchmarkError

#: How many connections send requests, each the next one when it has its answer.
CONNECTIONS = 50

_SCRIPT = NATIVE / "post.lua"


@dataclass(frozen=True, slots=True)
class Answered:
    """What the server has answered: how many requests, and in how many seconds."""

    requests: int
    seconds: float


def require() -> None:
    """Install wrk if it is missing and this is root on a Debian."""
    if shutil.which("wrk") is None and os.geteuid() == 0 and shutil.which("apt-get"):
        subprocess.run(["apt-get", "install", "-y", "-qq", "wrk"], stdout=subprocess.DEVNULL, check=False)
    if shutil.which("wrk") is None:
        raise BenchmarkError("wrk is missing: install it, for example by apt install wrk")


async def requests(port: int, path: str, seconds: int, *, body: int = 0) -> Answered:
    """Send requests for some seconds; they are POSTs if there is a body, of this many bytes.

    Raises:
        BenchmarkError: a request failed.
    """
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s"]
    if body:
        command += ["-s", str(_SCRIPT)]
    command.append(f"http://127.0.0.1:{port}{path}")
    if body:
        command += ["--", str(body)]
    done = await trio.run_process(command, capture_stdout=True)
    output = done.stdout.decode()
    found = re.search(r"(\d+) requests in ([\d.]+)(s|m)", output)
    if found is None or "Non-2xx" in output or "Socket errors" in output:
        raise BenchmarkError(f"requests failed:\n{output}")
    return Answered(int(found[1]), float(found[2]) * (60 if found[3] == "m" else 1))
