"""A hundred thousand streams, or a million, over workers: `python -m benchmarks.scale`.

A service of several workers with default settings, on its own Redis, holds the streams. They receive a
broadcast, and then an event every five seconds. Meanwhile all workers are replaced: each client is
disconnected and reconnects immediately with its `Last-Event-ID`. At the end the service drains. The benchmark
fails if an event is lost, repeated or out of order.

For a million streams, use `--streams 1000000 --keepalive 300 --log-timeout 60 --keep-workers`. On two cores,
about a hundred processes then wait for one another. If the machine cannot hold the streams, the report has
the number that it reached.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import sys
import time
from pathlib import Path
from typing import Any

import trio

from benchmarks.harness import machine, programs
from benchmarks.harness.clients import Clients, clients
from benchmarks.harness.publisher import Publisher, publishing
from benchmarks.harness.service import Service, redis, running
from benchmarks.harness.worker import BenchmarkError

#: The planned most streams of a worker. The kernel does not spread streams evenly, so there is room for more.
_STREAMS_PER_WORKER = 17_000
_GIB = 1024**3

#: The most memory of all server processes with 100,000 streams.
TARGET_GIB = 1.0


async def measure(arguments: argparse.Namespace, report: dict[str, Any]) -> None:
    streams, workers = arguments.streams, arguments.workers
    options = ("--keepalive", f"{arguments.keepalive:g}")
    async with (
        redis() as server,
        running(workers, server.url, *options, log_timeout=arguments.log_timeout) as service,
    ):
        async with (
            clients(service.port, streams, patience=1800) as all_clients,
            publishing(server.url) as publisher,
        ):
            empty, kernel_before = service.pss_bytes, _kernel_bytes()
            report["empty MiB"] = empty / 1024**2
            await _connect(all_clients, service, report)
            await trio.sleep(arguments.settle)
            held = service.pss_bytes
            report["PSS GiB, all server processes"] = held / _GIB
            report["PSS KiB per stream"] = (held - empty) / streams / 1024
            report["kernel KiB per stream, both ends"] = (_kernel_bytes() - kernel_before) / streams / 1024
            per_worker = [worker["open_streams"] for worker in service.status()["workers"]]
            report["streams per worker"] = f"{min(per_worker)} to {max(per_worker)}"
            await _broadcast(all_clients, service, publisher, report)
            if not arguments.keep_workers:
                await _replace(all_clients, service, publisher, report, arguments.interval)
        began_at = time.monotonic()
        service.send(signal.SIGTERM)
        if code := await service.wait():
            raise BenchmarkError(f"the service exited with {code}")
        report["empty drain s"] = time.monotonic() - began_at


async def _connect(all_clients: Clients, service: Service, report: dict[str, Any]) -> None:
    began_at, cpu = time.monotonic(), service.cpu_seconds
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_print_progress, service, all_clients.streams)
        try:
            await all_clients.connect()
        except BenchmarkError:
            report["streams reached"] = service.status()["sum"].get("open_streams", 0)
            raise
        nursery.cancel_scope.cancel()
    seconds = time.monotonic() - began_at
    report["connect s"] = seconds
    report["connects per second"] = all_clients.streams / seconds
    report["CPU us per connect, server"] = (service.cpu_seconds - cpu) / all_clients.streams * 1e6
    waited = await service.wait_until(lambda s: s["sum"]["open_streams"] == all_clients.streams, 300)
    report["open streams"] = service.status()["sum"]["open_streams"]
    print(f"{all_clients.streams} streams after {seconds + waited:.0f} s", flush=True)


async def _print_progress(service: Service, streams: int) -> None:
    while True:
        await trio.sleep(20)
        print(f"{service.status()['sum'].get('open_streams', 0)} of {streams}", flush=True)


async def _broadcast(
    all_clients: Clients, service: Service, publisher: Publisher, report: dict[str, Any]
) -> None:
    cpu = service.cpu_seconds
    async with all_clients.receiving(1) as replies:
        await publisher.publish()
    report["one event to all, s"] = max(reply["latency_max"] for reply in replies) / 1e6
    report["CPU us per delivery"] = (service.cpu_seconds - cpu) / all_clients.streams * 1e6
    print(f"an event reached all after {report['one event to all, s']:.1f} s", flush=True)


async def _replace(
    all_clients: Clients,
    service: Service,
    publisher: Publisher,
    report: dict[str, Any],
    interval: float,
) -> None:
    """Replace all workers while events are published, and wait until all streams are back."""
    old = {worker["pid"] for worker in service.status()["workers"]}
    began_at = time.monotonic()
    events = 0
    is_over = False

    async def publish() -> None:
        nonlocal events
        while not is_over:
            events += 1
            await publisher.publish()
            await trio.sleep(interval)

    # The number of events is not known yet, so the loads' totals count them.
    before = await all_clients.total("events")
    service.send(signal.SIGHUP)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(publish)
        await service.wait_until(lambda s: not old & {worker["pid"] for worker in s["workers"]}, 1200)
        await service.wait_until(lambda s: s["sum"]["open_streams"] == all_clients.streams, 120)
        is_over = True
    report["replacing all workers s"] = time.monotonic() - began_at
    report["events meanwhile"] = events
    expected = events * all_clients.streams
    with trio.move_on_after(60):
        while await all_clients.total("events") - before < expected:  # noqa: ASYNC110  # another process
            await trio.sleep(0.5)
    await trio.sleep(1)
    received, gaps = await all_clients.total("events") - before, await all_clients.total("id_gaps")
    if received != expected or gaps:
        raise BenchmarkError(
            f"{received} events were received while workers were replaced, not {expected}; {gaps} gaps"
        )
    report["streams per worker, afterwards"] = "{} to {}".format(
        *(pick(worker["open_streams"] for worker in service.status()["workers"]) for pick in (min, max))
    )
    report["lost, repeated or out of order"] = 0
    print(f"all workers replaced after {report['replacing all workers s']:.0f} s", flush=True)
    await _broadcast(all_clients, service, publisher, {})


def _kernel_bytes() -> int:
    """Return the kernel's memory: sockets and their buffers, of both ends."""
    with open("/proc/meminfo") as meminfo:
        names = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in meminfo}
    return names["Slab"] + names.get("KernelStack", 0) + names.get("PageTables", 0) + _tcp_buffers()


