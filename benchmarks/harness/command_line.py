"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

import trio

from benchmarks.harness import machine
from benchmarks.harness.measurement import Figure, markdown_table, text_table
from benchmarks.harness.worker import HERE, LOAD_CORE, BenchmarkError


@dataclass(frozen=True, slots=True)
class Settings:
    """How much to measure."""

    connections: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Benchmark:
    """One thing to measure, how many connections tell something about it, and the fewest that it takes."""

    name: str
    connections: int
    measure: Callable[[Settings], Awaitable[list[Figure]]]
    fewest: int = 1


def main(benchmarks: Sequence[Benchmark], results: Path | None = None) -> None:
    """Run benchmarks as the command line says; write to the folder `results`, if there is one."""
    arguments = _arguments(benchmarks)
    subprocess.run(["make", "--silent", "-C", str(HERE / "native")], check=True)
    facts = machine.facts()
    # This process only waits, but it is not to do even that on the server's core.
    os.sched_setaffinity(0, {LOAD_CORE})
    done: dict[str, tuple[Settings, list[Figure]]] = {}
    for benchmark in benchmarks:
        settings = Settings(arguments.connections or benchmark.connections, arguments.rounds)
        print(f"{benchmark.name}: {settings.connections} connections, {settings.rounds} rounds", flush=True)
        try:
            figures = trio.run(benchmark.measure, settings)
        except BenchmarkError as error:
            sys.exit(f"{benchmark.name}: {error}")
        print(text_table(figures), end="\n\n", flush=True)
        done[benchmark.name] = (settings, figures)
    encoded = json.dumps({"machine": facts, "benchmarks": _as_json(done)}, indent=2) + "\n"
    if arguments.json is not None:
        arguments.json.write_text(encoded)
    if results is not None:
        results.mkdir(exist_ok=True)
        stem = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        (results / f"{stem}.json").write_text(encoded)
        (results / f"{stem}.md").write_text(_markdown(facts, done))
        print(f"written to {results / stem}.json and .md")


def _arguments(benchmarks: Sequence[Benchmark]) -> argparse.Namespace:
    defaults = ", ".join(f"{benchmark.name} {benchmark.connections}" for benchmark in benchmarks)
    parser = argparse.ArgumentParser(formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument(
        "--connections", type=int, metavar="N", help=f"streams to open, instead of: {defaults}"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="how often to measure")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to this file")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("nothing to measure")
    for benchmark in benchmarks:
        if arguments.connections is not None and arguments.connections < benchmark.fewest:
            parser.error(f"{benchmark.name} takes at least {benchmark.fewest} connections")
    return arguments


def _as_json(done: dict[str, tuple[Settings, list[Figure]]]) -> dict[str, object]:
    return {
        name: {**asdict(settings), "figures": [figure.as_json() for figure in figures]}
        for name, (settings, figures) in done.items()
    }


def _markdown(facts: dict[str, str], done: dict[str, tuple[Settings, list[Figure]]]) -> str:
    parts = ["\n".join(f"- {name}: {value}" for name, value in facts.items())]
    for name, (settings, figures) in done.items():
        title = f"## {name}: {settings.connections} connections, {settings.rounds} rounds"
        parts.append(f"{title}\n\n{markdown_table(figures)}")
    return "\n\n".join(["# Benchmarks of trio_sse", *parts]) + "\n"
