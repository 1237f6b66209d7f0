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
