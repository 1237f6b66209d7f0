"""What sessions do with runs: what every log that stores them must do alike."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import trio

from trio_sse._shared_log.run_session import (
    NewRun,
    Outcome,
    Refusal,
    RunBounds,
    RunChanges,
    RunQuery,
    RunSession,
    StoredRun,
    TakenOver,
    TextPiece,
)

from ..support.logs import MakeLog, skip_without
from ..support.waiting import SECONDS

LONG = SECONDS * 10
FREE = RunBounds(None, None)
NOTHING = TakenOver([], [], [])


@pytest.fixture
async def session(make_shared: MakeLog) -> AsyncIterator[RunSession]:
    await skip_without(make_shared(), RunSession)
    async with make_shared().connect() as session:
        assert isinstance(session, RunSession)
        yield session


def new(id: str, owner: str | None = None, key: str | None = None, **options: object) -> NewRun:
    return NewRun(id, owner, key, 12.5, LONG, LONG)._replace(**options)  # type: ignore[arg-type]


def text(id: str, number: int, piece: str, attempt: int = 1) -> RunChanges:
    pieces = [TextPiece(0, "text", piece.encode())]
    return RunChanges(id, attempt, number - 1, number, size=1, pieces=pieces)


async def read(
    session: RunSession, id: str, holder: str = "reader", *, is_watched: bool = False
) -> StoredRun:
    (found,) = await session.read_runs(holder, [RunQuery(id, (), is_watched=is_watched)])
    assert found is not None
    return found


async def test_a_run_is_stored_and_read_from_any_position(session: RunSession) -> None:
    odd = "ö "
    assert await session.create_run("h", LONG, new("i", "o" + odd, "k" + odd), FREE) == "i"
    long = b"x" * 10_000
    pieces = [TextPiece(0, "text", "aö".encode()), TextPiece(1, "plan", b"\x00p"), TextPiece(0, "text", b"b")]
    changes = RunChanges("i", 1, 0, 1, 17, pieces, [b"first", b""], (2, '"s"'), "{}")
    more = RunChanges("i", 1, 1, 2, 18, [TextPiece(1, "plan", long), TextPiece(1, "plan", long)], [b"third"])
    assert await session.commit_runs("h", LONG, [changes, more]) == [Outcome.STORED] * 2
    run = await read(session, "i")
    texts = ["aöb".encode(), b"\x00p" + 2 * long]
    assert run == StoredRun(
        *("i", "o" + odd, "k" + odd, 12.5, True, 1, 2, 18, [4, 20_002], 3, 2, None),
        names=["text", "plan"],
        pieces=texts,
        events=[b"first", b"", b"third"],
        state='"s"',
    )
    for known in (0, 1, 2, 4096, 4097, 15_000, 20_002, 30_000):
        query = RunQuery("i", (3, known), events=2, state=2)
        absent, bare, found = await session.read_runs("r", [RunQuery("absent"), RunQuery("i"), query])
        assert absent is None
        assert bare is not None
        assert found is not None
        assert (found.pieces, found.events, found.state) == ([b"b", texts[1][known:]], [b"third"], None)
        assert (bare.lengths, list(bare.pieces)) == ([4, 20_002], [])


async def test_a_key_starts_one_run_and_bounds_count_all(session: RunSession) -> None:
    assert await session.create_run("h", LONG, new("a", "o", "k"), RunBounds(1, 1)) == "a"
    assert await session.create_run("h", LONG, new("a", "o", "k"), RunBounds(1, 1)) == "a"  # repeated
    assert await session.create_run("other", LONG, new("b", "o", "k"), RunBounds(1, 1)) == "a"
    assert await session.create_run("h", LONG, new("c", "o"), RunBounds(1, 1)) is Refusal.RUNS
    assert await session.create_run("h", LONG, new("c", "o"), RunBounds(2, 1)) is Refusal.RUNS_OF_OWNER
    assert await session.create_run("h", LONG, new("c", None, "k"), RunBounds(2, 1)) == "c"
    assert await session.create_run("h", LONG, new("d", "", "k"), FREE) == "d"
    assert {run.id for run in await session.list_runs(None, 10)} == {"a", "c", "d"}
    assert [run.id for run in await session.list_runs("o", 10)] == ["a"]
    assert len(await session.list_runs(None, 2)) == 2
    end = RunChanges("a", 1, 0, 1, 0, end="over")
    assert await session.commit_runs("h", LONG, [end]) == [Outcome.STORED]
    assert await session.create_run("h", LONG, new("e", "o", "k"), FREE) == "a"  # as long as it is kept
    assert await session.create_run("h", LONG, new("e", "o"), RunBounds(3, 1)) == "e"
    await session.forget_run("other", "e")
    await session.forget_run("h", "c")
    assert {run.id for run in await session.list_runs(None, 10)} == {"a", "d", "e"}
    assert await session.create_run("h", LONG, new("f", None, "k"), FREE) == "f"


async def test_changes_are_stored_once_and_in_order(session: RunSession) -> None:
    await session.create_run("h", LONG, new("i"), FREE)
    first, second, third = (text("i", number, f"{number} ") for number in (1, 2, 3))
    assert await session.commit_runs("h", LONG, [first, first, third]) == [
        *(Outcome.STORED, Outcome.STORED, Outcome.BEHIND)
    ]
    assert await session.commit_runs("h", LONG, [text("absent", 1, ""), second._replace(end="over")]) == [
        *(Outcome.MISSING, Outcome.STORED)
    ]
    assert await session.commit_runs("h", LONG, [second._replace(end="over"), third]) == [
        *(Outcome.STORED, Outcome.LOST)
    ]
    run = await read(session, "i")
    assert (run.pieces, run.number, run.end) == ([b"1 2 "], 2, "over")
    await session.create_run("h", LONG, new("j"), FREE)
    assert await session.commit_runs("other", LONG, [text("j", 1, "x")]) == [Outcome.LOST]
    assert await session.commit_runs("h", LONG, [text("j", 1, "x", attempt=2)]) == [Outcome.LOST]


async def test_a_holder_learns_of_cancellations_and_viewers(session: RunSession) -> None:
    for id in ("i", "j"):
        await session.create_run("h", LONG, new(id), FREE)
    assert await session.cancel_run("i", "stop ö", "end")
    assert not await session.cancel_run("absent", "stop", "end")
    await read(session, "j", is_watched=True)
    await read(session, "i", "h", is_watched=True)  # its holder's own viewers need no note
    held = await session.hold_runs("h", LONG)
    assert (sorted(held.ids), held.cancelled, held.watched) == (["i", "j"], {"i": "stop ö"}, ["j"])
    assert await session.commit_runs("h", LONG, [text("i", 1, "x"), text("j", 1, "x")]) == [
        *(Outcome.STORED, Outcome.WATCHED)
    ]
    await session.commit_runs("h", LONG, [RunChanges("i", 1, 1, 2, 0, end="stopped")])
    held = await session.hold_runs("h", LONG)
    assert (held.ids, held.cancelled) == (["j"], {})
    assert await session.cancel_run("i", "late", "end")
    assert (await read(session, "i")).end == "stopped"


async def test_runs_of_a_lost_holder_are_taken_over_once(session: RunSession) -> None:
    resumable: dict[str, Any] = {"function": "f", "arguments": "[1]", "attempts": 2}
    await session.create_run("dead", LONG, new("plain"), FREE)
    await session.create_run("dead", LONG, new("known", **resumable), FREE)
    await session.create_run("dead", LONG, new("unknown", **resumable)._replace(function="g"), FREE)
    await session.create_run("alive", LONG, new("other"), FREE)
    changes = text("known", 1, "so far ")._replace(checkpoint="7")
    await session.commit_runs("dead", LONG, [changes])
    assert await session.take_over_runs("h", LONG, ["f"], "lost", 10) == NOTHING
    await session.hold_runs("dead", 0.001)
    await trio.sleep(0.05)
    assert await session.cancel_run("known", "stop", "end")
    assert await session.take_over_runs("h", LONG, ["f"], "lost", 10, released_only=True) == NOTHING
    lost, claimed, _ = await session.take_over_runs("h", LONG, ["f"], "lost", 10)
    assert lost == ["plain"]
    (found,) = claimed
    assert found._replace(seconds=0) == ("known", "f", "[1]", 2, 1, "7", 0, "stop")
    assert LONG / 2 < found.seconds <= LONG
    assert await session.take_over_runs("h2", LONG, ["f"], "lost", 10) == NOTHING
    assert await session.commit_runs("dead", LONG, [text("known", 2, "x"), text("plain", 1, "x")]) == [
        *(Outcome.LOST, Outcome.LOST)
    ]
    assert await session.commit_runs("h", LONG, [text("known", 2, "more", attempt=2)]) == [Outcome.STORED]
    run = await read(session, "known")
    assert (run.pieces, run.attempt) == ([b"so far more"], 2)
    (start,) = run.starts
    assert start[1:] == (0, 0, (7,))
    again = new("known again", starts=[start, start], **resumable)
    await session.create_run("h", LONG, again, FREE)
    assert (await read(session, "known again")).starts == (start, start)
    assert (await read(session, "plain")).end == "lost"
    assert not (await read(session, "unknown")).is_held
    assert await session.cancel_run("unknown", "stop", "cancelled")
    assert (await read(session, "unknown")).end == "cancelled"
    for id in ("plain again", "stopped"):
        await session.create_run("h", LONG, new(id), FREE)
    assert await session.cancel_run("stopped", "stop", "cancelled")
    await session.hold_runs("h", 0)
    lost, claimed, cancelled = await session.take_over_runs("h3", LONG, ["f"], "lost", 10)
    assert (lost, sorted(cancelled)) == (["plain again"], ["known", "stopped"])
    assert [run.id for run in claimed] == ["known again"]
    assert [(await read(session, id)).end for id in ("plain again", "known", "stopped")] == [
        *("lost", "end", "cancelled")
    ]
    assert (await read(session, "known again")).starts[:2] == (start, start)


async def test_a_released_run_is_resumed_at_once(session: RunSession) -> None:
    await session.create_run("h", LONG, new("i", function="f", arguments="[]", attempts=1), FREE)
    released = text("i", 1, "x")._replace(is_released=True)
    for _ in range(2):
        assert await session.commit_runs("h", LONG, [released]) == [Outcome.STORED]
    assert (await session.hold_runs("h", LONG)).ids == []
    assert await session.take_over_runs("h2", LONG, [], "lost", 10) == NOTHING
    _, claimed, _ = await session.take_over_runs("h2", LONG, ["f", "g"], "lost", 10, released_only=True)
    assert [run.id for run in claimed] == ["i"]
    assert await session.commit_runs("h", LONG, [released]) == [Outcome.LOST]
    await session.hold_runs("h2", 0)
    assert (await session.take_over_runs("h3", LONG, ["f"], "lost", 10)).lost == ["i"]  # it has died


async def test_nothing_is_left_when_the_time_is_over(session: RunSession) -> None:
    def short(id: str, **options: object) -> NewRun:
        return new(id, "o", f"k{id}", ttl=0.05, **options)

    await session.create_run("h", 0.05, short("i"), FREE)
    await session.create_run("h", 0.05, short("never ends", seconds=0.05), FREE)
    changes = RunChanges("i", 1, 0, 1, 9, [TextPiece(0, "text", b"x")], [b"e"], (1, "1"), "2", "over")
    await session.commit_runs("h", 0.05, [changes])
    await session.read_runs("r", [RunQuery("never ends", (), is_watched=True)])
    await trio.sleep(0.2)
    await session.take_over_runs("h2", LONG, [], "lost", 10)
    assert await session.read_runs("r", [RunQuery("i"), RunQuery("never ends")]) == [None, None]
    assert await session.list_runs(None, 10) == await session.list_runs("o", 10) == []
    assert await session.create_run("h2", LONG, short("j")._replace(key="ki"), RunBounds(1, 1)) == "j"
