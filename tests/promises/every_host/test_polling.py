"""Long polling on every host."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_sse import EndReason

from ...support.hosts import Run, until_subscribed
from ...support.waiting import until

pytestmark = pytest.mark.integration


async def test_a_poll_answers_with_what_is_published(run: Run) -> None:
    async with run() as host, trio.open_nursery() as nursery:
        answers: list[dict[str, Any]] = []

        async def poll() -> None:
            answers.append(await host.poll("/live?wait=20"))

        nursery.start_soon(poll)
        await until_subscribed(host)
        await host.hub.publish("live", "hello")
        await until(lambda: len(answers) == 1)
        assert [event["data"] for event in answers[0]["events"]] == ["hello"]


async def test_a_poll_is_answered_when_the_server_shuts_down(run: Run) -> None:
    async with run(drain_timeout=20) as host, trio.open_nursery() as nursery:
        answers: list[dict[str, Any]] = []

        async def poll() -> None:
            answers.append(await host.poll("/live?wait=25"))

        nursery.start_soon(poll)
        await until_subscribed(host)
        began_at = trio.current_time()
        await host.shut_down()
        assert trio.current_time() - began_at < 10
        await until(lambda: len(answers) == 1)
        assert answers[0]["events"] == []


async def test_a_poll_whose_client_leaves_is_counted_as_that(run: Run) -> None:
    async with run() as host, host.asked("/live?wait=25", "Accept: application/json") as stream:
        await until_subscribed(host)
        await stream.leave()
        assert await host.life.wait_ends(1) == [EndReason.CLIENT_DISCONNECTED]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_a_short_poll_waits_until_the_handler_has_decided(run: Run, method: str) -> None:
    path, accept = "/refuses_late?wait=0", "Accept: application/json"
    async with run() as host, await host.connect() as connection, trio.open_nursery() as nursery:
        statuses: list[int] = []

        async def poll() -> None:
            statuses.append((await connection.get(path, accept, method=method)).status)

        nursery.start_soon(poll)
        await host.life.is_silent.wait()
        assert not statuses
        host.life.steps.release()
        await until(lambda: statuses == [403])
