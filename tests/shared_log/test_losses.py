"""What a log loses under running hubs: a subscriber that missed one receives a reset."""

from __future__ import annotations

import os
import shutil
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from trio_sse import Entry, Hub, Log, LogSession, LogUnavailable, RenewableSession, Subscription
from trio_sse._shared_log.acknowledged import AcknowledgedNumbers
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from ..support.list_log import ListLog
from ..support.logs import MakeLog
from ..support.redis_server import RedisServer, redis_server
from ..support.requirements import needs
from ..support.serving import running
from ..support.subscriptions import take
from ..support.waiting import SECONDS, until

COMPANIONS = ("-wal", "-shm")


class Node:
    """A hub that publishes numbers and reads those of all nodes."""

    def __init__(self, name: str, log: Log) -> None:
        self.name = name
        self.hub = Hub(log=log)
        self.number = 0
        self.acknowledged: list[str] = []
        self.received: list[str | None] = []  # `None` is a reset

    async def read(self, *, task_status: trio.TaskStatus[None]) -> None:
        async with self.hub.subscribe("t") as events:
            task_status.started()
            async for event in events:
                self.received.append(None if event.event == "reset" else str(event.data))

    async def publish(self) -> None:
        while True:
            self.number += 1
            name = f"{self.name}-{self.number}"
            try:
                await self.hub.publish("t", name)
            except LogUnavailable:
                continue
            self.acknowledged.append(name)
            await trio.sleep(0.001)

    def missing(self, acknowledged: Sequence[str]) -> list[str]:
        """Return what was acknowledged, but not received, without a reset where it would have been."""
        position = {name: index for index, name in enumerate(self.received) if name is not None}
        resets = [index for index, name in enumerate(self.received) if name is None]
        missing, before = [], -1  # `before` is where the event before the missing ones is
        for index, name in enumerate(acknowledged):
            if name in position:
                before = position[name]
                continue
            after = next((position[other] for other in acknowledged[index:] if other in position), before)
            if not any(before <= reset <= after for reset in resets):
                missing.append(name)
        return missing


@asynccontextmanager
async def two_nodes(make: Callable[[], Log]) -> AsyncIterator[list[Node]]:
    """Run two nodes that publish and read; check at the end that nothing is missing without a reset."""
    nodes = [Node(name, make()) for name in "ab"]
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            for node in nodes:
                await nursery.start(node.hub.run)
                await nursery.start(node.read)
            async with trio.open_nursery() as publishing:
                for node in nodes:
                    publishing.start_soon(node.publish)
                yield nodes
                publishing.cancel_scope.cancel()
            async with trio.open_nursery() as publishing:  # until the last that were stored must be there
                for node in nodes:
                    publishing.start_soon(node.publish)
                await until_more(nodes)
                publishing.cancel_scope.cancel()
            nursery.cancel_scope.cancel()
    for node in nodes:
        for other in nodes:
            newest = max(index for index, name in enumerate(other.acknowledged) if name in node.received)
            assert node.missing(other.acknowledged[: newest + 1]) == []


async def until_more(nodes: list[Node]) -> None:
    """Wait until each node has received more events of each."""
    seen = [len(node.received) for node in nodes]

    def is_so() -> bool:
        return all(
            {"a", "b"} <= {str(name)[0] for name in node.received[before:] if name is not None}
            for node, before in zip(nodes, seen, strict=True)
        )

    await until(is_so)


# SQLite


def do(path: Path, *statements: str) -> None:
    """Execute statements as another program does."""
    connection = sqlite3.connect(path, timeout=20, isolation_level=None)
    for statement in statements:
        connection.execute(statement)
    connection.close()


def remove(path: Path) -> None:
    for suffix in ("", *COMPANIONS):
        path.with_name(f"{path.name}{suffix}").unlink(missing_ok=True)


def copy_of(path: Path) -> Path:
    copy = path.with_name("copy.db")
    source, target = sqlite3.connect(path, timeout=20), sqlite3.connect(copy)
    source.backup(target)
    source.close()
    target.close()
    return copy


Damage = Callable[[Path], Awaitable[None]]


def truncate(*suffixes: str) -> Damage:
    async def damage(path: Path) -> None:
        for suffix in suffixes:
            os.truncate(f"{path}{suffix}", 0)

    return damage


def delete(*suffixes: str) -> Damage:
    async def damage(path: Path) -> None:
        for suffix in suffixes:
            os.unlink(f"{path}{suffix}")

    return damage


def execute(*statements: str) -> Damage:
    async def damage(path: Path) -> None:
        do(path, *statements)

    return damage


async def truncate_after_a_checkpoint(path: Path) -> None:
    do(path, "pragma wal_checkpoint(truncate)")
    os.truncate(path, 0)


async def replace_by_a_copy(path: Path) -> None:
    copy = copy_of(path)
    await trio.sleep(0.3)
    copy.replace(path)


