"""A million connections of every kind: `python -m benchmarks.soak`.

Clients of ten kinds connect and leave in seven ways. Between batches, when all have left, the server's
memory, descriptors, tasks and CPU time are measured. Then 100,000 topics are used once, and a topic with
5,000 subscribers is subscribed to 100,000 times. At last, ten million events are delivered by workers that
are killed, and so is their Redis. The exit status is 1 if something grows.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import trio

from benchmarks.harness import machine, programs
from benchmarks.harness.certificates import certificate_files
from benchmarks.harness.worker import BenchmarkError, Worker, started
from benchmarks.scenarios import kills
from benchmarks.soak.kinds import KINDS
from benchmarks.soak.slopes import Sample, Slopes, fit

_SETTLING_SECONDS = 15.0
_PATIENCE = 1800.0


async def soak(arguments: argparse.Namespace) -> dict[str, Any]:
    """Run all parts in one server, and return what was measured."""
    kinds, topics = arguments.kinds, arguments.topics
    with certificate_files() as files:
        command = [sys.executable, "-m", "benchmarks.soak.server", *files]
        command += ["--quart"] if "quart" in kinds else []
        async with started("server", command, None) as server:
            ports = await server.reply()
            names = ("plain", "tls", "short", "short_tls")
            command = [sys.executable, "-m", "benchmarks.soak.clients"]
            command += [*(f"{ports[name]:.0f}" for name in names), *kinds]
            async with started("clients", command, None) as clients:
                server.patience = clients.patience = _PATIENCE
                samples, counts = await _connect(server, clients, arguments)
            report: dict[str, Any] = {"samples": samples, "counts": counts}
            if topics:
                before = await server.ask("memory")
                report["topics"] = dict(await server.ask(f"topics {topics}"))
                report["crowd"] = dict(await server.ask(f"crowd {topics} {arguments.subscribers}"))
                after = await server.ask("memory")
                report["topics"]["KiB"] = (after["own_bytes"] - before["own_bytes"]) / 1024
    return report


async def _connect(
    server: Worker, clients: Worker, arguments: argparse.Namespace
) -> tuple[list[Sample], dict[str, float]]:
    began_at = time.monotonic()
    tasks = (await server.ask("usage"))["tasks"]
    samples = [await _sample(server, 0, tasks)]
    counts: dict[str, float] = {}
    batch = max(1, arguments.connects // arguments.batches)
    ends_at = began_at + arguments.minutes * 60
    while samples[-1].connects < arguments.connects and time.monotonic() < ends_at:
        counts = dict(await clients.ask(f"run {batch}"))
        samples.append(await _sample(server, samples[-1].connects + batch, tasks))
        last, seconds = samples[-1], time.monotonic() - began_at
        cost = (last.cpu - samples[-2].cpu) / batch * 1e6
        print(
            f"{seconds:6.0f} s {last.connects:9} connections {last.kib:9.0f} KiB {last.descriptors:4.0f} "
            f"descriptors {last.tasks:4.0f} tasks {cost:6.0f} us each",
            flush=True,
        )
    return samples, counts


async def _sample(server: Worker, connects: int, tasks: float) -> Sample:
    """Measure when the tasks of all connections have ended, or patience has run out."""
    usage = await server.ask("usage")
    with trio.move_on_after(_SETTLING_SECONDS):
        while usage["tasks"] > tasks:
            await trio.sleep(0.1)
            usage = await server.ask("usage")
    memory = await server.ask("memory")
    kib = memory["own_bytes"] / 1024
    return Sample(connects, kib, memory["descriptors"], memory["tasks"], usage["cpu_seconds"])


def main() -> None:
    """Run as the command line says."""
    arguments = _arguments()
    if arguments.deliveries:
        programs.build()
    report = trio.run(soak, arguments)
    slopes, faults = _judge(report, arguments)
    print(describe(report, slopes))
    if arguments.deliveries:
        try:
            report["deliveries"] = trio.run(
                kills.measure, kills.parse([f"--deliveries={arguments.deliveries}"])
            )
        except* BenchmarkError as group:
            faults.append(f"deliveries: {group.exceptions[0]}")
        else:
            print("\n".join(f"{name}: {value}" for name, value in report["deliveries"].items()))
    if arguments.json is not None:
        report["samples"] = [(each.connects, each.kib, each.cpu) for each in report["samples"]]
        arguments.json.write_text(json.dumps({"machine": machine.facts(), **report}, indent=2) + "\n")
    sys.exit("\n".join(faults) if faults else 0)


def _judge(report: dict[str, Any], arguments: argparse.Namespace) -> tuple[Slopes | None, list[str]]:
    samples, wrong = report["samples"], report["counts"].get("wrong", 0)
    faults = [f"{wrong:.0f} connections went wrong"] if wrong > 1e-4 * samples[-1].connects else []
    most = 1 + arguments.slower / 100
    for name in ("topics", "crowd"):
        if name in report and report[name]["last"] > report[name]["first"] * most:
            faults.append(f"{name}: a subscription costs more at the end")
    if "crowd" in report and report["crowd"]["last"] > report["crowd"]["alone"] * most:
        faults.append("a subscription costs more beside others")
    try:
        slopes = fit(samples)
    except ValueError as error:
        return None, [*faults, f"{error}"]
    # Fewer connections than this say nothing about a slope.
    if samples[-1].connects >= arguments.judged:
        faults += slopes.faults(kib=arguments.kib, slower=arguments.slower)
    return slopes, faults


def describe(report: dict[str, Any], slopes: Slopes | None) -> str:
    """Return the report as lines for a terminal."""
    lines = [f"{name}: {count:.0f}" for name, count in sorted(report["counts"].items())]
    lines.append(f"connections: {report['samples'][-1].connects}")
    if slopes is not None:
        lines += [
            f"memory: {slopes.kib:.1f} KiB more in 100,000 connections",
            f"descriptors, tasks: {slopes.descriptors:.2f} and {slopes.tasks:.2f} more",
            f"CPU time: {slopes.first_us:.0f} us a connection, at the end {slopes.last_us:.0f} us",
        ]
    for name in ("topics", "crowd"):
        if name in report:
            lines.append(f"{name}: " + ", ".join(f"{key} {value:.1f}" for key, value in report[name].items()))
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--connects", type=int, default=1_000_000, help="(default: a million)")
    parser.add_argument("--minutes", type=float, default=60.0, help="connect no longer than this")
    parser.add_argument("--kinds", nargs="*", choices=KINDS, default=list(KINDS))
    parser.add_argument("--batches", type=int, default=50, help="between which is measured")
    parser.add_argument("--topics", type=int, default=100_000, help="that are used once; 0 for none")
    parser.add_argument("--subscribers", type=int, default=5000, help="of a topic")
    parser.add_argument("--deliveries", type=int, default=10_000_000, help="0 for none")
    parser.add_argument("--kib", type=float, default=100.0, help="bound, in 100,000 connections")
    parser.add_argument("--slower", type=float, default=20.0, help="bound, in percent")
    parser.add_argument("--judged", type=int, default=100_000, help="fewer connections have no slope")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


if __name__ == "__main__":
    main()
