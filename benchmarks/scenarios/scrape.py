"""How long a scrape, or an open console, holds the event loop in one piece: `python -m benchmarks.scrape`.

A quarter of the streams are over HTTP/2, a hundred to a connection: with them, 20,000 streams fit into a
process that may have 20,000 descriptors. The others have topics of their own, three streams each.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import trio

from benchmarks.harness import http2_load, subjects
from benchmarks.harness.benchmark import Benchmark, Settings
from benchmarks.harness.broadcasts import cpu_seconds
from benchmarks.harness.command_line import main
from benchmarks.harness.measurement import Measurement
from benchmarks.harness.worker import BenchmarkError, Reply, Worker
from benchmarks.servers.console_token import TOKEN

STREAMS_PER_TOPIC = 3
STREAMS_PER_CONNECTION = 100
SCRAPES = 10
SNAPSHOTS = 6
#: Between two scrapes: so they are apart, and the probe sees what else the loop does.
PAUSE_SECONDS = 0.2

TARGET_MILLISECONDS = 5.0

_SETTLE_SECONDS = 2.0


async def measure(settings: Settings) -> list[Measurement]:
    quiet: list[Reply] = []
    scraped: list[Reply] = []
    watched: list[Reply] = []
    costs: list[float] = []
    times: list[float] = []
    over_http2 = settings.connections // 4
    over_http1 = settings.connections - over_http2
    for _ in range(settings.rounds):
        async with (
            subjects.native_watched_http2() as (server, port),
            subjects.load(port, 0, "--share", f"{STREAMS_PER_TOPIC}", path="/topics/{n}") as load,
            subjects.load(port, 0, "--source", "1", *_http2_options(port, over_http2)) as other_load,
        ):
            await subjects.connect(load, over_http1)
            await subjects.connect(other_load, over_http2)
            await server.ask(f"topics {-(-over_http1 // STREAMS_PER_TOPIC)} 1")
            await trio.sleep(_SETTLE_SECONDS)
            quiet.append(await _probe(server, port, 0, []))
            before = await cpu_seconds(server)
            await _scrape(port, settings.connections)
            costs.append((await cpu_seconds(server) - before) * 1000)
            scraped.append(await _probe(server, port, settings.connections, times))
            watched.append(await _probe_console(server, port))
    return [
        *_measurements("nothing to do", quiet, None),
        *_measurements("scrapes", scraped, TARGET_MILLISECONDS),
        *_measurements("a console is open", watched, TARGET_MILLISECONDS),
        Measurement("a scrape", "ms of server CPU", tuple(costs)),
        Measurement("a scrape while the loop is probed", "ms", tuple(times)),
    ]


def _http2_options(port: int, streams: int) -> list[str]:
    return http2_load.options(port, -(-streams // STREAMS_PER_CONNECTION), is_secure=False)


async def _probe(server: Worker, port: int, streams: int, times: list[float]) -> Reply:
    """Probe the loop while the metrics are scraped, or without streams to count, while nothing happens."""
    await server.ask("probe start")
    for _ in range(SCRAPES):
        if streams:
            began_at = time.perf_counter()
            await _scrape(port, streams)
            times.append((time.perf_counter() - began_at) * 1000)
        await trio.sleep(PAUSE_SECONDS)
    return await server.ask("probe stop")


async def _probe_console(server: Worker, port: int) -> Reply:
    """Probe the loop while somebody watches the console, from its first snapshot on."""
    await server.ask("probe start")
    received = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(
            b"GET /_sse/stream HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer %s\r\n\r\n" % TOKEN.encode()
        )
        while received.count(b"event: snapshot\n") < SNAPSHOTS:
            data = await stream.receive_some()
            if not data:
                raise BenchmarkError("the console has ended")
            received += data
    return await server.ask("probe stop")


async def _scrape(port: int, streams: int) -> None:
    """Ask for the metrics once."""
    body = b""
    async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
        await stream.send_all(b"GET /metrics HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n")
        async for data in stream:
            body += data
    if b"trio_sse_hub_subscriptions %d.0\n" % streams not in body:
        raise BenchmarkError("the metrics do not count all streams")


def _measurements(name: str, replies: Sequence[Reply], target: float | None) -> list[Measurement]:
    def milliseconds(key: str) -> tuple[float, ...]:
        return tuple(reply[key] * 1000 for reply in replies)

    return [
        Measurement(f"{name}: longest turn", "ms", milliseconds("longest_wait_seconds")),
        Measurement(f"{name}: same, in CPU time", "ms", milliseconds("longest_cpu_seconds"), target),
        Measurement(f"{name}: longest garbage collection", "ms", milliseconds("longest_collection_seconds")),
    ]


BENCHMARK = Benchmark("scrape", 20_000, measure, fewest=100)

if __name__ == "__main__":
    main([BENCHMARK])