async def overwrite_by_a_copy(path: Path) -> None:
    copy = copy_of(path)
    await trio.sleep(0.3)
    shutil.copyfile(copy, path)


async def restore_a_copy(path: Path) -> None:
    copy = copy_of(path)
    await trio.sleep(0.3)
    source, target = sqlite3.connect(copy), sqlite3.connect(path, timeout=20)
    source.backup(target)
    source.close()
    target.close()


DAMAGES: dict[str, Damage] = {
    "truncated": truncate(""),
    "truncated with its companions": truncate("", "-wal"),
    "truncated write-ahead log": truncate("-wal"),
    "truncated after a checkpoint": truncate_after_a_checkpoint,
    "deleted": delete(""),
    "deleted with its companions": delete("", *COMPANIONS),
    "deleted companions": delete(*COMPANIONS),
    "replaced by a copy": replace_by_a_copy,
    "overwritten by a copy": overwrite_by_a_copy,
    "restored from a copy": restore_a_copy,
    "emptied": execute("delete from log_entries"),
    "emptied with its sequence": execute("delete from log_entries", "delete from sqlite_sequence"),
    "without its newest entries": execute(
        "delete from log_entries where number > (select max(number) from log_entries) - 20"
    ),
    "without its table": execute("drop table log_entries"),
    "without its epoch": execute("drop table log_state"),
    "vacuumed": execute("vacuum"),
}


@pytest.mark.integration  # 4 s of CPU time
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
async def test_damage_to_the_file_of_sqlite(tmp_path: Path, damage: Damage) -> None:
    path = tmp_path / "log.db"

    async with two_nodes(lambda: SQLiteLog(path, publish_timeout=0.5, timeout=0.5)) as nodes:
        await until_more(nodes)
        await damage(path)
        await trio.sleep(0.5)  # what was read before the damage is delivered
        with trio.move_on_after(4) as waiting:
            await until_more(nodes)
        if waiting.cancelled_caught:  # the file is broken, which publishers see; an operator removes it
            remove(path)
            await until_more(nodes)


# Redis


async def flush(server: RedisServer) -> None:
    await server.do("FLUSHALL")


async def restart_empty(server: RedisServer) -> None:
    server.kill()
    server.forget()
    await server.start()


async def fail_over_to_an_older_copy(server: RedisServer) -> None:
    dump = {}
    for key in ("log", "state"):
        dump[key] = await server.do(f"COPY {{trio-sse}}:{key} {{old}}:{key} REPLACE")
    await trio.sleep(0.3)
    for key in ("log", "state"):
        await server.do(f"RENAME {{old}}:{key} {{trio-sse}}:{key}")


async def drop_the_newest(server: RedisServer) -> None:
    await server.do("XTRIM {trio-sse}:log MAXLEN 0")


async def delete_the_state(server: RedisServer) -> None:
    await server.do("DEL {trio-sse}:state")


@needs("redis-server")
@pytest.mark.integration
@pytest.mark.parametrize(
    "damage", [flush, restart_empty, fail_over_to_an_older_copy, drop_the_newest, delete_the_state]
)
async def test_damage_to_redis(tmp_path: Path, damage: Callable[[RedisServer], Awaitable[None]]) -> None:
    with redis_server(tmp_path) as server:
        await server.start()
        async with two_nodes(lambda: RedisLog(server.url, publish_timeout=1, timeout=0.5)) as nodes:
            await until_more(nodes)
            await damage(server)
            await until_more(nodes)


# What only the node that published can know


async def reset_of(events: Subscription) -> None:
    with trio.fail_after(SECONDS):
        assert (await anext(events)).event == "reset"


class HeldUp:
    """A log whose reads can be held up."""

    publish_timeout = SECONDS

    def __init__(self, log: Log) -> None:
        self.is_reading = trio.Event()
        self.may_read = trio.Event()
        self._log = log

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[LogSession]:
        async with self._log.connect() as session:
            read = session.read

            async def held_up(after: str, limit: int) -> Sequence[Entry]:
                self.is_reading.set()
                await self.may_read.wait()
                return await read(after, limit)

            session.read = held_up  # type: ignore[method-assign]
            yield session


