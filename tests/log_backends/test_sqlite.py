"""A hub on SQLite whose process is killed, or whose file is locked, replaced or missing."""

from __future__ import annotations

import contextlib
import sqlite3
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import pytest
import trio

from trio_sse import Hub, LogRefused, LogUnavailable
from trio_sse._log_backends.sqlite_run_tables import RUN_SCHEMA
from trio_sse._shared_log.run_session import RunQuery, RunSession
from trio_sse.sqlite import SQLiteLog

from ..support.programs import running
from ..support.waiting import SECONDS

# Publishes forever, and says what has been stored.
PUBLISHER = """
import sys
import trio
from trio_sse import Hub
from trio_sse._log_backends.sqlite_run_tables import RUN_SCHEMA
from trio_sse._shared_log.run_session import RunQuery, RunSession
from trio_sse.sqlite import SQLiteLog

async def main(path, run):
    hub = Hub(log=SQLiteLog(path))
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        number = 0
        while True:
            await hub.publish("t", f"{run} {number}")
            print(number, flush=True)
            number += 1

trio.run(main, *sys.argv[1:])
"""


@asynccontextmanager
async def hub_on(path: Path, **options: float) -> AsyncIterator[Hub]:
    hub = Hub(log=SQLiteLog(path, **options))  # type: ignore[arg-type]  # floats only
    with trio.fail_after(SECONDS):
        async with trio.open_nursery() as nursery:
            await nursery.start(hub.run)
            yield hub
            nursery.cancel_scope.cancel()


async def all_of(hub: Hub) -> list[str]:
    """Return the data of all events in the log."""
    await hub.publish("t", "the last")
    found = []
    async with hub.subscribe("t", last_event_id=hub.first_event_id) as events:
        async for event in events:
            if event.data == "the last":
                break
            found.append(str(event.data))
    return found


