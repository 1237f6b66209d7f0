"""Runs that nodes share, when the store was restored to an older state, or is empty after an outage."""

from __future__ import annotations

import json
import math
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import trio

from trio_sse import LogUnavailable, Run, RunGone, RunRestarted, RunStatus, Server
from trio_sse._runs.beginning import SLACK
from trio_sse._runs.node import RunNode
from trio_sse._runs.store import RunStore
from trio_sse._shared_log.run_session import NewRun, RunChanges, RunSession, TextPiece
from trio_sse.sqlite import SQLiteLog

from ..support.list_log import ListLog
from ..support.logs import PATIENT, MakeLog
from ..support.run_nodes import Node, Reading, Steps, nodes, reading
from ..support.serving import in_memory
from ..support.waiting import SECONDS, until
from .test_node_failures import LONG, begin
from .test_runs import join, serve_runs

TABLES = ("runs", "run_texts", "run_pieces", "run_events")


def rows_of(path: Path) -> dict[str, list[Any]]:
    """Return what the store has."""
    with closing(sqlite3.connect(path, timeout=SECONDS)) as connection:
        return {table: connection.execute(f"select * from {table}").fetchall() for table in TABLES}


def restore(path: Path, rows: dict[str, list[Any]]) -> None:
    """Let the store have this again, and nothing else."""
    with closing(sqlite3.connect(path, timeout=SECONDS)) as connection, connection:
        for table in reversed(TABLES):
            connection.execute(f"delete from {table}")
        for table, found in rows.items():
            for row in found:
                connection.execute(f"insert into {table} values ({','.join('?' * len(row))})", row)


def node_of(node: Node) -> RunNode:
    assert node.runs._life.node is not None
    return node.runs._life.node


@pytest.mark.parametrize("is_resumable", [True, False], ids=["resumed", "lost"])
async def test_viewers_of_what_is_lost_begin_anew(tmp_path: Path, is_resumable: bool) -> None:
    path, steps = tmp_path / "log.db", Steps()
    node = Node(SQLiteLog(path, **PATIENT))
    node.runs.resumable(name="steps")(steps)
    new = NewRun("a-run-of-a-dead-node", None, None, 1.0, SLACK + LONG, LONG)
    if is_resumable:
        new = new._replace(function="steps", arguments="[]", attempts=3)
    server = Server(hub=node.hub)
    serve_runs(server, node.runs)
    with trio.fail_after(SECONDS * 2):
        async with SQLiteLog(path, **PATIENT).connect() as session, in_memory(server) as serving:
            assert isinstance(session, RunSession)
            await begin(session, "dead", new, "one ", "1")
            old = rows_of(path)
            more = RunChanges(new.id, 1, 1, 2, 8, [TextPiece(0, "text", b"two ")])
            await session.commit_runs("dead", LONG, [more])
            client = await join(serving, new.id)
            assert [(await client.event()).event for _ in range(2)] == ["run", "text"]
            cursor = client.last_event_id
            reader, waiter = Reading(node.runs.get(new.id)), node.runs.get(new.id)
            async with trio.open_nursery() as nursery:

                async def read() -> None:
                    with pytest.raises(RunRestarted, match="from the start"):
                        await reader.run()

                nursery.start_soon(read)
                nursery.start_soon(waiter.wait)
                await reader.has("one two ")
                restore(path, old)
                await session.hold_runs("dead", 0)
                node.take_over_now()
                if is_resumable:
                    steps.write("three")
                    steps.finish()
            text = "one three" if is_resumable else "one "
            for later in (client, await join(serving, new.id, cursor)):
                events = await later.rest()
                assert [event.event for event in events[:2]] == ["run", "text"]
                assert "".join([json.loads(str(event.data))["text"] for event in events[1:-1]]) == text
                assert json.loads(str(events[-1].data))["status"] == ("finished" if is_resumable else "lost")
            exact = await join(serving, new.id, f"{new.id[:8]}.0-0-4")  # it has nothing that is lost
            assert (await exact.event()).event == ("append" if is_resumable else "end")
            again = Reading(node.runs.get(new.id))
            await again.run()
            assert again.text == text
            with pytest.raises(ValueError, match="not one of this run"):
                async with node.runs.get(new.id).events(after=cursor):
                    pass


