"""Revocations over nodes: on every kind of log, through outages and losses, and in races."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from random import Random

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, HTTPException, Hub, Log, LogUnavailable, Server
from trio_sse._hub.revocations import _MOST_REMEMBERED, _encode
from trio_sse._shared_log.record import encode_record
from trio_sse.testing import Client, Stream

from ..support.list_log import ListLog
from ..support.logs import Interrupted, MakeLog
from ..support.shares import seeds
from ..support.waiting import SECONDS, until


class Node:
    """A server with streams of users, and why these ended."""

    def __init__(self, log: Log | None) -> None:
        self.hub = Hub(log=log)
        self.server = Server(hub=self.hub, reconnect_spread=1)
        self.ends: list[tuple[str | None, EndReason | None]] = []
        self.opened: list[Connection] = []
        self.client = Client(self.server, timeout=SECONDS)

        @self.server.on_connect
        def enter(connection: Connection) -> None:
            connection.identity = connection.request.query.get("user")
            self.opened.append(connection)

        @self.server.on_disconnect
        def leave(connection: Connection) -> None:
            self.ends.append((connection.identity, connection.end_reason))

        @self.server.route("/live")
        async def live(connection: Connection) -> None:
            await connection.subscribe("live", "revocations")

    @asynccontextmanager
    async def stream(self, user: str = "") -> AsyncIterator[Stream]:
        """Open a stream that receives events, of a user if one is named."""
        count = self.hub.statistics().subscriptions + 1
        async with self.client.stream(f"/live?user={user}" if user else "/live") as stream:
            await until(lambda: self.hub.statistics().subscriptions >= count)
            yield stream


@asynccontextmanager
async def nodes(*logs: Log | None) -> AsyncIterator[list[Node]]:
    """Run a node on each of these logs."""
    async with AsyncExitStack() as stack:
        made = [Node(log) for log in logs]
        for node in made:
            await stack.enter_async_context(node.client)
        await until(lambda: all(node.hub.is_ready for node in made))
        yield made


async def rest(stream: Stream) -> list[object]:
    """Return what a stream still received before its end."""
    await stream.wait_over()
    return [event.data for event in stream.events_nowait()]


async def test_every_node_ends_the_streams_before_what_is_published_later(make_shared: MakeLog) -> None:
    async with (
        nodes(make_shared(), make_shared()) as (first, second),
        first.stream("ada") as ada_there,
        second.stream("ada") as ada,
        second.stream("bob") as bob,
        second.stream() as nobody,
    ):
        await first.hub.publish("live", "before")
        assert (await ada.event()).data == "before"
        assert await first.hub.revoke("ada") == 1
        for number in range(20):
            await first.hub.publish("live", number)
        for stream in (bob, nobody):
            received = [(await stream.event()).data for _ in range(21)]
            assert received == ["before", *map(str, range(20))]
        assert await rest(ada) == []
        assert await rest(ada_there) in (["before"], [])
        await until(lambda: len(first.ends + second.ends) == 2)
        assert first.ends == second.ends == [("ada", EndReason.REVOKED)]
        async with second.stream("ada") as again:  # it was checked after the revocation
            await first.hub.publish("live", "again")
            assert (await again.event()).data == "again"
        assert await second.hub.revoke("bob", reconnect=False) == 1
        assert await rest(bob) in (["again"], [])
        assert bob.is_ended


async def test_a_node_that_was_cut_off_makes_up_for_it(make_shared: MakeLog) -> None:
    log = Interrupted(make_shared())
    async with (
        nodes(make_shared(), log) as (first, second),
        second.stream("ada") as ada,
        second.stream("bob") as bob,
    ):
        log.is_away = True
        await until(lambda: second.server.problems() == ["log_unavailable"])
        assert await first.hub.revoke("ada") == 0
        await first.hub.publish("live", "after")
        with pytest.raises(LogUnavailable):
            await second.hub.revoke("eve")
        assert second.server.connections(identity="ada")
        log.is_away = False
        assert (await bob.event()).data == "after"
        assert await rest(ada) == []


@pytest.fixture
def log() -> ListLog:
    return ListLog()


def drop_unread(log: ListLog) -> None:
    """Lose entries that the nodes have not read."""
    log.is_away = True
    log.publish("live", *"abc")
    log.trim(1)


def replace(log: ListLog) -> None:
    """Lose all entries, and begin anew."""
    log.trim(0)
    log.epoch, log.number, log._places = "2", 0, 0
    log.publish("live", "new")


@pytest.mark.parametrize("lose", [drop_unread, replace])
async def test_a_node_that_may_have_missed_some_ends_all_that_have_an_identity(
    log: ListLog, lose: Callable[[ListLog], None], caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    log.publish("live", "first")
    async with nodes(log) as (node,), AsyncExitStack() as stack:
        users = [await stack.enter_async_context(node.stream(f"user-{n}")) for n in range(25)]
        nobody = await stack.enter_async_context(node.stream())
        await trio.sleep(5)
        lose(log)
        await trio.sleep(1)
        log.is_away = False
        for user in users:
            await user.wait_over()
            assert user.is_cut
        assert {reason for _, reason in node.ends} == {EndReason.REVOKED}
        assert (await nobody.event()).event == "reset"
        assert not nobody.is_over
        async with node.stream("user-1") as later:
            await node.hub.publish("live", "later")
            assert "later" in [event.data for event in await later.events(1)]
    assert [text for text in caplog.messages if "25 streams with an identity" in text]


async def test_entries_that_cannot_be_read_end_nothing(
    log: ListLog, caplog: pytest.LogCaptureFixture, autojump_clock: MockClock
) -> None:
    async with nodes(log) as (node,), node.stream("ada") as ada:
        for text in ("no json", "[]", "{}", '{"identity":7,"reconnect":true}', '{"identity":"ada"}'):
            message = _encode("x", reconnect=True, token="")
            message._event = message._event.__class__(text)
            log.add(encode_record(message, "m-1"))
        await node.hub.publish("live", "on")
        assert (await ada.event()).data == "on"
        assert caplog.text.count("a revocation in the shared log cannot be read") == 5


async def test_a_revocation_that_is_not_stored_has_ended_the_streams_here(
    log: ListLog, autojump_clock: MockClock
) -> None:
    async with nodes(log) as (node,), node.stream("ada") as ada:
        log.is_away = True
        with pytest.raises(LogUnavailable):
            await node.hub.revoke("ada")
        assert await rest(ada) == []
        log.is_away = False
        assert await node.hub.revoke("ada") == 0


@pytest.mark.parametrize("seed", seeds(8))
async def test_a_client_that_was_checked_before_receives_nothing_that_is_published_later(
    log: ListLog, autojump_clock: MockClock, seed: int
) -> None:
    random = Random(seed)
    log.takes = random.choice([0.0, 0.3])
    is_valid, received = True, [list[object]() for _ in range(24)]

    async def check(connection: Connection) -> None:
        if not is_valid:
            raise HTTPException(401)
        await trio.sleep(random.uniform(0, 3))
        connection.identity = "ada"
        await trio.sleep(random.uniform(0, 1))

    async def follow(node: Node, numbers: list[object]) -> None:
        await trio.sleep(random.uniform(0, 4))
        async with node.client.stream("/live") as stream:
            while not stream.is_over:
                with suppress(EOFError):
                    numbers.append((await stream.event()).data)

    async with nodes(log, log) as both, trio.open_nursery() as nursery:
        for node in both:
            node.server.on_connect(check)
        for index, numbers in enumerate(received):
            nursery.start_soon(follow, both[index % 2], numbers)
        await trio.sleep(random.uniform(1, 4))
        await both[0].hub.publish("live", "before")
        is_valid = False
        await both[random.randrange(2)].hub.revoke("ada")
        for node in both:
            await node.hub.publish("live", "after")
    assert all(numbers in (["before"], []) for numbers in received)


@pytest.mark.parametrize("is_shared", [True, False])
async def test_an_identity_that_is_set_after_its_revocation_ends_an_older_stream(
    log: ListLog, is_shared: bool, autojump_clock: MockClock
) -> None:
    async with nodes(log if is_shared else None) as (node,), node.stream() as late:
        await trio.sleep(1)
        assert await node.hub.revoke("ada") == 0
        await trio.sleep(1)
        async with node.stream("ada") as newer:
            node.opened[0].identity = "ada"
            assert await rest(late) == []
            await node.hub.publish("live", "on")
            assert (await newer.event()).data == "on"
        await wait_all_tasks_blocked()
        assert node.ends[0] == ("ada", EndReason.REVOKED)
        assert len(node.server._manager.identities) == 0


async def test_so_many_revocations_are_remembered(autojump_clock: MockClock) -> None:
    async with nodes(None) as (node,), node.stream(), node.stream():
        await trio.sleep(1)
        for number in range(_MOST_REMEMBERED + 1):
            await node.hub.revoke(str(number))
        for identity, connection in zip(("0", "1"), node.opened, strict=True):
            connection.identity = identity
        assert [one.end_reason for one in node.opened] == [None, EndReason.REVOKED]


async def test_a_revocation_needs_an_identity_and_a_hub_that_reaches_all(log: ListLog) -> None:
    shared, alone = Hub(log=log), Hub()
    with pytest.raises(ValueError, match="identity"):
        await alone.revoke("")
    with pytest.raises(RuntimeError, match="not running"):
        await shared.revoke("ada")
    assert await alone.revoke("ada") == 0
    alone._engine.revocations.has_unreachable_peers = True
    with pytest.raises(RuntimeError, match="--log"):
        await alone.revoke("ada")
