"""What goes wrong beside a handler, on a server that is not ours, ends one stream only."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from trio_sse._stream.lifecycle import run_stream

from ..support import hosts
from ..support.cancellations import foreign_cancellation
from ..support.certificates import Certificate
from ..support.hosts import Run, until_subscribed
from ..support.leaks import LeakCheck
from ..support.raised import Panic
from ..support.websocket_client import HANDSHAKE

pytestmark = pytest.mark.integration


@pytest.fixture
def run(no_leak: LeakCheck, certificate: Certificate) -> Run:
    return partial(hosts.running, "quart on hypercorn", no_leak, certificate)


async def test_a_defect_of_ours_in_a_detached_stream(
    run: Run, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def failing(manager: Any, serving: Any, stream: Any, handle: Any) -> Any:
        outcome = await run_stream(manager, serving, stream, handle)
        if stream.request.path == "/three":
            raise Panic("a defect")
        return outcome

    monkeypatch.setattr("trio_sse._asgi.foreign_server.run_stream", failing)
    async with run() as host, host.opened("/live") as other:
        await until_subscribed(host)
        async with host.asked("/three", "Connection: close") as stream:
            await stream.closed()
        await host.hub.publish("live", "still here")
        assert (await other.event()).data == "still here"
    lines = [record.getMessage() for record in caplog.records if record.name == "trio_sse.stream"]
    assert lines == ["the stream failed for id=2"]


@pytest.mark.parametrize("make_error", [lambda: ValueError("why"), Panic, foreign_cancellation])
@pytest.mark.parametrize("place", ["before the head", "after the head", "in mid-stream", "in finally"])
async def test_a_websocket_of_quart(run: Run, place: str, make_error: Callable[[], BaseException]) -> None:
    async with run() as host, host.opened("/live") as other:
        await until_subscribed(host)
        host.life.place, host.life.make_error = place, make_error
        async with await host.connect() as client:
            head = await client.get("/socket", *HANDSHAKE)
            assert head.status == (500 if place == "before the head" else 101)
            await client.closed()
        await host.hub.publish("live", "still here")
        assert (await other.event()).data == "still here"
