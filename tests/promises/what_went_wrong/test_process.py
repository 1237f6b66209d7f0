"""The process grows, or ends: each symptom of this part of the page, and its cure."""

from __future__ import annotations

import math
import os
import signal
from pathlib import Path

import pytest
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Request, Response

from ...support.leaks import MakeServer
from ...support.metrics import metric
from ...support.observed_streams import forwarding, observe
from ...support.serving import in_memory
from ...support.waiting import until, until_blocking
from ...support.workers import status_of, workers


async def test_memory_grows(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server(write_timeout=math.inf, max_pending_bytes=10_000_000)

    @server.endpoint("/large")
    async def large(request: Request) -> Response:
        return Response("x" * 3_000_000)

    observe(server, forwarding)
    async with in_memory(server) as serving:
        async with serving.connect_lockstep() as reader, serving.connect_lockstep() as stream:
            await reader.get("/large")
            await stream.get("/")
            for _ in range(3):
                await server.hub.publish("t", "y" * 1000)
                await wait_all_tasks_blocked()
            assert metric(server, "pending_bytes") >= 2_900_000
            assert metric(server, "hub_queued_bytes") >= 1000
            assert metric(server, "hub_log_bytes") >= 3000
        await until(lambda: metric(server, "pending_bytes") == 0)
        await until(lambda: metric(server, "hub_queued_bytes") == 0)
    server.configure(max_pending_bytes=4_000_000)
    async with (
        in_memory(server) as serving,
        serving.connect_lockstep() as slowest,
        serving.connect_lockstep() as reader,
    ):
        await slowest.get("/large")
        await reader.get("/large")
        await until(lambda: metric(server, "pending_cut_total") == 1)
        assert metric(server, "pending_bytes") <= 4_000_000


@pytest.mark.integration
def test_a_worker_ends_again_and_again(tmp_path: Path) -> None:
    with workers(tmp_path) as (program, url, status):
        assert url
        for count in (1, 2):
            victim = status_of(status)["workers"][0]["pid"]
            os.kill(victim, signal.SIGKILL)
            program.stderr.expect(rf"pid {victim}, ended after \d+ s: SIGKILL; restarting it in [\d.]+ s")
            until_blocking(
                lambda count=count: status_of(status)["restart_reasons"] == {"killed": count}  # type: ignore[misc]
            )
            until_blocking(
                lambda victim=victim: victim not in {w["pid"] for w in status_of(status)["workers"]}  # type: ignore[misc]
            )
