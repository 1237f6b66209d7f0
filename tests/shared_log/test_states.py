"""States over a shared log: all hubs show the same one, on whichever it is changed."""

from __future__ import annotations

import json
import random
from asyncio import CancelledError
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Hub, Log, LogUnavailable, PatchFormat, State, StateConflict
from trio_sse._hub.hub import engine_of
from trio_sse.redis import RedisLog

from ..state.test_state import Reader
from ..support.cancellations import foreign_cancellation
from ..support.logs import PATIENT, SHARED, MakeLog, logs
from ..support.redis_server import redis_server
from ..support.requirements import needs
from ..support.serving import running
from ..support.waiting import SECONDS, until
from .test_foreign_logs import ListLog


@pytest.fixture(params=[*SHARED, "list"])
async def make_log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[MakeLog]:
    if request.param == "list":  # a log of one's own, without an end
        log = ListLog()
        log.publish_timeout = SECONDS
        yield lambda **options: log
    else:
        async with logs(request.param, tmp_path) as make:
            yield make


@asynccontextmanager
async def nodes(
    log: Callable[[], Log], count: int, initial: object = None, **options: Any
) -> AsyncIterator[list[tuple[Hub, State]]]:
    """Run hubs that share a log, each with the state "s"."""
    found = []
    async with AsyncExitStack() as stack:
        for _ in range(count):
            hub = Hub(log=log(), **options)
            state = hub.state("s", {} if initial is None else initial)
            await stack.enter_async_context(running(hub))
            found.append((hub, state))
        yield found


async def wait_for(state: State, value: object) -> None:
    """Wait until a node has read this value."""
    with trio.fail_after(SECONDS):
        while state.value != value:  # noqa: ASYNC110  # another node
            await trio.sleep(0.005)


async def read_until(hub: Hub, value: object, **options: Any) -> Reader:
    """Return a reader that has joined now and read up to this value."""
    reader = Reader()
    with trio.fail_after(SECONDS):
        async with hub.subscribe("s", **options) as events:
            async for event in events:
                reader.take(event)
                if reader.value == value:
                    return reader
    raise AssertionError("the hub has ended")


# One order


async def test_every_node_shows_what_any_node_has_set(make_log: MakeLog) -> None:
    async with nodes(make_log, 2, {"n": 0, "text": "x" * 100}) as ((one, here), (two, there)):
        async with one.subscribe("s") as at_one, two.subscribe("s") as at_two:
            await here.update({"n": 1})
            assert here.value == {"n": 1, "text": "x" * 100}
            await wait_for(there, here.value)
            await there.set({"n": 2, "text": "x" * 100})
            with trio.fail_after(SECONDS):
                seen = [[await anext(events) for _ in range(3)] for events in (at_one, at_two)]
        assert [event.event for event in seen[0]] == ["snapshot", "merge-patch", "merge-patch"]
        assert seen[0][1:] == seen[1][1:]
        assert (await read_until(one, there.value)).kinds == ["snapshot"]


@pytest.mark.integration
async def test_updates_of_several_nodes_at_once_lose_nothing(make_log: MakeLog) -> None:
    async with nodes(make_log, 3) as found:

        async def add(state: State, node: int) -> None:
            for number in range(10):
                await state.update({f"{node}/{number}": number})

        async def count(state: State) -> None:
            await state.update(lambda value: {"count": value.get("count", 0) + 1})

        with trio.fail_after(4 * SECONDS):
            async with trio.open_nursery() as nursery:
                for node, (_, state) in enumerate(found):
                    nursery.start_soon(add, state, node)
                    for _ in range(20):
                        nursery.start_soon(count, state)
        expected = {f"{node}/{number}": number for node in range(3) for number in range(10)} | {"count": 60}
        for hub, state in found:
            await wait_for(state, expected)
            assert (await read_until(hub, expected)).kinds == ["snapshot"]


