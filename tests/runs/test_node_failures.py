"""Runs that nodes share, when nodes die, the store is away, or loses something."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
import trio

from trio_sse import Run, RunGone, RunStatus
from trio_sse._runs.beginning import SLACK
from trio_sse._runs.content import RunContent
from trio_sse._runs.record import RunRecord
from trio_sse._runs.status import RunEnd
from trio_sse._runs.stored import encode_end
from trio_sse._runs.table import RunTable
from trio_sse._shared_log.run_session import NewRun, RunBounds, RunChanges, RunQuery, RunSession, TextPiece
from trio_sse.redis import RedisLog
from trio_sse.sqlite import SQLiteLog

from ..support.logs import PATIENT, MakeLog
from ..support.redis_server import redis_server
from ..support.requirements import needs
from ..support.run_nodes import Node, Reading, Steps, nodes, reading
from ..support.waiting import SECONDS, until

LONG = SECONDS * 10
FREE = RunBounds(None, None)
LOST = encode_end(RunEnd(RunStatus.LOST, "its node died", None, 1.0))


async def begin(
    session: RunSession, holder: str, new: NewRun, text: str, checkpoint: str | None = None
) -> None:
    """Begin a run as a node would, and store what it has written first."""
    assert await session.create_run(holder, LONG, new, RunBounds(None, None)) == new.id
    pieces = [TextPiece(0, "text", text.encode())]
    changes = RunChanges(new.id, 1, 0, 1, len(text), pieces, checkpoint=checkpoint)
    await session.commit_runs(holder, LONG, [changes])


async def test_runs_of_a_dead_node_end_as_lost_or_go_on(make_shared: MakeLog) -> None:
    first, second = Node(make_shared()), Node(make_shared())
    done = []
    for node in (first, second):

        @node.runs.resumable(name="count")
        async def count(run: Run, upto: int) -> int:
            begin_at = int(run.checkpoint_value)
            assert run.text() == "1 2 half"
            await run.append(" ")
            for number in range(begin_at, upto):
                await run.append(f"{number + 1} ")
                await run.checkpoint(number + 1)
                assert run.checkpoint_value == number + 1
            done.append(run.attempt)
            return run.attempt

    async with make_shared().connect() as session, nodes(first, second):
        assert isinstance(session, RunSession)
        plain = NewRun("plain-run-of-dead", None, "k", 1.0, LONG, LONG)
        resumable = NewRun("resumable-of-dead", None, None, 1.0, SLACK + LONG, LONG, "count", "[5]", 3)
        await begin(session, "dead", plain, "so far")
        await begin(session, "dead", resumable, "1 2 half", "2")
        views = [node.runs.get(id) for node in (first, second) for id in (plain.id, resumable.id)]
        async with reading(*views) as readers:
            for reader in readers:
                await until(lambda reader=reader: reader.text)  # type: ignore[misc]
            await session.hold_runs("dead", 0)  # its lease is over
            first.take_over_now()
            second.take_over_now()
        for lost in (readers[0], readers[2]):
            assert (lost.text, lost.ends[0].reason) == ("so far", "its node died")
        for resumed in (readers[1], readers[3]):
            assert resumed.text == "1 2 half 3 4 5 "
            assert resumed.ends[0].result == "2"
        assert done == [2]
        late = RunChanges(resumable.id, 1, 1, 2, 1, [TextPiece(0, "text", b"x")], end=LOST)
        await session.commit_runs("dead", LONG, [late])
        ended = await second.runs.get(resumable.id).info()
        assert ended.status is RunStatus.FINISHED


async def test_a_node_stops_runs_that_were_taken_over(make_shared: MakeLog) -> None:
    node = Node(make_shared())
    stopped: list[str] = []
    steps = Steps()

    async def work(run: Run) -> None:
        try:
            await steps(run)
        finally:
            stopped.append(run.id)

    async with make_shared().connect() as session, nodes(node):
        assert isinstance(session, RunSession)
        view = await node.runs.start(work)
        steps.write("before ")
        async with reading(view) as (reader,):
            await reader.has("before ")
            await session.hold_runs(node.holder, 0)
            taken = await session.take_over_runs("other", LONG, [], LOST, 10)
            assert list(taken.lost) == [view.id]
            steps.write("never shown")
        assert stopped == [view.id]
        assert (reader.text, reader.ends[0].status) == ("before ", RunStatus.LOST)
        assert node.runs._table.all() == []


async def test_a_run_that_has_stored_nothing_yet_goes_on_elsewhere(make_shared: MakeLog) -> None:
    """Its id is known to clients, so it must not be removed when its node has lost the lease."""
    first, second = Node(make_shared()), Node(make_shared())
    go_on = trio.Event()

    async def slow(run: Run) -> int:
        await go_on.wait()
        await run.append("x")
        return run.attempt

    for node in (first, second):
        node.runs.resumable(slow)
    async with nodes(first, second):
        view = await first.runs.start(slow)
        holder = first.runs._life.node
        assert holder is not None
        holder._lease._until = -math.inf  # the store was away for long
        holder._keeper._check()
        await until(lambda: not first.runs._table.going_on)
        for _ in range(2):
            await holder._keeper._renew()
        await until(lambda: second.runs._life.node)
        second.take_over_now()
        go_on.set()
        async with reading(view, second.runs.get(view.id)) as readers:
            pass
        for reader in readers:
            assert (reader.text, reader.ends[0].result) == ("x", "2")


async def test_a_resumed_run_is_put_back_into_a_store_that_was_emptied(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    node, steps = Node(SQLiteLog(path, **PATIENT)), Steps()
    node.runs.resumable(name="steps")(steps)
    new = NewRun("resumed", None, None, 1.0, SLACK + LONG, LONG, "steps", "[]", 3)
    async with SQLiteLog(path, **PATIENT).connect() as session, nodes(node):
        assert isinstance(session, RunSession)
        await begin(session, "dead", new, "one ", "1")
        await session.hold_runs("dead", 0)
        await until(lambda: node.runs._life.node)
        node.take_over_now()
        async with reading(node.runs.get(new.id)) as (reader,):
            await reader.has("one ")
            steps.do(lambda run: run.checkpoint(2))
            steps.write("two ")
            await reader.has("one two ")
            with closing(sqlite3.connect(path, timeout=SECONDS)) as connection, connection:
                for table in ("run_texts", "run_pieces", "run_events", "runs"):
                    connection.execute(f"delete from {table}")
            steps.write("three")
            await reader.has("one two three")
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("select checkpoint from runs").fetchall() == [("2",)]
            steps.finish()
        assert reader.ends[0].status is RunStatus.FINISHED


@needs("redis-server")
@pytest.mark.integration
@pytest.mark.parametrize("has_lost", [False, True], ids=["kept", "lost"])
async def test_redis_is_killed_in_mid_run(tmp_path: Path, has_lost: bool) -> None:
    with redis_server(tmp_path) as server:
        await server.start()
        first, second = (Node(RedisLog(server.url, publish_timeout=SECONDS)) for _ in range(2))
        steps = Steps()
        async with nodes(first, second):
            view = await first.runs.start(steps, key="k")
            async with reading(view, second.runs.get(view.id)) as readers:
                steps.write("one ", name="text")
                steps.do(lambda run: run.emit("event"))
                steps.do(lambda run: run.set_state("first"))
                for reader in readers:
                    await until(lambda reader=reader: reader.states)  # type: ignore[misc]
                server.kill()
                if has_lost:
                    server.forget()
                steps.write("two ")
                steps.write("plan", name="plan")
                await until(lambda: not steps.receiver.statistics().current_buffer_used)
                await server.start()
                for reader in readers:
                    await reader.has("one two ")
                steps.do(lambda run: run.set_state("second"))
                steps.finish()
            for reader in readers:
                assert reader.texts == {"text": "one two ", "plan": "plan"}
                assert reader.events == ["event"]
                assert reader.states == ['"first"', '"second"']
                assert [end.status for end in reader.ends] == [RunStatus.FINISHED]
            again = Reading(second.runs.get((await second.runs.start(steps, key="k")).id))
            await again.run()
            assert (again.texts, again.events) == (readers[0].texts, ["event"])


async def keys_of_runs(kind: str, url: str) -> int:
    """Return how many keys or rows of runs there are."""
    if kind == "sqlite":
        with closing(sqlite3.connect(url)) as connection:
            tables = ("runs", "run_texts", "run_pieces", "run_events")
            counts = [connection.execute(f"select count(*) from {table}").fetchone()[0] for table in tables]
        return sum(counts)
    import coredis

    async with coredis.Redis.from_url(url, decode_components=True) as client:
        keys: set[bytes] = await client.keys("*:runs:*")
        return len([key for key in keys if b":lease:" not in key])


@pytest.mark.parametrize(
    "kind", ["sqlite", pytest.param("redis", marks=[needs("redis-server"), pytest.mark.integration])]
)
async def test_nothing_is_left_after_the_time_to_live(tmp_path: Path, kind: str) -> None:
    with redis_server(tmp_path) as server:
        if kind == "redis":
            await server.start()
        url = server.url if kind == "redis" else str(tmp_path / "log.db")
        first, second = (
            Node(RedisLog(url, **PATIENT) if kind == "redis" else SQLiteLog(url, **PATIENT), ttl=0.5)
            for _ in range(2)
        )
        async with nodes(first, second):
            for number in range(3):
                steps = Steps()
                view = await first.runs.start(steps, key=f"k{number}", owner="u")
                async with reading(second.runs.get(view.id)) as (reader,):
                    steps.write("x" * 5000)
                    steps.do(lambda run: run.emit("event"))
                    steps.do(lambda run: run.set_state("state"))
                    await reader.has("x" * 5000)
                    assert await keys_of_runs(kind, url)
                    if number:
                        steps.finish()
                    else:
                        await second.runs.get(view.id).cancel()
            with trio.fail_after(SECONDS):
                while await keys_of_runs(kind, url):  # another process
                    first.take_over_now()  # it drops what is old
                    await trio.sleep(0.1)
            assert await first.runs.list() == []


PROGRAM = """
import sys, trio
from trio_sse import Hub, Runs
from trio_sse.sqlite import SQLiteLog

