"""Of what arrives, the slowest is cut: many clients that are alike do not all lose what they have sent."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trio_sse._transport.arriving_bytes import Arrival, ArrivingBytes

SIZE = 900


async def test_who_withholds_the_rest_is_cut_before_who_sends(autojump_clock: MockClock) -> None:
    counts, cut = ArrivingBytes(4 * SIZE), list[str]()
    withholding = Arrival(lambda: cut.append("withholding"))
    counts.resize(withholding, SIZE)
    await trio.sleep(20)
    sending = Arrival(lambda: cut.append("sending"))
    newest = Arrival(lambda: cut.append("newest"))
    for second in range(1, 3):
        await trio.sleep(1)
        counts.resize(sending, second * SIZE)
    counts.resize(newest, 2 * SIZE)
    assert (cut, counts.cut, counts.total) == (["withholding"], 1, 4 * SIZE)


async def test_most_of_more_clients_than_there_is_room_for_become_whole(autojump_clock: MockClock) -> None:
    counts = ArrivingBytes(8 * SIZE)
    whole = list[int]()

    async def arrive(number: int) -> None:
        with trio.CancelScope() as scope:
            arrival = Arrival(scope.cancel)
            for part in range(1, 10):
                counts.resize(arrival, part * SIZE // 9)
                await trio.sleep(0.5)
            whole.append(number)
        counts.end(arrival)

    async with trio.open_nursery() as nursery:
        for number in range(60):  # four a second, and each takes 4.5 s: they hold 9 times SIZE
            nursery.start_soon(arrive, number)
            await trio.sleep(0.25)
    assert counts.cut > 0
    assert counts.total == 0
    assert len(whole) > 20  # most often 35; if the oldest were cut, only the last 10
