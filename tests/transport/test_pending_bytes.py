"""What waits for slow clients, counted: each payload once, up to the bound and no further."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse._transport.pending_bytes import PendingBytes, PendingSend


async def test_each_payload_counts_once_and_whole() -> None:
    counts = PendingBytes(10)
    assert (counts.total, counts.most) == (0, 10)
    payload = bytes(10)
    with PendingSend(counts, payload) as first, PendingSend(counts, memoryview(payload)[9:]) as second:
        assert counts.total == 10  # the bound itself is allowed
        with PendingSend(counts, payload, b"") as third:
            assert counts.total == 10
        assert counts.total == 10
    assert [send.is_cut for send in (first, second, third)] == [False, False, False]
    assert (counts.total, counts.cut) == (0, 0)


async def test_the_oldest_is_cut_and_the_newest_never() -> None:
    counts = PendingBytes(10)
    entered: list[PendingSend] = []

    async def send(payload: bytes) -> None:
        with PendingSend(counts, payload) as sending:
            entered.append(sending)
            await trio.sleep_forever()
        assert sending.is_cut

    async with trio.open_nursery() as nursery:
        for size in (4, 6, 1):
            nursery.start_soon(send, b"x" * size)
            await wait_all_tasks_blocked()
        assert [sending.is_cut for sending in entered] == [True, False, False]
        assert (counts.total, counts.cut, counts.leaving) == (7, 1, 0)
        nursery.start_soon(send, bytes(100))
        await wait_all_tasks_blocked()
        assert (counts.total, counts.cut) == (100, 3)
        assert not entered[-1].is_cut
        entered[-1].cut()
    assert counts.total == 0


async def test_nobody_goes_on_before_what_was_cut_has_left_and_then_one_after_the_other() -> None:
    counts = PendingBytes(10)
    steps: list[object] = []

    async def settle(number: int) -> None:
        await counts.settle()
        steps.append(number)
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        with PendingSend(counts, bytes(5)) as first:
            with PendingSend(counts, bytes(5)) as second:
                with PendingSend(counts, bytes(10)):
                    assert (first.is_cut, second.is_cut, counts.leaving) == (True, True, 2)
                    for number in range(2):
                        nursery.start_soon(settle, number)
                    with trio.CancelScope(shield=True):
                        await wait_all_tasks_blocked()
                assert steps == []
            assert counts.leaving == 1
            with trio.CancelScope(shield=True):
                await wait_all_tasks_blocked()
            assert steps == []
            steps.append("left")
        assert counts.leaving == 0
    assert steps in (["left", 0, 1], ["left", 1, 0])


async def test_only_its_own_cancellation_ends_there() -> None:
    counts = PendingBytes(10)
    with pytest.raises(ValueError, match="why") as excinfo, PendingSend(counts, b"x"):
        raise ValueError("why")
    assert excinfo.traceback[-1].name == "test_only_its_own_cancellation_ends_there"
    with trio.CancelScope() as outer:
        outer.cancel()
        with PendingSend(counts, b"x"):
            await trio.sleep_forever()
        raise AssertionError("it goes on")
    assert counts.total == 0
