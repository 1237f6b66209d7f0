"""What waits for slow clients, counted: each payload once, up to the bound and no further."""

from __future__ import annotations

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._transport.pace import Progress
from trio_sse._transport.pending_bytes import PendingBytes, PendingSend

LARGE = 1_000_000  # more than is small
MOST = 4 * LARGE


class Reader:
    """A client that takes what a test says.

    Attributes:
        sends: those to clients that have not been cut.
        cut: the names of those that were, in that order.
    """

    def __init__(self, name: str = "", size: int = LARGE) -> None:
        self.name = name
        self.payload = bytes(size)
        self.is_cut = False
        self._progress = Progress(0.0, 0)

    def take(self, count: int) -> None:
        self._progress = Progress(trio.current_time(), self._progress.taken + count)

    def share(self, shared: int, sharers: int) -> None:
        """Take note of what the other responses on the same connection took."""
        self._progress = Progress(trio.current_time(), self._progress.taken, shared, sharers)

    def progress(self) -> Progress:
        return self._progress

    async def wait(self, counts: PendingBytes) -> None:
        """Be sent the payload, until this is cut or cancelled."""
        with PendingSend(counts, self, self.payload) as send:
            await trio.sleep_forever()
        self.is_cut = send.is_cut


async def add(nursery: trio.Nursery, counts: PendingBytes, *readers: Reader) -> None:
    for reader in readers:
        nursery.start_soon(reader.wait, counts)
        await wait_all_tasks_blocked()


def cut(readers: list[Reader]) -> list[str]:
    return [reader.name for reader in readers if reader.is_cut]


async def test_each_payload_counts_once_and_whole() -> None:
    counts, reader = PendingBytes(10), Reader()
    assert (counts.total, counts.most) == (0, 10)
    payload = bytes(10)
    with (
        PendingSend(counts, reader, payload) as first,
        PendingSend(counts, reader, memoryview(payload)[9:]) as second,
    ):
        assert counts.total == 10  # the bound itself is allowed
        assert (counts.cost(payload), counts.cost(b"other")) == (0, 5)
        with PendingSend(counts, reader, payload, b"") as third:
            assert counts.total == 10
        assert counts.total == 10
    assert [send.is_cut for send in (first, second, third)] == [False, False, False]
    assert (counts.total, counts.cut) == (0, 0)
    assert counts.is_empty


async def test_of_those_that_take_nothing_those_are_cut_first_that_hold_most_for_longest(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    counts = PendingBytes(MOST)
    readers = [Reader("small", LARGE // 4), Reader("oldest"), Reader("older"), Reader("newer")]
    for reader in readers:
        await add(nursery, counts, reader)
        await trio.sleep(0.5)
    readers += [Reader("newest", 2 * LARGE)]
    await add(nursery, counts, readers[-1])
    assert cut(readers) == ["oldest", "older"]
    assert (counts.total, counts.cut, counts.leaving) == (LARGE // 4 + 3 * LARGE, 2, 0)
    await trio.sleep(0.5)
    readers += [Reader("larger than the bound", 2 * MOST)]
    await add(nursery, counts, readers[-1])
    assert counts.total == 2 * MOST
    assert not readers[-1].is_cut


async def test_nobody_is_slow_at_once_so_the_newest_large_one_is_cut(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    counts = PendingBytes(MOST)
    readers = [Reader(f"{number}") for number in range(4)]
    await add(nursery, counts, *readers)
    small = Reader("small", 1000)
    await add(nursery, counts, small)
    assert cut([*readers, small]) == ["3"]
    await trio.sleep(10)
    for reader in readers:
        reader.take(LARGE // 2)
    await add(nursery, counts, large := Reader("large"))
    assert cut([*readers, small, large]) == ["3", "small"]  # by now, it is slow
    assert (counts.total, counts.most) == (MOST, MOST)


async def test_who_makes_progress_is_not_cut_however_long_that_takes(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    counts = PendingBytes(MOST)
    readers = [Reader(f"honest {number}") for number in range(3)]
    await add(nursery, counts, *readers)
    newer = list[Reader]()
    for number in range(30):
        newer.append(Reader(f"{number}"))
        await add(nursery, counts, newer[-1])
        assert counts.total <= counts.most
        await trio.sleep(1)
        for reader in readers:
            reader.take(LARGE // 50)
    assert cut(readers) == []
    assert len(cut(newer)) == 29  # each by the next one


async def test_who_has_taken_a_part_and_stops_is_slow_again(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    counts = PendingBytes(MOST)
    readers = [Reader("stopped"), Reader("trickling"), Reader("honest"), Reader("honest, too")]
    await add(nursery, counts, *readers)
    await trio.sleep(0.1)
    for reader in readers:
        reader.take(LARGE // 2)
    for _ in range(10):
        await trio.sleep(0.5)
        readers[1].take(1)
        for reader in readers[2:]:
            reader.take(LARGE // 50)
    await add(nursery, counts, Reader("newest"))
    assert cut(readers) == ["stopped"]
    for _ in range(20):
        await trio.sleep(1)
        readers[1].take(1)
        for reader in readers[2:]:
            reader.take(LARGE // 50)
        counts.make_room(0)
    newest = Reader("newest", LARGE + 1)
    await add(nursery, counts, newest)
    assert cut(readers) == ["stopped", "trickling"]


async def test_responses_that_share_a_connection_have_their_turns(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    counts = PendingBytes(MOST)
    readers = [Reader("waits for its turn"), Reader("shut its own window")]
    await add(nursery, counts, *readers)
    await trio.sleep(10)
    readers[0].share(2 * LARGE, 4)
    readers[1].share(2 * LARGE, 0)
    await add(nursery, counts, Reader("newest", 3 * LARGE))
    assert cut(readers) == ["shut its own window"]


async def test_only_who_was_slow_for_a_while_is_cut_for_those_that_can_wait(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    counts = PendingBytes(MOST)
    readers = [Reader("older"), Reader("newer")]
    await add(nursery, counts, readers[0])
    await trio.sleep(1)
    await add(nursery, counts, readers[1])
    look_at = counts.cut_patiently(0)
    assert look_at == trio.current_time() + 1
    await trio.sleep_until(look_at)
    look_at = counts.cut_patiently(0)
    await wait_all_tasks_blocked()
    assert cut(readers) == ["older"]
    await trio.sleep_until(look_at)
    counts.cut_patiently(LARGE)
    await wait_all_tasks_blocked()
    assert cut(readers) == ["older"]
    counts.cut_patiently(LARGE - 1)
    await wait_all_tasks_blocked()
    assert cut(readers) == ["older", "newer"]


async def test_nobody_goes_on_before_what_was_cut_has_left_and_then_one_after_the_other(
    autojump_clock: MockClock,
) -> None:
    counts, reader = PendingBytes(10), Reader()
    steps: list[object] = []

    async def settle(number: int) -> None:
        await counts.settle()
        steps.append(number)
        await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        with PendingSend(counts, reader, bytes(5)) as first:
            with PendingSend(counts, reader, bytes(5)) as second:
                await trio.sleep(0.5)
                with PendingSend(counts, reader, bytes(10)):
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
    counts, reader = PendingBytes(10), Reader()
    with pytest.raises(ValueError, match="why") as excinfo, PendingSend(counts, reader, b"x"):
        raise ValueError("why")
    assert excinfo.traceback[-1].name == "test_only_its_own_cancellation_ends_there"
    with trio.CancelScope() as outer:
        outer.cancel()
        with PendingSend(counts, reader, b"x"):
            await trio.sleep_forever()
        raise AssertionError("it goes on")
    assert counts.total == 0
