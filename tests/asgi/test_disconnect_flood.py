"""`DisconnectFlood`: connections whose clients do not wait for answers are refused for a while."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock

from trio_sse._asgi.disconnect_flood import DisconnectFlood

CLIENT, OTHER = ("192.0.2.1", 1000), ("192.0.2.1", 1001)


async def test_a_connection_is_refused_after_two_hundred_and_for_ten_seconds(
    autojump_clock: MockClock,
) -> None:
    flood = DisconnectFlood()
    for _ in range(200):
        flood.count(CLIENT)
    assert not flood.is_refused(CLIENT)
    flood.count(CLIENT)
    assert flood.is_refused(CLIENT)
    assert not flood.is_refused(OTHER)
    await trio.sleep(10)
    assert not flood.is_refused(CLIENT)


@pytest.mark.parametrize("seconds", [0.1, 1])
async def test_a_client_that_leaves_now_and_then_is_not_refused(
    autojump_clock: MockClock, seconds: float
) -> None:
    flood = DisconnectFlood()
    for _ in range(500):
        flood.count(CLIENT)
        assert not flood.is_refused(CLIENT)
        await trio.sleep(seconds)


async def test_old_connections_are_forgotten(autojump_clock: MockClock) -> None:
    flood = DisconnectFlood()
    for port in range(100):
        flood.count(("192.0.2.1", port))
        await trio.sleep(1)
    assert len(flood) <= 11