@pytest.mark.integration
async def test_a_publisher_that_is_killed_loses_no_stored_event(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    confirmed = []
    for run in range(5):
        with running([sys.executable, "-c", PUBLISHER, path, str(run)]) as publisher:
            publisher.stdout.expect(rf"^{10 * (run + 1)}$")
            publisher.process.kill()
            publisher.wait()
            confirmed.append(len(publisher.stdout.rest().splitlines()))
    async with hub_on(path) as hub:
        stored = await all_of(hub)
    expected = []
    for run, count in enumerate(confirmed):
        # One more may be stored than was reported: the one under way.
        count += f"{run} {count}" in stored
        expected += [f"{run} {number}" for number in range(count)]
    assert stored == expected


async def test_a_client_resumes_after_a_restart(tmp_path: Path) -> None:
    async with hub_on(tmp_path / "log.db") as hub:
        for number in range(5):
            await hub.publish("t", str(number))
        async with hub.subscribe("t", last_event_id=hub.first_event_id) as events:
            seen = [await anext(events) for _ in range(2)]
    async with hub_on(tmp_path / "log.db") as hub:
        async with hub.subscribe("t", last_event_id=seen[-1].id) as events:
            missed = [await anext(events) for _ in range(3)]
        assert [event.data for event in [*seen, *missed]] == ["0", "1", "2", "3", "4"]
        await hub.publish("t", "5")


@pytest.mark.integration
async def test_a_file_that_is_locked_for_too_long_is_unavailable_and_used_again(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with hub_on(path, timeout=0.05, publish_timeout=2) as hub, hub.subscribe("t") as events:
        await hub.publish("t", "before")
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("begin immediate")
        with pytest.raises(
            LogUnavailable, match=r"not stored within 2 s: SQLite, .*log.db: database is locked"
        ):
            await hub.publish("t", "meanwhile")
        other.execute("rollback")
        other.close()
        while True:
            try:
                await hub.publish("t", "after")
            except LogUnavailable:  # it waits up to two seconds before it tries again
                continue
            break
        assert [(await anext(events)).data for _ in range(2)] == ["before", "after"]


async def test_a_file_that_is_not_a_database_is_refused_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("These are notes, and nothing that should be overwritten.\n" * 100)
    before = path.read_bytes()
    with pytest.raises(ExceptionGroup) as caught:
        async with hub_on(path):
            raise AssertionError
    assert caught.group_contains(LogRefused, match=r"SQLite, .*notes.txt: file is not a database")
    assert path.read_bytes() == before


async def test_a_file_of_an_older_version_gets_the_columns_that_it_lacks(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    older = RUN_SCHEMA.replace(", starts text not null default '', cancel_end text", "")
    assert older != RUN_SCHEMA
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.executescript(older)
        connection.execute(
            "insert into runs (id, created_at, until, ttl, holder, attempts, number, size)"
            " values ('old', 1, 1e12, 60, 'dead', 0, 0, 0)"
        )
    log = SQLiteLog(path)
    async with log.connect() as session, log.connect() as another:
        assert isinstance(session, RunSession)
        (run,) = await session.read_runs("me", [RunQuery("old")])
        assert run is not None
        assert run.starts == ()
        assert isinstance(another, RunSession)
        assert await another.cancel_run("old", "stop", "end")


@pytest.mark.parametrize("added", ["", ", milliseconds integer not null, record blob not null, new not null"])
async def test_a_file_whose_tables_are_others_is_refused_at_the_start(tmp_path: Path, added: str) -> None:
    path = tmp_path / "log.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(f"create table log_entries (number integer primary key{added})")
    with pytest.raises(LogRefused, match="another version has written it, whose table 'log_entries'"):
        async with SQLiteLog(path).connect():
            pass


async def test_a_missing_folder_is_refused_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ExceptionGroup) as caught:
        async with hub_on(tmp_path / "nowhere" / "log.db"):
            raise AssertionError
    assert caught.group_contains(LogRefused, match=r"nowhere/log.db: unable to open database file")


@pytest.mark.parametrize(
    ("path", "message"),
    [("", "needs a file"), (":memory:", "needs a file"), ("log\0.db", "cannot have a NUL character")],
)
def test_a_log_needs_a_file(path: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SQLiteLog(path)


async def test_an_id_from_before_the_first_event_is_not_the_end_of_an_emptied_log(tmp_path: Path) -> None:
    path = tmp_path / "log.db"
    async with hub_on(path) as hub:
        before = hub.last_event_id
        for number in range(3):
            await hub.publish("t", number)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("delete from log_entries")
    async with hub_on(path) as late, late.subscribe("t", last_event_id=before) as events:
        with trio.fail_after(SECONDS):
            assert (await anext(events)).event == "reset"
            await late.publish("t", "new")
            assert (await anext(events)).event is None


async def test_a_log_that_was_replaced_is_a_reset(tmp_path: Path) -> None:
    async with hub_on(tmp_path / "old.db") as hub:
        await hub.publish("t", "old")
        id = hub.last_event_id
        await hub.publish("t", "older")
    async with hub_on(tmp_path / "new.db") as hub, hub.subscribe("t", last_event_id=id) as events:
        event = await anext(events)
        assert (event.event, event.data) == ("reset", '{"reason":"unknown"}')
        await hub.publish("t", "new")
        assert (await anext(events)).data == "new"


@pytest.mark.parametrize("is_replaced", [False, True], ids=["by a new one", "by an older one"])
async def test_another_file_in_its_place_is_a_reset_for_all(tmp_path: Path, *, is_replaced: bool) -> None:
    path, other = tmp_path / "log.db", tmp_path / "other.db"
    if is_replaced:
        async with hub_on(other) as hub:
            await hub.publish("t", "other")
        await trio.sleep(0.002)  # for its own epoch
    async with (
        hub_on(path, publish_timeout=SECONDS) as one,
        hub_on(path, publish_timeout=SECONDS) as two,
        one.subscribe("t") as at_one,
        two.subscribe("t") as at_two,
    ):
        await one.publish("t", "old")
        assert [(await anext(events)).data for events in (at_one, at_two)] == ["old"] * 2
        if is_replaced:
            other.replace(path)
        else:
            path.unlink()
        for suffix in ("-wal", "-shm"):
            path.with_name(f"log.db{suffix}").unlink(missing_ok=True)
        if is_replaced:  # its entries are not new: only later ones are delivered
            assert [(await anext(events)).event for events in (at_one, at_two)] == ["reset"] * 2
        for hub in (one, two):
            await hub.publish("t", "new")
        if not is_replaced:
            assert [(await anext(events)).event for events in (at_one, at_two)] == ["reset"] * 2
        for events in (at_one, at_two):
            assert [(await anext(events)).data for _ in range(2)] == ["new"] * 2
        assert one.last_event_id == two.last_event_id


async def test_a_restored_backup_is_a_reset_whatever_was_stored_since(tmp_path: Path) -> None:
    path, copy = tmp_path / "log.db", tmp_path / "copy.db"
    async with hub_on(path) as hub:
        for number in range(3):
            await hub.publish("t", number)
    copy.write_bytes(path.read_bytes())
    async with hub_on(path, publish_timeout=SECONDS) as hub, hub.subscribe("t") as events:
        for number in range(3, 8):
            await hub.publish("t", number)
        lost = [await anext(events) for _ in range(5)]
        for suffix in ("-wal", "-shm"):
            path.with_name(f"log.db{suffix}").unlink(missing_ok=True)
        copy.replace(path)
        for number in range(6):
            await hub.publish("t", f"new {number}")
        assert (await anext(events)).event == "reset"
        async with hub.subscribe("t", last_event_id=lost[1].id) as again:
            assert (await anext(again)).event == "reset"


async def test_busy_threads_of_the_application_do_not_delay_it(tmp_path: Path) -> None:
    release = threading.Event()
    async with trio.open_nursery() as nursery:
        for _ in range(int(trio.to_thread.current_default_thread_limiter().total_tokens)):
            nursery.start_soon(lambda: trio.to_thread.run_sync(release.wait))
        try:
            async with hub_on(tmp_path / "log.db") as hub:
                await hub.publish("t", "x")
        finally:
            release.set()


async def test_changing_the_working_directory_keeps_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    async with hub_on(Path("log.db")) as hub:
        await hub.publish("t", "x")
        monkeypatch.chdir("/")
        await hub.publish("t", "y")
        assert await all_of(hub) == ["x", "y"]
