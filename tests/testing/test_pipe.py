"""The connection in memory behaves as a socket does."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from trio_sse.testing._pipe import open_pipe


async def test_a_writer_waits_for_room_and_a_reader_for_bytes() -> None:
    ours, theirs = open_pipe(capacity=10)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(theirs.send_all, bytes(range(25)))
        await trio.testing.wait_all_tasks_blocked()
        assert await ours.receive_some(4) == bytes(range(4))
        await trio.testing.wait_all_tasks_blocked()
        assert await ours.receive_some() == bytes(range(4, 14))
        received = b""
        while len(received) < 11:
            received += await ours.receive_some()
        assert received == bytes(range(14, 25))
    with trio.move_on_after(0.01) as scope:
        await ours.receive_some()
    assert scope.cancelled_caught


async def test_an_end_is_read_after_what_was_written() -> None:
    ours, theirs = open_pipe()
    await ours.send_all(b"last")
    await ours.send_eof()
    assert [await theirs.receive_some(), await theirs.receive_some()] == [b"last", b""]
    await theirs.send_all(b"an answer")
    assert await ours.receive_some() == b"an answer"
    with pytest.raises(trio.ClosedResourceError):
        await ours.send_all(b"more")


async def test_what_a_closed_end_and_its_peer_raise() -> None:
    ours, theirs = open_pipe()
    await theirs.send_all(b"read")
    await theirs.aclose()
    await theirs.aclose()  # again, which does nothing
    assert theirs.is_closed
    assert [await ours.receive_some(), await ours.receive_some()] == [b"read", b""]
    with pytest.raises(trio.BrokenResourceError):
        await ours.send_all(b"unread")
    with pytest.raises(trio.ClosedResourceError):
        await theirs.receive_some()


@pytest.mark.parametrize(("room", "arrives"), [(10, b"01"), (1, b"0")])
async def test_a_write_that_fails_in_the_middle(room: int, arrives: bytes) -> None:
    ours, theirs = open_pipe(capacity=room)
    theirs.fail(OSError("as asked"), is_short=True)
    for _ in range(2):
        with pytest.raises(OSError, match="as asked"):
            await theirs.send_all(b"0123")
    assert await ours.receive_some() == arrives


@pytest.mark.parametrize("how", ["reset", "fail"])
async def test_both_kinds_of_fault_end_waiting_operations(how: str) -> None:
    ours, theirs = open_pipe(capacity=1)
    await theirs.send_all(b"x")
    expected = trio.BrokenResourceError if how == "reset" else OSError

    async def expect(operation: str) -> None:
        with pytest.raises(expected):
            await (theirs.receive_some() if operation == "receive" else theirs.send_all(b"y"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(expect, "receive")
        nursery.start_soon(expect, "send")
        await trio.testing.wait_all_tasks_blocked()
        if how == "reset":
            ours.reset()
        else:
            theirs.fail(OSError("as asked"))
    if how == "reset":
        with pytest.raises(trio.ClosedResourceError):
            await ours.receive_some()
