"""Idempotency keys: what is published twice with one key is stored once, on every kind of log."""

from __future__ import annotations

from functools import partial

import pytest
import trio
from trio.testing import MockClock

from trio_sse import EventRefused, Hub, IdempotentSession, KeyedRecord, LogSession
from trio_sse._log.idempotency import MOST_KEYS

from ..support.logs import Interrupted, MakeAny, MakeLog
from ..support.serving import running
from ..support.waiting import SECONDS


@pytest.mark.integration
async def test_an_event_with_a_known_key_is_stored_once(make_log: MakeAny) -> None:
    hub = Hub(log=make_log())
    with trio.fail_after(SECONDS):
        async with running(hub), hub.subscribe("t", "u") as events:
            for attempt in range(3):
                await hub.publish("t", f"paid {attempt}", idempotency_key="order 7")
                hub.publish_nowait("t", f"paid now {attempt}", idempotency_key="order 7")
            await hub.publish("u", "another topic", idempotency_key="order 7")
            await hub.publish("t", "another key", idempotency_key="order 8")
            await hub.publish("t", "no key")
            await hub.publish("t", "no key")
            received = [(await anext(events)).data for _ in range(5)]
            assert received == ["paid 0", "another topic", "another key", "no key", "no key"]


async def test_publishers_with_one_key_store_one_event(make_log: MakeAny) -> None:
    hub = Hub(log=make_log())
    with trio.fail_after(SECONDS):
        async with running(hub) as nursery, hub.subscribe("t") as events:
            async with trio.open_nursery() as publishers:
                for _ in range(50):
                    publishers.start_soon(lambda: hub.publish("t", "once", idempotency_key="k"))
            await hub.publish("t", "end")
            assert [(await anext(events)).data for _ in range(2)] == ["once", "end"]
            nursery.cancel_scope.cancel()


@pytest.mark.integration
async def test_a_key_counts_for_all_nodes(make_idempotent: MakeLog) -> None:
    log = make_idempotent()
    hubs = [Hub(log=log) for _ in range(3)]
    with trio.fail_after(SECONDS):
        async with (
            running(hubs[0]),
            running(hubs[1]),
            running(hubs[2]),
            hubs[0].subscribe("t") as events,
        ):
            for number in range(10):
                async with trio.open_nursery() as nursery:
                    for hub in hubs:
                        publish = partial(hub.publish, idempotency_key=f"key {number}")
                        nursery.start_soon(publish, "t", number)
            await hubs[0].publish("t", "end")
            assert [(await anext(events)).data for _ in range(11)] == [*map(str, range(10)), "end"]


@pytest.mark.integration
async def test_keys_are_bounded_in_number_and_time(make_idempotent: MakeLog) -> None:
    number = 0
    short = make_idempotent(max_keys=3, key_age=0.1)
    async with make_idempotent(max_keys=3).connect() as session, short.connect() as forgetful:

        async def is_stored(*keys: bytes, session: LogSession = session) -> list[bool]:
            nonlocal number
            before = (await session.tail()).number
            records = []
            for key in keys:
                number += 1
                records.append(KeyedRecord(number, key, key))
            assert isinstance(session, IdempotentSession)
            await session.append_once("p", records)
            end = await session.tail()
            entries = await session.read_backward(end.last, 10)
            stored = {entry.record for entry in entries if entry.number > before}
            return [key in stored for key in keys]

        assert await is_stored(b"a", b"b", b"a") == [True, True, True]  # once
        assert (await session.tail()).number == 2
        assert await is_stored(b"a", b"b") == [False, False]
        assert await is_stored(b"c", b"d") == [True, True]
        assert await is_stored(b"d", b"c", b"b") == [False, False, False]
        assert await is_stored(b"a") == [True]
        await trio.sleep(0.2)
        assert await is_stored(b"a", b"d", session=forgetful) == [True, True]


async def test_a_repeated_append_with_keys_is_stored_once(make_idempotent: MakeLog) -> None:
    async with make_idempotent().connect() as session:
        records = [KeyedRecord(1, b"a", b"k"), KeyedRecord(2, b"b", None), KeyedRecord(3, b"c", b"k")]
        for stored in ([1, 2], []):
            assert isinstance(session, IdempotentSession)
            assert await session.append_once("p", records) == stored
        assert (await session.tail()).number == 2


@pytest.mark.slow
async def test_keys_in_memory_are_bounded(autojump_clock: MockClock) -> None:
    hub = Hub()
    async with running(hub):
        for number in range(MOST_KEYS + 1):
            await hub.publish("t", "x", idempotency_key=str(number))
        await trio.testing.wait_all_tasks_blocked()
        assert hub.statistics().published == MOST_KEYS + 1
        await hub.publish("t", "x", idempotency_key=str(MOST_KEYS))
        await trio.testing.wait_all_tasks_blocked()
        assert hub.statistics().published == MOST_KEYS + 1
        for hours, published in ((23, MOST_KEYS + 1), (1.1, MOST_KEYS + 2)):
            await trio.sleep(hours * 3600)
            await hub.publish("t", "x", idempotency_key=str(MOST_KEYS))
            await trio.testing.wait_all_tasks_blocked()
            assert hub.statistics().published == published


@pytest.mark.parametrize("key", [7, "x" * 5000, "\ud800"])
async def test_a_key_that_is_none_is_refused(key: str) -> None:
    hub = Hub()
    async with running(hub):
        with pytest.raises((TypeError, ValueError)):
            await hub.publish("t", "x", idempotency_key=key)
        assert hub.statistics().published == 0


async def test_a_log_without_keys_refuses_them(make_shared: MakeLog) -> None:
    log = Interrupted(make_shared())
    log.publish_timeout = SECONDS
    hub = Hub(log=log)
    async with running(hub):
        with pytest.raises(EventRefused, match="no idempotency keys"):
            await hub.publish("t", "x", idempotency_key="k")
        await hub.publish("t", "x")
