"""The command line that all benchmarks share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path

import trio

from benchmarks.harness import machine, programs
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.cores import leave_the_servers_core
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.tables import markdown_table, text_table
from benchmarks.harness.worker import BenchmarkError

Results = dict[str, tuple[Settings, list[Measurement]]]


def main(benchmarks: Sequence[Benchmark], results: Path | None = None) -> None:
    """Run benchmarks as the command line says. Write the results to the folder `results`, if given."""
    arguments = _arguments(benchmarks)
    programs.build()
    facts = machine.facts()
    leave_the_servers_core()
    done: Results = {}
    for benchmark in benchmarks:
        if arguments.monitoring and benchmark.compare_monitoring is not None:
            benchmark = replace(benchmark, measure=benchmark.compare_monitoring)
        events = benchmark.events and (arguments.events or benchmark.events)
        settings = Settings(arguments.connections or benchmark.connections, arguments.rounds, events)
        try:
            done[benchmark.name] = (settings, run(benchmark, settings))
        except BenchmarkError as error:
            sys.exit(f"{benchmark.name}: {error}")
    encoded = json.dumps({"machine": facts, "benchmarks": _as_json(done)}, indent=2) + "\n"
    if arguments.json is not None:
        arguments.json.write_text(encoded)
    if results is not None:
        results.mkdir(exist_ok=True)
        stem = datetime.now(UTC).strftime("%Y-%m-%dT%H-%M-%SZ")
        (results / f"{stem}.json").write_text(encoded)
        (results / f"{stem}.md").write_text(_markdown(facts, done))
        print(f"written to {results / stem}.json and .md")


def run(benchmark: Benchmark, settings: Settings) -> list[Measurement]:
    """Run one benchmark, print its table and return its measurements. `main` has made the preparations."""
    print(f"{benchmark.name}: {settings.connections} connections, {settings.rounds} rounds", flush=True)
    measurements = trio.run(benchmark.measure, settings)
    print(text_table(measurements), end="\n\n", flush=True)
    return measurements


def _arguments(benchmarks: Sequence[Benchmark]) -> argparse.Namespace:
    defaults = ", ".join(f"{benchmark.name} {benchmark.connections}" for benchmark in benchmarks)
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--connections", type=int, metavar="N", help=f"streams to open; by default, {defaults}"
    )
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="rounds to measure; by default 3")
    events = [f"{benchmark.name} {benchmark.events}" for benchmark in benchmarks if benchmark.events]
    parser.add_argument(
        "--events",
        type=int,
        metavar="N",
        help=f"events of a turn; by default, {', '.join(events)}" if events else argparse.SUPPRESS,
    )
    has_monitoring = any(benchmark.compare_monitoring is not None for benchmark in benchmarks)
    parser.add_argument(
        "--monitoring",
        action="store_true",
        help="compare with metrics, logs and traces instead" if has_monitoring else argparse.SUPPRESS,
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the measurements to this file")
    arguments = parser.parse_args()
    if arguments.rounds < 1:
        parser.error("--rounds must be at least 1")
    if arguments.events is not None and arguments.events < 1:
        parser.error("--events must be at least 1")
    for benchmark in benchmarks:
        if arguments.connections is not None and arguments.connections < benchmark.fewest:
            parser.error(f"{benchmark.name} needs at least {benchmark.fewest} connections")
    return arguments


def _as_json(done: Results) -> dict[str, object]:
    return {
        name: {**asdict(settings), "measurements": [each.as_json() for each in measurements]}
        for name, (settings, measurements) in done.items()
    }


def _markdown(facts: dict[str, str], done: Results) -> str:
    parts = ["\n".join(f"- {name}: {value}" for name, value in facts.items())]
    for name, (settings, measurements) in done.items():
        title = f"## {name}: {settings.connections} connections, {settings.rounds} rounds"
        parts.append(f"{title}\n\n{markdown_table(measurements)}")
    return "\n\n".join(["# Benchmarks of trio_sse", *parts]) + "\n"