async def write(run):
    for number in range(10**9):
        await run.append(f"{number} ")
        if number == 20:
            print(run.id, flush=True)
        await trio.sleep(0.001)

async def main():
    hub = Hub(log=SQLiteLog(sys.argv[1]))
    runs = Runs(hub, lease=600)
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await runs.start(write)

trio.run(main)
"""


@pytest.mark.integration
async def test_a_worker_is_killed_in_mid_run(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    command = [sys.executable, "-c", PROGRAM, str(path)]
    worker = subprocess.Popen(command, stdout=subprocess.PIPE)  # noqa: ASYNC220  # it takes no time
    try:
        assert worker.stdout is not None
        id = (await trio.to_thread.run_sync(worker.stdout.readline)).decode().strip()
        first, second = Node(SQLiteLog(path, **PATIENT)), Node(SQLiteLog(path, **PATIENT))
        async with nodes(first, second):
            async with reading(first.runs.get(id), second.runs.get(id)) as readers:
                await until(lambda: all(len(reader.text) > 100 for reader in readers))
                worker.send_signal(signal.SIGKILL)
                worker.wait()
                with closing(sqlite3.connect(path)) as connection:
                    connection.execute("update run_leases set until = 0")  # a long time has passed
                    connection.commit()
                first.take_over_now()
                second.take_over_now()
            texts = [reader.text for reader in readers]
            numbers = [int(number) for number in texts[0].split()]
            assert texts[0] == texts[1]
            assert numbers == list(range(len(numbers)))
            assert [reader.ends[0].reason for reader in readers] == ["its node died"] * 2
            assert (await first.runs.get(id).info()).status is RunStatus.LOST
    finally:
        worker.kill()
        worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()


async def test_a_node_learns_by_its_lease_what_nobody_has_told_it(make_shared: MakeLog) -> None:
    node = Node(make_shared())
    async with make_shared().connect() as session, nodes(node):
        assert isinstance(session, RunSession)
        cancelled, other = await node.runs.start(Steps()), await node.runs.start(Steps())
        keeper = node.runs._life.node._keeper  # type: ignore[union-attr]
        assert await session.cancel_run(cancelled.id, "stop", LOST)
        await session.read_runs("another", [RunQuery(other.id, (), is_watched=True)])
        await session.create_run(node.holder, LONG, NewRun("never", None, None, 1.0, LONG, LONG), FREE)
        for _ in range(2):
            await keeper._renew()
        assert (await cancelled.wait()).reason == "stop"
        record = node.runs._table.find(other.id)
        assert record is not None
        assert record.held.watched_until > trio.current_time()
        with pytest.raises(RunGone):
            await node.runs.get("never").info()
        await session.hold_runs(node.holder, 0)
        await session.take_over_runs("another", LONG, [], LOST, 10)
        async with reading(other) as (reader,):
            await keeper._renew()
        assert reader.ends[0].reason == "its node died"


async def test_a_run_that_cannot_be_read_harms_no_other(
    make_shared: MakeLog, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(make_shared())

    @node.runs.resumable(name="f")
    async def never(run: Run) -> None:
        raise AssertionError("it has no content")

    async with make_shared().connect() as session, nodes(node):
        assert isinstance(session, RunSession)
        new = NewRun("broken", None, None, 1.0, SLACK + LONG, LONG, "f", "[]", 2)
        await session.create_run("dead", 0.001, new, RunBounds(None, None))
        await session.commit_runs("dead", 0.001, [RunChanges("broken", 1, 0, 1, 1, events=[b"{"])])
        await session.hold_runs("dead", 0)
        await until(lambda: node.runs._life.node)
        node.take_over_now()
        await until(lambda: "a run cannot be resumed" in caplog.text)
        assert node.runs._life.node is not None
        await until(lambda: not node.runs._life.node._keeper._busy)  # type: ignore[union-attr]
        for _ in range(2):
            await node.runs._life.node._keeper._renew()
        node.take_over_now()
        with trio.fail_after(SECONDS):
            while (await node.runs.get("broken").info()).status is not RunStatus.LOST:  # noqa: ASYNC110
                await trio.sleep(0.01)
        steps = Steps()
        view = await node.runs.start(steps)
        steps.finish()
        assert (await view.wait()).status is RunStatus.FINISHED


def test_a_run_that_goes_on_here_again_is_not_forgotten_with_the_old_one() -> None:
    table = RunTable(ttl=1, max_kept_bytes=0, patience=math.inf)
    old, new = (
        RunRecord(RunContent("i", 1.0), owner="u", key="k", on_watch=lambda record: None) for _ in range(2)
    )
    table.add(old)
    table.add(new)
    table.discard(old)
    assert table.find("i") is new
    table.discard(old)
    table.discard(new)
    assert table.find("i") is None
    assert table.all() == []
