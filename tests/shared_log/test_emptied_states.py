"""A log that was emptied under running nodes: a node that starts then does not win with its initial value."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Entry, Hub, Log, PatchFormat, State
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from ..support.list_log import ListLog
from ..support.logs import PATIENT, SHARED, Interrupted
from ..support.redis_server import redis_server
from ..support.serving import running
from ..support.waiting import SECONDS
from .test_states import nodes, wait_for

Change = Callable[[State], Awaitable[None]]


@dataclass
class Emptied:
    """A log that can be emptied."""

    make: Callable[[], Log]
    empty: Callable[[], Awaitable[object]]


@pytest.fixture(params=SHARED)
async def log(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Emptied]:
    if request.param == "sqlite":
        folder, numbers = tmp_path / "log", count()
        folder.mkdir()

        async def remove() -> None:  # the file and its companions at once, as nodes open new ones meanwhile
            folder.rename(tmp_path / f"old-{next(numbers)}")
            folder.mkdir()

        yield Emptied(lambda: SQLiteLog(folder / "log.db", **PATIENT), remove)
    else:
        with redis_server(tmp_path) as server:
            await server.start()
            yield Emptied(lambda: RedisLog(server.url, **PATIENT), lambda: server.do("FLUSHALL"))


@asynccontextmanager
async def started(make: Callable[[], Log], initial: object, **options: Any) -> AsyncIterator[State]:
    """Run another node, with an initial value of its own."""
    hub = Hub(log=make())
    state = hub.state("s", initial, **options)
    async with running(hub):
        yield state


@pytest.mark.integration
@pytest.mark.parametrize("others", [1, 2])
async def test_what_other_nodes_hold_wins(log: Emptied, others: int) -> None:
    async with nodes(log.make, others, {"old": 1}) as found, AsyncExitStack() as stack:
        states = [state for _, state in found]
        await states[0].update({"n": 1, "text": "x" * 50})
        expected: dict[str, object] = {"old": 1, "n": 1, "text": "x" * 50}
        for moment in (0, 1.5):  # before a node has noticed it, and then
            for state in states:
                await wait_for(state, expected)
            await log.empty()
            await trio.sleep(moment)
            late = await stack.enter_async_context(started(log.make, {"declared": moment, "n": 0}))
            with trio.fail_after(SECONDS):
                await late.update({f"late {moment}": 1})
            expected[f"late {moment}"] = 1
            states.append(late)
        for state in states:
            await wait_for(state, expected)
    async with started(log.make, {}) as alone:
        assert alone.value == expected


# In memory, at every moment


def empty(log: ListLog) -> None:
    log.epoch, log.number, log.entries = str(int(log.epoch) + 1), 0, []


def kinds(log: ListLog) -> list[tuple[str, bool]]:
    """Return what the log's entries are, and whether each names the version that it follows."""
    fields = [json.loads(entry.record)[6] for entry in log.entries]
    return [(kind, bool(base)) for kind, base, _, _ in fields]


@pytest.mark.parametrize("moment", [0, 0.01, 0.5, 0.99, 1.01, 2.5])
@pytest.mark.parametrize("others", [1, 2, 3])
async def test_the_state_is_put_back_once(autojump_clock: MockClock, others: int, moment: float) -> None:
    log = ListLog()
    async with nodes(lambda: log, others, {"n": 0}) as found:
        await found[0][1].set({"n": 1})
        await trio.sleep(0.3)
        async with found[-1][0].subscribe("s", "t") as events:
            assert (await anext(events)).json() == {"n": 1}
            empty(log)
            await trio.sleep(moment)
            async with started(lambda: log, {"declared": 1}) as late:
                await trio.sleep(3)
                for _, state in found:
                    assert state.value == {"n": 1}
                assert late.value == {"n": 1}
                after = [await anext(events) for _ in range(2)]
                assert [event.event for event in after] == ["reset", "snapshot"]
                while events.queued_events:
                    after.append(await anext(events))
                assert json.loads(str(after[-1].data)) == {"n": 1} or after[-1].event == "merge-patch"
    whole = [kind for kind, _ in kinds(log) if kind in ("repeat", "set")]
    assert 1 <= len(whole) <= others
    assert len([kind for kind, follows in kinds(log) if follows]) <= others