@pytest.mark.integration
@pytest.mark.parametrize("reads_first", ["the publisher", "the other node"])
@pytest.mark.parametrize("kind", ["sqlite", pytest.param("redis", marks=needs("redis-server"))])
@pytest.mark.parametrize("has_keys", [False, True])
async def test_acknowledged_events_that_nobody_has_read_are_a_reset_for_all(
    tmp_path: Path, kind: str, reads_first: str, has_keys: bool
) -> None:
    with redis_server(tmp_path) as server:
        if kind == "redis":
            await server.start()

        def make() -> HeldUp:
            if kind == "sqlite":
                return HeldUp(SQLiteLog(tmp_path / "log.db", timeout=SECONDS))
            return HeldUp(RedisLog(server.url, timeout=SECONDS))

        async def lose_the_newest() -> None:
            if kind == "sqlite":
                do(
                    tmp_path / "log.db",
                    "delete from log_entries where number > 2",
                    "update sqlite_sequence set seq = 2 where name = 'log_entries'",
                )
            else:
                found = await server.do("XREVRANGE {trio-sse}:log + - COUNT 3")
                ids = [line.decode() for line in found.split() if b"-" in line and b"[" not in line]
                await server.do(f"XDEL {{trio-sse}}:log {' '.join(ids)}")
                await server.do("HSET {trio-sse}:state number 2")

        async def read(events: Subscription, count: int) -> list[str]:
            return [event.event or str(event.data) for event in [await anext(events) for _ in range(count)]]

        logs = make(), make()
        one, two = (Hub(log=log) for log in logs)
        with trio.fail_after(SECONDS):
            async with trio.open_nursery() as nursery:
                await nursery.start(one.run)
                await nursery.start(two.run)
                async with one.subscribe("t") as at_one, two.subscribe("t") as at_two:
                    for log in logs:
                        await log.is_reading.wait()
                    for number in range(5):
                        key = f"key {number}" if has_keys else None
                        await one.publish("t", number, idempotency_key=key)
                    await lose_the_newest()
                    if reads_first == "the publisher":
                        logs[0].may_read.set()
                        assert await read(at_one, 3) == ["0", "1", "reset"]
                        logs[1].may_read.set()
                        # SQLite's log returns no entries of an old epoch; Redis's still has them.
                        before = [] if kind == "sqlite" else ["0", "1"]
                        assert await read(at_two, len(before) + 1) == [*before, "reset"]
                    else:
                        logs[1].may_read.set()
                        assert await read(at_two, 2) == ["0", "1"]
                        logs[0].may_read.set()
                        assert await read(at_one, 3) == ["0", "1", "reset"]
                        assert await read(at_two, 1) == ["reset"]
                nursery.cancel_scope.cancel()


def test_numbers_are_missing_when_later_ones_were_read() -> None:
    numbers = AcknowledgedNumbers()
    assert numbers.newest == 0
    assert not numbers.is_missing(99)
    for number in (1, 2, 3, 5):  # 4 was never stored
        numbers.add(number)
    assert numbers.newest == 5
    assert [numbers.read(number) for number in (1, 2)] == [False, False]
    assert not numbers.is_missing(2)
    assert numbers.is_missing(3)
    assert numbers.read(5)
    assert not numbers.is_missing(99)
    numbers.add(5)  # its acknowledgement arrives after it was read
    assert numbers.newest == 0
    numbers.add(6)
    numbers.add(7)
    numbers.forget(6)
    assert not numbers.is_missing(6)
    assert numbers.is_missing(7)


@pytest.mark.integration
async def test_a_hub_that_was_behind_receives_a_reset_too(make_renewable: MakeLog) -> None:
    """The log loses entries that one node has read and another one has not: only the first can notice."""
    log = make_renewable()
    one, two = Hub(log=log), Hub(log=log)
    async with trio.open_nursery() as nursery:
        await nursery.start(one.run)
        await nursery.start(two.run)
        async with one.subscribe("t") as at_one, two.subscribe("t") as at_two:
            async with log.connect() as session:
                assert isinstance(session, RenewableSession)
                await session.renew((await session.tail()).epoch)  # as `one` does
            await reset_of(at_one)
            await reset_of(at_two)
            await two.publish("t", "next")
            with trio.fail_after(SECONDS):
                assert [(await anext(events)).data for events in (at_one, at_two)] == ["next", "next"]
        nursery.cancel_scope.cancel()


async def test_a_new_epoch_begins_once(make_renewable: MakeLog) -> None:
    async with make_renewable().connect() as session:
        await session.append("p", [(1, b"a"), (2, b"b")])
        old = await session.tail()
        for _ in range(2):
            assert isinstance(session, RenewableSession)
            await session.renew(old.epoch)
        new = await session.tail()
        assert int(new.epoch) > int(old.epoch)
        assert new.number == 0
        await session.append("p", [(2, b"b"), (3, b"c")])
        (entry,) = await session.read(new.last, 10)
        assert entry[1:] == (new.epoch, 1, b"c")
        assert int(entry.id.partition("-")[0]) >= int(new.epoch)
        assert (await session.tail()) == (new.epoch, 1, entry.id)


async def test_entries_that_were_lost_before_they_were_read_are_a_reset() -> None:
    log = ListLog()
    hub = Hub(log=log)
    async with running(hub), hub.subscribe("t") as events:
        log.publish("t", "a")
        assert [event.data for event in await take(events, 1)] == ["a"]
        log.number += 1  # of an entry that is gone
        log.publish("t", "b")
        reset, event = await take(events, 2)
    assert (reset.event, reset.json(), event.data) == ("reset", {"reason": "expired"}, "b")
