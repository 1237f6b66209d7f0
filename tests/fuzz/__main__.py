"""`python -m tests.fuzz`: fuzz all targets, or some by name; exit with 1 if one of them is broken.

Each target has a process of its own, and a folder with what it has found: its inputs, what it printed, and
the inputs that broke a promise, which are printed, too. `--keep` adds to the corpora those that reach more.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from . import corpus
from .selection import select

_ROOT = Path(__file__).parents[2]

# An input that takes longer, or more memory, is a finding, too.
_SECONDS_PER_INPUT = 20
_MEGABYTES = 2048

# For the start and the end of the process.
_GRACE_SECONDS = 120.0

_STATUS = re.compile(r"^#(\d+)\s+(\w+)\s+cov: (\d+)", re.MULTILINE)


class Result(NamedTuple):
    """How the fuzzing of a target has ended."""

    name: str
    is_broken: bool
    text: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Fuzz targets; return the exit status."""
    options = _parse(arguments)
    unknown = set(options.names) - set(corpus.names())
    if unknown:
        print(f"There are no targets {', '.join(sorted(unknown))}; there are {', '.join(corpus.names())}.")
        return 2
    names = options.names or corpus.names()
    for name in names:
        corpus.load(name)  # threads must not import them
    if not options.only_keep:
        if find_spec("atheris") is None:
            version = sys.version.partition(" ")[0]
            print(f"atheris is not installed: it may have no wheel for this Python ({version}) and system.")
            return 2
        seed = random.randrange(1, 1 << 31) if options.seed is None else options.seed
        print(f"{len(names)} targets, {options.minutes:g} minutes each, --seed {seed}", flush=True)
        with ThreadPoolExecutor(options.jobs) as pool:
            results = list(pool.map(lambda name: _fuzz(name, seed, options), names))
        broken = [result for result in results if result.is_broken]
        for result in broken:
            print(f"\n{result.name} is broken:\n{result.text}")
    if options.keep or options.only_keep:
        for name in names:
            _keep(name, options.folder / name)
    return 1 if not options.only_keep and broken else 0


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.fuzz", description=__doc__)
    parser.add_argument("names", nargs="*", help="fuzz only these targets")
    parser.add_argument("--minutes", type=float, default=60.0, help="for each target")
    parser.add_argument("--seed", type=int, help="of what is tried; it is printed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="how many targets at once")
    parser.add_argument("--folder", type=Path, default=_ROOT / ".fuzz", help="where the findings are")
    parser.add_argument("--keep", action="store_true", help="add to the corpora what reaches more code")
    parser.add_argument("--only-keep", action="store_true", help="do that, and do not fuzz")
    return parser.parse_args(arguments)


def _fuzz(name: str, seed: int, options: argparse.Namespace) -> Result:
    folder = options.folder / name
    inputs = folder / "inputs"
    inputs.mkdir(parents=True, exist_ok=True)
    for data in (*corpus.load(name).seeds(), *corpus.read(name)):
        (inputs / hashlib.sha256(data).hexdigest()[:20]).write_bytes(data[: corpus.LARGEST])
    seconds = round(options.minutes * 60)
    command = [sys.executable, "-m", "tests.fuzz.engine", name, f"-max_total_time={seconds}", f"-seed={seed}"]
    command += [f"-max_len={corpus.LARGEST}", f"-timeout={_SECONDS_PER_INPUT}", f"-rss_limit_mb={_MEGABYTES}"]
    command += [f"-artifact_prefix={folder}/", "-print_final_stats=1", str(inputs)]
    log = folder / "log"
    began_at = time.time()
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=_ROOT, stdout=output, stderr=subprocess.STDOUT)
        cpu, status = _wait(process, seconds + _GRACE_SECONDS)
    printed = log.read_text("utf-8", "replace")
    reports = _STATUS.findall(printed)
    first = next((int(cov) for _, what, cov in reports if what == "INITED"), 0)
    runs, _, last = reports[-1] if reports else ("0", "", "0")
    print(
        f"{name:18} {cpu / 60:6.1f} CPU min  {runs:>9} runs  coverage {first} -> {last}  exit {status}",
        flush=True,
    )
    if status == 0:
        return Result(name, False, "")
    if status == -signal.SIGKILL:
        return Result(name, False, "")  # it was ended here: the machine is too busy
    found = [
        path
        for path in folder.iterdir()
        if path.is_file() and path != log and path.stat().st_mtime >= began_at
    ]
    literals = "".join(f"\n{path}: {path.read_bytes()!r}" for path in found)
    return Result(name, True, f"{printed[-4000:]}{literals}")


def _wait(process: subprocess.Popen[bytes], seconds: float) -> tuple[float, int]:
    """Wait for a process, or end it after so many seconds; return its CPU seconds and its exit status."""
    deadline = time.monotonic() + seconds
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return usage.ru_utime + usage.ru_stime, process.returncode
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.2)


def _keep(name: str, folder: Path) -> None:
    """Keep the inputs that reach together what all reach, and those that broke something."""
    found = [path.read_bytes() for path in sorted((folder / "inputs").glob("*"))]
    broke = [path.read_bytes() for path in sorted(folder.glob("*-*")) if path.is_file()]
    kept = [*select(corpus.load(name), (*corpus.read(name), *found)), *broke]
    count = corpus.write(name, (data for data in kept if len(data) <= corpus.LARGEST))
    print(f"{name:18} {count} inputs are kept, of {len(found)}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