def _tcp_buffers() -> int:
    for line in Path("/proc/net/sockstat").read_text().splitlines():
        if line.startswith("TCP:"):
            fields = line.split()
            return int(fields[fields.index("mem") + 1]) * os.sysconf("SC_PAGE_SIZE")
    return 0


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--streams", type=int, default=100_000)
    parser.add_argument("--workers", type=int, help="default: as many as needed")
    parser.add_argument("--keepalive", type=float, default=15.0, help="seconds (default: 15)")
    parser.add_argument(
        "--log-timeout", type=float, default=2.0, help="seconds in which Redis must answer (default: 2)"
    )
    parser.add_argument("--interval", type=float, default=5.0, help="seconds between events (default: 5)")
    parser.add_argument("--settle", type=float, default=20.0, help="seconds before memory is measured")
    parser.add_argument("--keep-workers", action="store_true", help="do not replace the workers")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    arguments.workers = arguments.workers or -(-arguments.streams // _STREAMS_PER_WORKER)
    programs.build()
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    report: dict[str, Any] = {"streams": arguments.streams, "workers": arguments.workers}
    failure = None
    try:
        trio.run(measure, arguments, report)
    except* BenchmarkError as group:
        failure = report["failure"] = str(group.exceptions[0])
    for name, value in report.items():
        print(f"{name:36}{value:.4g}" if isinstance(value, float) else f"{name:36}{value}")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine.facts(), "report": report}, indent=2) + "\n")
    if failure:
        sys.exit(f"scale: {failure}")


if __name__ == "__main__":
    main()