@pytest.mark.integration
async def test_the_last_set_wins_on_all_nodes(make_log: MakeLog) -> None:
    async with nodes(make_log, 3, 0) as found, AsyncExitStack() as stack:
        ends = [await stack.enter_async_context(hub.subscribe("end")) for hub, _ in found]

        async def set_all(state: State, first: int) -> None:
            for number in range(first, first + 20):
                await state.set({"n": number, "text": "x" * 50})

        with trio.fail_after(4 * SECONDS):
            async with trio.open_nursery() as nursery:
                for node, (_, state) in enumerate(found):
                    nursery.start_soon(set_all, state, 100 * (node + 1))
            await found[0][0].publish("end", "")
            for events in ends:  # each node has read the whole log before
                await anext(events)
        values = [state.value for _, state in found]
        assert values[0] == values[1] == values[2]
        assert isinstance(values[0], dict)
        assert values[0]["n"] in (119, 219, 319)


@pytest.mark.integration
@pytest.mark.parametrize("patch", PatchFormat)
async def test_readers_of_all_nodes_agree_whenever_they_join(make_log: MakeLog, patch: PatchFormat) -> None:
    chance = random.Random(7)
    log = make_log()
    hubs = [Hub(log=log, history=chance.choice([5, 1000])) for _ in range(3)]
    states = [hub.state("s", {"n": 0, "text": "x" * 200}, patch=patch) for hub in hubs]
    finals: list[Any] = []

    async def visit(cursor: str | None = None) -> None:
        reader = Reader()
        while True:
            hub = chance.choice(hubs)
            options: Any = chance.choice([{}, {"interval": 0.02}, {"batch": 0.02}])
            async with hub.subscribe("s", last_event_id=cursor, **options) as events:
                with trio.move_on_after(chance.uniform(0.01, 0.3)):
                    async for event in events:
                        reader.take(event)
                        cursor = event.id
            if isinstance(reader.value, dict) and reader.value.get("end") == 3:
                finals.append(reader.value)
                return

    async def change(state: State, node: int) -> None:
        for number in range(30):
            await state.update({f"{node}": number, "list": [number] * 3})
            await trio.sleep(chance.uniform(0, 0.01))
        await state.update(lambda value: {"end": value.get("end", 0) + 1})

    with trio.fail_after(4 * SECONDS):
        async with AsyncExitStack() as stack:
            for hub in hubs:
                await stack.enter_async_context(running(hub))
            async with trio.open_nursery() as nursery:
                for node, state in enumerate(states):
                    nursery.start_soon(change, state, node)
                for _ in range(8):
                    nursery.start_soon(visit)
                    await trio.sleep(0.03)
            for state in states:
                await wait_for(state, states[0].value)
    assert finals == [states[0].value] * 8


# Nodes that start


@pytest.mark.integration
async def test_a_node_that_starts_has_the_state_before_its_first_subscriber(make_log: MakeLog) -> None:
    log = make_log()
    hub = Hub(log=log)
    state = hub.state("s", {"n": 0})
    async with running(hub):
        for number in range(1, 8):
            await state.update({"n": number})
        for number in range(50):
            await hub.publish("t", number)
    for _ in range(2):
        later = Hub(log=log, history=10)  # which reaches back to no entry of the state
        state = later.state("s", {"n": "declared"})
        async with running(later):
            assert state.value == {"n": 7}
            async with later.subscribe("s") as events:
                assert (await anext(events)).json() == {"n": 7}
            await state.update({"m": 1})
            assert state.value == {"n": 7, "m": 1}
            await state.set({"n": 7})


@pytest.mark.integration
async def test_the_snapshot_of_a_quiet_state_stays_in_the_log(make_log: MakeLog) -> None:
    log = make_log(max_events=60)
    async with nodes(lambda: log, 2, history=60) as ((one, state), (_, other)):
        await state.set({"quiet": True})
        for number in range(400):
            await one.publish("t", number)
            if number % 20 == 0:
                await trio.sleep(0.05)
        await wait_for(other, {"quiet": True})
    async with nodes(lambda: log, 1, "not this") as ((_, state),):
        assert state.value == {"quiet": True}