async def test_a_run_that_was_stopped_in_an_outage_is_put_back(tmp_path: Path) -> None:
    path, steps = tmp_path / "log.db", Steps()
    first, second = (Node(SQLiteLog(path, **PATIENT)) for _ in range(2))
    go_on: list[Any] = []

    for made in (first, second):

        @made.runs.resumable(name="steps")
        async def work(run: Run) -> None:
            go_on.append(run.checkpoint_value)
            await steps(run)

        if made is first:
            begin_at_first = work

    async with nodes(first, second):
        view = await first.runs.start(begin_at_first, key="k", owner="u")
        steps.do(lambda run: run.emit("event"))
        steps.write("one ")
        steps.do(lambda run: run.set_state("state"))
        steps.do(lambda run: run.checkpoint(1))
        async with reading(view, second.runs.get(view.id)) as readers:
            for reader in readers:
                await reader.has("one ")
            node = node_of(first)
            await until(lambda: first.runs._table.going_on and not go_on[1:])
            (record,) = first.runs._table.going_on
            await until(lambda: not record.pending)
            node._lease._until = node._lease.now() - 1  # the store was away for long
            node._keeper._check()
            await until(lambda: not first.runs._table.going_on)
            restore(path, {})
            for broken in (first, second):
                node_of(broken).store.outage_at = node_of(broken).store.failed_at = trio.current_time()
                node_of(broken).timeout = 0
                with pytest.raises(LogUnavailable):  # it may be stored again
                    await broken.runs.get(view.id).info()
                node_of(broken).timeout = SECONDS
            await node._keeper._renew()
            assert rows_of(path)["runs"] == []  # another node may have it, and is first
            node.store.failed_at = -math.inf
            await node._keeper._renew()
            assert node._keeper._stopped == {}
            second.take_over_now()
            steps.write("two ")
            steps.finish()
        assert go_on == [None, 1]
        for reader in readers:
            assert (reader.text, reader.events, reader.states) == ("one two ", ["event"], ['"state"'])
        assert (await second.runs.start(begin_at_first, key="k", owner="u")).id == view.id


async def test_what_was_stopped_long_ago_is_not_put_back(tmp_path: Path) -> None:
    """Others may have ended it since, and its time to live may be over."""
    node, steps = Node(SQLiteLog(tmp_path / "log.db", **PATIENT), ttl=1), Steps()
    node.runs.resumable(name="steps")(steps)
    async with nodes(node):
        view = await node.runs.start(steps)
        inner = node_of(node)
        inner._lease._until = inner._lease.now() - 10
        assert not inner._lease.shows_loss(1)
        inner._keeper._check()
        await until(lambda: not node.runs._table.going_on)
        restore(tmp_path / "log.db", {})
        inner.store.failed_at = -math.inf
        await inner._keeper._renew()
        assert inner._keeper._stopped == {}
        assert not inner._lease.shows_loss(1)
        assert inner._lease.shows_loss(100)
        with pytest.raises(RunGone):
            await view.info()


@pytest.mark.parametrize("has_some", [True, False], ids=["restored", "emptied"])
async def test_an_end_that_is_lost_is_stored_again(tmp_path: Path, has_some: bool) -> None:
    path, steps = tmp_path / "log.db", Steps()
    first, second = (Node(SQLiteLog(path, **PATIENT)) for _ in range(2))
    async with nodes(first, second):
        view = await first.runs.start(steps, key="k")
        async with reading(view) as (reader,):
            steps.write("one ")
            await reader.has("one ")
            old = rows_of(path)
            steps.write("two")
            steps.finish()
        await until(lambda: not first.runs._table.going_on)
        restore(path, old if has_some else {})
        node_of(first).store.outage_at = trio.current_time()
        await node_of(first)._keeper._renew()
        await until(lambda: any(row[4] == "k" or "finished" in str(row) for row in rows_of(path)["runs"]))
        again = Reading(second.runs.get(view.id))
        await again.run()
        assert (again.text, again.ends[0].status) == ("one two", RunStatus.FINISHED)
        ended = [info.ended_at for info in (await view.info(), await second.runs.get(view.id).info())]
        assert ended[0] == ended[1]


async def test_an_outage_counts_until_its_end() -> None:
    log = ListLog()
    log.is_away = True
    store = RunStore(log)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(store.run)
        await until(lambda: store.failed_at < math.inf)
        first = store.failed_at
        await until(lambda: store.failed_at > first)
        assert not store.is_settled(SECONDS)
        log.is_away = False
        last = trio.current_time()
        await store.wait_known()
        assert store.failed_at >= last
        assert store.outage_at == -math.inf  # there was nothing before that could be lost
        nursery.cancel_scope.cancel()


async def test_a_cancellation_is_not_forgotten_with_the_runs_node(make_shared: MakeLog) -> None:
    node = Node(make_shared())
    async with make_shared().connect() as session, nodes(node):
        assert isinstance(session, RunSession)
        await begin(session, "dead", NewRun("cancelled", None, None, 1.0, LONG, LONG), "so far")
        view = node.runs.get("cancelled")
        async with reading(view) as (reader,):
            await reader.has("so far")
            await view.cancel("stop")
            await session.hold_runs("dead", 0)
            node.take_over_now()
        assert (reader.ends[0].status, reader.ends[0].reason) == (RunStatus.CANCELLED, "stop")
        await view.cancel("too late")
        assert (await view.info()).reason == "stop"


async def test_who_waits_for_a_run_elsewhere_does_not_watch_it(make_shared: MakeLog) -> None:
    first, second = (Node(make_shared(), cancel_when_unwatched=LONG) for _ in range(2))
    async with make_shared().connect() as session, nodes(first, second):
        assert isinstance(session, RunSession)
        steps = Steps()
        view = await first.runs.start(steps)
        there = second.runs.get(view.id)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(there.wait)
            replicas = node_of(second)._replicas
            await until(lambda: replicas._pauses.get(view.id, 0) >= 0.2)  # it was read several times
            assert (await session.hold_runs(first.holder, LONG)).watched == []
            async with there.events():
                for _ in range(1000):
                    if (await session.hold_runs(first.holder, LONG)).watched:
                        break
                    await trio.sleep(0.01)
                assert (await session.hold_runs(first.holder, LONG)).watched == [view.id]
            steps.finish()
