"""Runs that nodes share: they are joined, listed and cancelled from any of them."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
import trio.testing

from trio_sse import LogUnavailable, Run, RunGone, RunLimitReached, Runs, RunStatus
from trio_sse._runs.record import RunRecord

from ..support.counted_log import CountedLog
from ..support.list_log import ListLog
from ..support.logs import MakeLog
from ..support.run_nodes import Node, Reading, Steps, nodes, reading
from ..support.waiting import SECONDS, until


async def test_a_run_is_shown_alike_on_every_node(make_shared: MakeLog) -> None:
    first, second, third = (Node(make_shared(), max_runs=3, max_runs_per_owner=1) for _ in range(3))
    steps = Steps()
    async with nodes(first, second, third):
        view = await first.runs.start(steps, key="k", owner="u")
        assert (await second.runs.start(steps, key="k", owner="u")).id == view.id
        with pytest.raises(RunLimitReached) as excinfo:
            await third.runs.start(steps, owner="u")
        assert excinfo.value.status == 429
        there = second.runs.get(view.id)
        steps.write("one ")
        async with reading(view, there, there) as readers:
            for reader in readers:
                await reader.has("one ")
            steps.do(lambda run: run.emit({"n": 1}, event="tool"))
            steps.write("plan", name="plan")
            steps.do(lambda run: run.set_state([1]))
            steps.write("two ö ")
            for reader in readers:
                await reader.has("one two ö ")
            async with reading(third.runs.get(view.id)) as late:
                await late[0].has("one two ö ")
                info = await there.info()
                assert (info.owner, info.status, info.viewers) == ("u", RunStatus.RUNNING, 2)
                assert [(item.id, item.size) for item in await third.runs.list()] == [(view.id, info.size)]
                steps.write("three")
                steps.finish()
        for reader in [*readers, *late]:
            assert reader.texts == {"text": "one two ö three", "plan": "plan"}
            assert reader.events == ['{"n":1}']
            assert reader.states == ["[1]"]
            (end,) = reader.ends
            assert (end.status, end.result) == (RunStatus.FINISHED, "7")
        for node in (first, second, third):
            ended = await node.runs.get(view.id).wait()
            assert (ended.status, ended.ended_at) == (RunStatus.FINISHED, info.ended_at or ended.ended_at)
            assert [item.status for item in await node.runs.list(owner="u")] == [RunStatus.FINISHED]
            assert await node.runs.list(owner="v") == []
            for id in ("unknown", f"{view.id}:0", f"{view.id}:e", "a\0b", "💡" * 2000, ""):
                unknown = node.runs.get(id)
                for ask in (unknown.info, unknown.wait, unknown.cancel):
                    with pytest.raises(RunGone):
                        await ask()
        assert second.runs._life.node is not None
        replicas = second.runs._life.node._replicas
        assert (replicas._records, replicas._due) == ({}, {})  # nobody looks any more


async def test_any_node_cancels_a_run(make_shared: MakeLog) -> None:
    first, second = Node(make_shared()), Node(make_shared(), cancel_when_unwatched=1000)
    async with nodes(first, second):
        view = await first.runs.start(Steps())
        there = second.runs.get(view.id)
        async with reading(view, there) as readers:
            await there.cancel("stop ö")
        assert [reader.ends[0].reason for reader in readers] == ["stop ö"] * 2
        assert [reader.ends[0].status for reader in readers] == [RunStatus.CANCELLED] * 2
        await there.cancel("too late")
        assert (await there.info()).reason == "stop ö"


async def test_a_cancellation_is_pushed_and_not_looked_for(make_shared: MakeLog) -> None:
    log = CountedLog(make_shared(), "hold_runs")
    long = {"lease": 600}  # a node looks into the store four times in this: not within the test
    first, second = Node(log, **long), Node(make_shared(), **long)
    async with nodes(first, second):
        view = await first.runs.start(Steps())
        await second.runs.get(view.id).cancel()
        assert (await view.wait()).status is RunStatus.CANCELLED
        assert log.calls["hold_runs"] == 0


async def test_a_flush_is_one_call_to_the_store_and_one_append_at_most(make_shared: MakeLog) -> None:
    log = CountedLog(make_shared(), "commit_runs", "append")
    first, second = Node(log), Node(make_shared())
    flushes, words, count = 0, 40, 3

    async def write(run: Run) -> None:
        for _ in range(words):
            await run.append("word ")
            await trio.sleep(0.002)

    async with nodes(first, second):
        await until(lambda: first.runs._flusher.commit is not None)  # the store is known
        commit = first.runs._flusher.commit
        assert commit is not None

        async def counted(records: Sequence[RunRecord]) -> Sequence[RunRecord]:
            nonlocal flushes
            flushes, before = flushes + 1, log.calls["commit_runs"]
            done = await commit(records)
            assert log.calls["commit_runs"] <= before + 1
            return done

        first.runs._flusher.commit = counted
        views = [await first.runs.start(write) for _ in range(count)]
        async with reading(*[second.runs.get(view.id) for view in views]) as readers:
            pass
        assert [reader.text for reader in readers] == ["word " * words] * count
        assert log.calls["append"] <= log.calls["commit_runs"] <= flushes < words * count


async def test_a_run_that_others_watch_is_not_cancelled(make_shared: MakeLog) -> None:
    first, second = (Node(make_shared(), cancel_when_unwatched=SECONDS) for _ in range(2))
    async with nodes(first, second):
        view = await first.runs.start(Steps())
        (record,) = first.runs._table.going_on
        first_time = record.unwatched_at
        async with second.runs.get(view.id).events():
            await until(lambda: record.unwatched_at > first_time)
        assert record.content.end is None


async def test_a_run_is_this_nodes_alone_on_a_log_that_stores_none() -> None:
    log = ListLog()
    first, second = Node(log), Node(log)
    steps = Steps()
    async with nodes(first, second):
        view = await first.runs.start(steps)
        with pytest.raises(RunGone):
            await second.runs.get(view.id).info()
        steps.write("here")
        steps.finish()
        async with reading(view) as (reader,):
            pass
        assert (reader.text, len(reader.ends)) == ("here", 1)
        assert [info.id for info in await first.runs.list()] == [view.id]


async def test_a_hub_that_ends_leaves_what_others_go_on_with(make_shared: MakeLog) -> None:
    first, second = Node(make_shared()), Node(make_shared())
    for node in (first, second):

        @node.runs.resumable(name="write")
        async def write(run: object, text: str) -> str:
            await run.append(f"{text}{run.attempt} ")  # type: ignore[attr-defined]
            if run.attempt == 1:  # type: ignore[attr-defined]
                await trio.sleep_forever()
            return "done"

        if node is first:
            begin = write

    async with nodes(first, second):
        plain = await first.runs.start(Steps())
        view = await first.runs.start(begin, "x")
        with pytest.raises(TypeError, match="JSON"):
            await first.runs.start(begin, object())  # type: ignore[arg-type]
        async with reading(*(second.runs.get(one.id) for one in (plain, view))) as (cancelled, resumed):
            await resumed.has("x1 ")
            first.scope.cancel()
            await first.has_ended.wait()
            second.take_over_now()
        assert cancelled.ends[0].reason == "the server was shut down"
        assert resumed.text == "x1 x2 "
        assert resumed.ends[0].result == '"done"'
        with pytest.raises(RuntimeError, match="does not run"):
            await first.runs.start(Steps())


async def test_a_store_that_is_away_refuses_new_runs() -> None:
    class Away(ListLog):
        publish_timeout = 0.01

    log = Away()
    log.is_away = True
    node = Node(log)
    async with nodes(node, are_known=False):
        with pytest.raises(LogUnavailable) as excinfo:
            await node.runs.start(Steps())
        assert excinfo.value.status == 503  # type: ignore[attr-defined]
        with pytest.raises(LogUnavailable):
            await node.runs.get("x").info()


def test_a_function_is_resumable_by_its_name() -> None:
    runs = Runs(Node(None).hub)

    @runs.resumable
    async def write(run: object) -> None: ...

    with pytest.raises(ValueError, match="already"):
        runs.resumable(write)
    with pytest.raises(TypeError, match="no name"):
        runs.resumable(Steps())
    with pytest.raises(ValueError, match="max_attempts"):
        runs.resumable(name="other", max_attempts=0)(write)
    with pytest.raises(ValueError, match="lease"):
        Runs(Node(None).hub, lease=0.5)


async def test_a_client_that_has_more_than_its_node_is_not_started_anew(
    make_shared: MakeLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = Node(make_shared()), Node(make_shared())
    steps = Steps()
    async with nodes(first, second):
        view = await first.runs.start(steps)
        there = second.runs.get(view.id)
        async with reading(view, there) as (reader, late), trio.open_nursery() as nursery:
            steps.write("one ")
            await reader.has("one ")
            await late.has("one ")
            node = second.runs._life.node
            assert node is not None
            read, go_on = node._replicas._read, trio.Event()

            async def read_late(records: list[RunRecord]) -> None:
                await go_on.wait()
                await read(records)

            monkeypatch.setattr(node._replicas, "_read", read_late)
            steps.write("two ")
            await reader.has("one two ")
            moved = Reading(there)
            moved.cursor = reader.cursor
            nursery.start_soon(moved.run)
            await trio.testing.wait_all_tasks_blocked()
            steps.write("three")
            steps.finish()
            go_on.set()
        assert (moved.text, late.text) == ("three", "one two three")