async def test_a_state_that_the_log_has_dropped_is_asked_for(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = ListLog()
    async with nodes(lambda: log, 2) as ((_, state), _):
        await state.set({"n": 1})
        for _ in range(3):  # as a log does that keeps few entries
            log.add(b'["t","x",null,null,null,"m"]')
        await trio.sleep(1)
        log.entries = [*[entry._replace(record=b"") for entry in log.entries[:-1]], log.entries[-1]]
        log.entries = [entry if entry.record else entry._replace(epoch="", number=0) for entry in log.entries]
        async with nodes(lambda: log, 1, {"n": "declared"}) as ((hub, late),):
            async with hub.subscribe("s") as events:
                with trio.fail_after(1.5):
                    assert (await anext(events)).json() == {"n": 1}
            await late.update({"m": 2})
            await trio.sleep(1)
            assert state.value == {"n": 1, "m": 2}


async def test_a_state_that_nobody_has_any_more_is_the_declared_one(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    log = ListLog()
    log.number = 100
    log.add(b'["t","x",null,null,null,"m"]')
    async with nodes(lambda: log, 2, {"n": "declared"}) as ((hub, state), (_, other)):
        async with hub.subscribe("s") as events:
            with trio.fail_after(7):
                assert (await anext(events)).json() == {"n": "declared"}
        await state.update({"m": 1})
        await trio.sleep(1)
        assert other.value == {"n": "declared", "m": 1}
        await trio.sleep(10)
        hub.state("new", 0)
        async with hub.subscribe("new") as events:
            with trio.fail_after(1.5):
                assert (await anext(events)).json() == 0
    assert "is not in the log any more, and no hub has it" in caplog.text


@pytest.mark.integration
async def test_after_many_changes_there_is_a_snapshot(
    make_log: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse._state.shared_states._MOST_CHANGES", 5)
    log = make_log()
    async with nodes(lambda: log, 2, {"n": 0, "text": "x" * 100}) as ((hub, state), _):
        async with hub.subscribe("s") as events:
            for number in range(1, 40):
                await state.update({"n": number})
            with trio.fail_after(SECONDS):
                kinds = [(await anext(events)).event for _ in range(40)]
        assert kinds.count("snapshot") <= 2  # those that repeat the state are not delivered
    records = []
    async with log.connect() as session:
        for entry in await session.read("0-0", 1000):
            records.append(json.loads(entry.record))
    assert len([record for record in records if record[6][0] == "repeat"]) >= 4


async def test_a_state_may_be_declared_while_the_hub_runs(make_log: MakeLog) -> None:
    log = make_log()
    async with nodes(lambda: log, 1) as ((_, state),):
        await state.set({"n": 5})
        late = Hub(log=log)
        async with running(late):
            await late.publish("t", 1)
            with trio.fail_after(SECONDS):
                other = late.state("s", {"n": "declared"})
                async with late.subscribe("s") as events:  # which waits until the state is found
                    assert (await anext(events)).json() == {"n": 5}
                    await other.update({"m": 6})
                    reader = Reader()
                    reader.value = {"n": 5}
                    while reader.value != {"n": 5, "m": 6}:
                        reader.take(await anext(events))
            await wait_for(state, {"n": 5, "m": 6})
            fresh = late.state("fresh", 0)
            await fresh.set(1)
            assert fresh.value == 1


async def test_a_client_resumes_on_another_node(make_log: MakeLog) -> None:
    async with nodes(make_log, 2, {"n": 0, "text": "x" * 100}) as ((one, state), (two, other)):
        async with one.subscribe("s") as events:
            await state.update({"n": 1})
            with trio.fail_after(SECONDS):
                while json.loads(str((event := await anext(events)).data)).get("n") != 1:
                    pass
        await state.update({"n": 2})
        await state.update({"n": 3})
        await wait_for(other, {"n": 3, "text": "x" * 100})
        reader = Reader()
        reader.value = {"n": 1, "text": "x" * 100}
        with trio.fail_after(SECONDS):
            async with two.subscribe("s", last_event_id=event.id) as events:
                for _ in range(2):
                    reader.take(await anext(events))
        assert (reader.kinds, reader.value) == (["merge-patch"] * 2, other.value)


async def test_a_hub_takes_a_log_that_is_named_after_its_states(make_log: MakeLog) -> None:
    log = make_log()
    hub = Hub()
    state = hub.state("s", {"n": 0})
    engine_of(hub).use_log(log)
    async with nodes(lambda: log, 1) as ((_, other),), running(hub):
        await state.set({"n": 1})
        await wait_for(other, {"n": 1})
        state.close()
        await hub.publish("s", "ordinary")
        await other.set({"n": 2})


# Refusals, and what waits


async def test_what_cannot_be_a_state_is_refused_at_once(make_log: MakeLog) -> None:
    async with nodes(make_log, 1, [1]) as ((hub, state),):
        with pytest.raises(TypeError, match="only an object has members"):
            await state.update({"n": 1})
        with pytest.raises(TypeError, match="names of a state's members"):
            await state.set({1: 2})
        with pytest.raises(TypeError, match="names of a state's members"):
            state.update_nowait({"a": {1: 2}})
        with pytest.raises(ValueError, match="is a state"):
            await hub.publish("s", 1)
        await state.set([1])
        state.set_nowait([2])
        await wait_for(state, [2])
        state.set_nowait({"a": 1})
        state.update_nowait({"b": 2})
        state.update_nowait(lambda value: {"c": value["b"] + 1})
        await wait_for(state, {"a": 1, "b": 2, "c": 3})
        state.close()
        with pytest.raises(trio.ClosedResourceError, match="was closed"):
            await state.set(1)
        with pytest.raises(trio.ClosedResourceError, match="was closed"):
            state.set_nowait(1)
    with pytest.raises(trio.ClosedResourceError):
        await hub.state("other", 1).set(1)


@pytest.mark.parametrize("make_error", [ValueError, SystemExit, CancelledError, foreign_cancellation])
async def test_an_update_that_raises_fails_alone(
    make_log: MakeLog, make_error: Callable[[], BaseException]
) -> None:
    def fail(value: object) -> dict[str, object]:
        raise make_error()

    async with nodes(make_log, 1, {"n": 0}) as ((hub, state),):
        with pytest.raises((ValueError, SystemExit, CancelledError, trio.Cancelled)):
            await state.update(fail)
        await state.update({"n": 1})
        await until(lambda: state.value == {"n": 1})
        assert hub.is_running


async def test_other_programs_change_no_state(make_log: MakeLog) -> None:
    log = make_log()
    records = [
        b'["s","{\\"n\\":9}","snapshot",null,null,"m",["change","1.77","t"]]',  # of a version that is none
        b'["s","{\\"n\\":9}","merge-patch",null,null,"m",["change",null,"t",""]]',  # needs a version
        b'["s","{\\"n\\":","snapshot",null,null,"m",["change",null,"t",""]]',
        b'["s","{\\"n\\":9}","other",null,null,"m",["change",null,"t",""]]',
        b'["s","{\\"n\\":9}","snapshot",null,null,"m",["nonsense",null,"t"]]',
        b'["s","{\\"n\\":9}","snapshot",null,null,"m",7]',
    ]
    async with nodes(lambda: log, 2) as ((hub, state), (_, other)):
        await state.set({"n": 1})
        async with log.connect() as session:
            await session.append("another", list(enumerate(records, 1)))
        await state.update({"m": 2})
        await wait_for(other, {"n": 1, "m": 2})
        assert (await read_until(hub, other.value)).kinds == ["snapshot"]
    async with nodes(lambda: log, 1) as ((_, state),):
        assert state.value == {"n": 1, "m": 2}


async def test_a_state_that_others_change_each_time_is_a_conflict(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ListLog()
    async with nodes(lambda: log, 2) as ((_, state), (two, _)):
        await state.set({"n": 0})
        await wait_all_tasks_blocked()
        append, version = log.add, 0

        def interfere(record: bytes) -> None:
            nonlocal version
            if json.loads(record)[0] == "s":
                version += 1
                append(b'["s","{\\"v\\":%d}","snapshot",null,null,"m",["change",null,"t",""]]' % version)
            append(record)

        monkeypatch.setattr(log, "add", interfere)
        with pytest.raises(StateConflict, match="other nodes change the state 's' all the time"):
            await state.update({"n": 1})
        assert state.value == {"v": version}
        assert version == 32
        await state.set({"n": 2})  # which is sent whole at last
        assert state.value == {"n": 2}
        await two.publish("t", 1)


async def test_while_the_log_is_away_a_change_fails_in_time(autojump_clock: MockClock) -> None:
    def away() -> None:
        raise LogUnavailable("it is away")

    log = ListLog()
    log.broken["connect"] = away
    async with nodes(lambda: log, 1, 0) as ((hub, state),):
        async with hub.subscribe("s") as events:
            began = trio.current_time()
            with pytest.raises(LogUnavailable):
                await state.set(1)
            assert trio.current_time() - began == pytest.approx(log.publish_timeout, abs=0.5)
            state.set_nowait(2)
            await trio.sleep(60)
            assert events.queued_events == 0
            assert state.value == 0
            del log.broken["connect"]
            with trio.fail_after(60):
                assert (await anext(events)).json() in (0, 2)
                await wait_for(state, 2)
        log.broken["append"] = away
        with pytest.raises(LogUnavailable):
            await state.update({}) if isinstance(state.value, dict) else await state.set(3)


async def test_a_change_that_waits_when_the_hub_ends_is_an_error(autojump_clock: MockClock) -> None:
    def away() -> None:
        raise LogUnavailable("it is away")

    log, errors = ListLog(), []

    async def change(state: State) -> None:
        try:
            await state.set(1)
        except (trio.ClosedResourceError, LogUnavailable) as error:
            errors.append(error)

    hub = Hub(log=log)
    state = hub.state("s", 0)
    async with trio.open_nursery() as nursery, running(hub):
        log.broken["append"] = away
        nursery.start_soon(change, state)
        await trio.sleep(1)
    assert len(errors) == 1


# A log that is lost


@needs("redis-server")
@pytest.mark.integration
async def test_a_state_survives_an_emptied_log(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        await server.start()
        async with nodes(lambda: RedisLog(server.url, **PATIENT), 2) as ((one, state), (_, other)):
            await state.set({"n": 1})
            await wait_for(other, {"n": 1})
            async with one.subscribe("s") as events, one.subscribe("s", "t") as mixed:
                assert (await anext(events)).json() == {"n": 1}
                assert (await anext(mixed)).json() == {"n": 1}
                await trio.sleep(0.2)  # until both nodes have stored what they begin with
                await server.do("FLUSHALL")
                with trio.fail_after(SECONDS):
                    await one.publish("t", "new")
                    await wait_for(state, {"n": 1})
                    await other.update({"m": 2})
                    assert state.value in ({"n": 1}, {"n": 1, "m": 2})
                    reader, kinds = Reader(), []
                    while reader.value != {"n": 1, "m": 2}:
                        reader.take(await anext(events))
                    while "reset" not in kinds:
                        kinds.append((await anext(mixed)).event)
            await wait_for(state, {"n": 1, "m": 2})
        async with nodes(lambda: RedisLog(server.url, **PATIENT), 1) as ((_, state),):
            assert state.value == {"n": 1, "m": 2}


@needs("redis-server")
@pytest.mark.integration
async def test_nodes_agree_while_redis_is_killed_and_comes_back(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server:
        await server.start()
        done: set[str] = set()
        async with nodes(lambda: RedisLog(server.url, timeout=0.5), 2) as found:

            async def change(state: State, node: int) -> None:
                for number in range(30):
                    name = f"{node}/{number}"
                    while name not in done:
                        try:
                            await state.update({name: number})
                            done.add(name)
                        except (LogUnavailable, StateConflict):
                            await trio.sleep(0.1)
                    await trio.sleep(0.02)

            with trio.fail_after(4 * SECONDS):
                async with trio.open_nursery() as nursery:
                    for node, (_, state) in enumerate(found):
                        nursery.start_soon(change, state, node)
                    for _ in range(2):
                        await trio.sleep(0.3)
                        server.kill()
                        await trio.sleep(0.2)
                        await server.start()
            assert len(done) == 60
            for _, state in found:
                with trio.fail_after(SECONDS):
                    while set(state.value) != done:  # type: ignore[call-overload]  # noqa: ASYNC110
                        await trio.sleep(0.01)
            assert found[0][1].value == found[1][1].value


@pytest.mark.parametrize("size", [1_000, 17_000, 200_000])
async def test_a_large_state_is_no_loss(
    make_log: MakeLog, caplog: pytest.LogCaptureFixture, size: int
) -> None:
    """Its entries are too large to be remembered, and are still known for the hub's own when read."""
    async with nodes(make_log, 2) as ((hub, state), (other, seen)):
        received: list[str | None] = []
        async with other.subscribe("t") as subscription, hub.subscribe("t") as own:
            for number in range(3):
                value = {"text": str(number) * size}
                await state.set(value)
                await wait_for(seen, value)
                await hub.publish("t", number)
                for events in (subscription, own):
                    event = await anext(events)
                    received.append(event.event or str(event.data))
        assert received == ["0", "0", "1", "1", "2", "2"]
    assert not caplog.records
