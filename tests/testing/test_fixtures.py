"""The fixtures of the testing kit, used as in a test of a user's."""

from __future__ import annotations

import sys

import pytest
from trio.testing import MockClock

from trio_sse import Connection, Server
from trio_sse.testing import assert_nothing_lost, read_at_random
from trio_sse.testing.fixtures import StartClient, sse_client, sse_no_leak, sse_seed

__all__ = ["sse_client", "sse_no_leak", "sse_seed"]


@pytest.fixture
def server() -> Server:
    made = Server()

    @made.route("/three")
    async def three(connection: Connection) -> None:
        first = int(connection.last_event_id or 0)
        for number in range(first + 1, 4):
            await connection.send(f"{number}", id=str(number))

    return made


async def test_a_client_is_started_and_ends_with_the_test(
    server: Server, sse_client: StartClient, autojump_clock: MockClock
) -> None:
    client = await sse_client(server)
    async with client.stream("/three") as stream:
        assert [event.data for event in await stream.events(3)] == ["1", "2", "3"]


async def test_a_seed_repeats_a_run(
    server: Server, sse_client: StartClient, sse_seed: int, autojump_clock: MockClock
) -> None:
    client = await sse_client(server)
    runs = [
        await read_at_random(client, "/three", until=lambda event: event.data == "3", seed=sse_seed)
        for _ in range(2)
    ]
    assert runs[0].actions == runs[1].actions
    assert_nothing_lost(runs[0], ["1", "2", "3"])


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pytest_trio", None)
    monkeypatch.delitem(sys.modules, "trio_sse.testing.fixtures")
    with pytest.raises(ImportError, match="pip install pytest-trio"):
        import trio_sse.testing.fixtures  # noqa: F401