@asynccontextmanager
async def cut_off(log: ListLog, initial: object, **options: Any) -> AsyncIterator[tuple[Interrupted, State]]:
    """Run a node that is cut off from the log; meanwhile, the log is emptied."""
    reached = Interrupted(log)
    async with started(lambda: reached, initial, **options) as state:
        await state.set({"n": 1, "rows": [1, 2]})
        reached.is_away = True
        await trio.sleep(2)  # until its read has ended
        empty(log)
        yield reached, state


CHANGES: list[tuple[PatchFormat, Change, object]] = [
    (PatchFormat.MERGE, lambda state: state.update({"m": 2}), {"n": 1, "rows": [1, 2], "m": 2}),
    (
        PatchFormat.MERGE,
        lambda state: state.update(lambda value: {"n": value["n"] + 5}),
        {"n": 5, "rows": [1, 2]},
    ),
    (PatchFormat.MERGE, lambda state: state.set({"n": 7}), {"n": 7}),
    (PatchFormat.MERGE, lambda state: state.set({"n": 0}), {"n": 0}),  # the initial value itself
    (PatchFormat.MERGE, lambda state: state.update({"m": None}), {"n": 0, "m": None}),  # no patch has null
    (PatchFormat.JSON, lambda state: state.update({"m": 2}), {"n": 0, "m": 2}),
]


@pytest.mark.parametrize(("patch", "change", "expected"), CHANGES)
async def test_what_was_changed_since_is_kept(
    autojump_clock: MockClock, patch: PatchFormat, change: Change, expected: object
) -> None:
    log = ListLog()
    first, later = cut_off(log, {}, patch=patch), started(lambda: log, {"n": 0}, patch=patch)
    async with first as (reached, state), later as late:
        await change(late)
        reached.is_away = False
        await trio.sleep(40)  # longer than it waits before it connects again
        assert (late.value, state.value) == (expected, expected)
        await state.set({"n": 9})
        await wait_for(late, {"n": 9})


async def test_a_log_that_is_emptied_twice(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = ListLog()
    add = log.add

    def lose(record: bytes) -> Entry:
        """Empty the log at the moment at which the state is put back."""
        if json.loads(record)[6][0] == "set":
            monkeypatch.undo()
            empty(log)
        return add(record)

    monkeypatch.setattr(log, "add", lose)
    async with cut_off(log, {}) as (reached, state), started(lambda: log, {"n": 0}) as late:
        await trio.sleep(1)
        reached.is_away = False
        await trio.sleep(40)
        assert log.epoch == "3"
        assert state.value == late.value == {"n": 1, "rows": [1, 2]}


async def test_what_only_began_is_not_put_back(autojump_clock: MockClock) -> None:
    log = ListLog()
    async with nodes(lambda: log, 2, {"n": "older"}) as ((_, one), (_, two)):
        await trio.sleep(2)
        assert kinds(log) == [("initial", False)] * len(log.entries)
        empty(log)
        async with started(lambda: log, {"n": "newer"}) as late:
            await trio.sleep(5)
            assert one.value == two.value == late.value  # of whichever came first
            assert late.value in ({"n": "older"}, {"n": "newer"})


async def test_an_initial_value_that_came_too_late_is_answered(autojump_clock: MockClock) -> None:
    log = ListLog()
    reached = Interrupted(log)
    async with started(lambda: reached, {}) as state:
        await state.set({"n": 1})
        reached.is_away = True
        log.publish("t", *map(str, range(100)))
        log.trim(50)
        async with started(lambda: log, {"n": "declared"}) as late:
            await trio.sleep(10)  # nobody has answered
            assert late.value == {"n": "declared"}
            reached.is_away = False
            await trio.sleep(40)
            assert late.value == state.value
