"""Measure the current commit briefly and add it to the history: `python -m benchmarks.record`.

It takes about two minutes. It appends one line of JSON to `benchmarks/history/quick.jsonl`, and prints the
change since the line before. Run it on a quiet machine. It refuses to add a commit with uncommitted changes;
`--dry-run` measures them and adds nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import trio

from benchmarks.harness import history, machine, programs
from benchmarks.harness.benchmark import Settings
from benchmarks.harness.cores import ALL_CORES, leave_the_servers_core
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.paths import HISTORY, ROOT
from benchmarks.harness.tables import text_table
from benchmarks.harness.worker import BenchmarkError
from benchmarks.scenarios import fanout, idle_memory, own_events, setup_cost

FILE = HISTORY / "quick.jsonl"

#: What is measured, and the measurements that are recorded.
PARTS: list[tuple[Callable[[Settings], Awaitable[list[Measurement]]], tuple[str, ...]]] = [
    (fanout.measure, ("burst", "steady")),
    (idle_memory.measure, ("idle, proportional set size",)),
    (setup_cost.measure, ("set-up",)),
    (own_events.measure_with_floor, ("own events in one go", "own events one by one")),
]


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connections", type=int, default=2000, metavar="N", help="default: 2000")
    parser.add_argument("--rounds", type=int, default=5, metavar="N", help="default: 5")
    parser.add_argument("--dry-run", action="store_true", help="measure and compare, but record nothing")
    arguments = parser.parse_args()
    if not arguments.dry_run and _git("status", "--porcelain", "--", ".", ":!benchmarks/history"):
        sys.exit("record: there are uncommitted changes; commit them, or use --dry-run")
    programs.build()
    print(f"load average before: {os.getloadavg()[0]:.2f} on {len(ALL_CORES)} cores", flush=True)
    leave_the_servers_core()
    settings = Settings(arguments.connections, arguments.rounds)
    try:
        found = measure(settings)
    except BenchmarkError as error:
        sys.exit(f"record: {error}")
    now = history.Record(
        commit=_git("rev-parse", "HEAD"),
        date=datetime.now(UTC).isoformat(timespec="seconds"),
        machine=machine.identity(),
        connections=settings.connections,
        rounds=settings.rounds,
        values=found,
    )
    before = [record for record in history.read(FILE) if record.commit != now.commit][-1:]
    print(history.changes(before[0] if before else None, now))
    if before:
        print(f"changes since {before[0].commit[:10]} of {before[0].date[:10]}; 1 is no change")
    if not arguments.dry_run:
        history.append(FILE, now)
        print(f"added to {FILE.relative_to(ROOT)}")


def measure(settings: Settings) -> dict[str, history.Value]:
    """Return the values to record, by name."""
    found: dict[str, history.Value] = {}
    for run, names in PARTS:
        measurements = trio.run(run, settings)
        print(text_table(measurements), end="\n\n", flush=True)
        found |= history.values(measurements, names)
    return found


def _git(*arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.strip()


if __name__ == "__main__":
    main()
