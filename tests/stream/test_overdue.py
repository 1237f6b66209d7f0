"""Noticing what is still there after a moment."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from trio_sse._stream.overdue import Overdue


async def test_what_is_still_there_after_one_or_two_moments_is_overdue(autojump_clock: MockClock) -> None:
    things: Overdue[str, int] = Overdue(1)
    seen: list[tuple[float, dict[str, int]]] = []
    began_at = trio.current_time()

    async def watch() -> None:
        while True:
            overdue = await things.wait()
            seen.append((trio.current_time() - began_at, dict(overdue)))
            if "removed late" in overdue:
                await trio.sleep(0.25)
                seen.append((trio.current_time() - began_at, dict(overdue)))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(watch)
        await trio.sleep(5)  # it waits until there are some
        things.add("a", 1)
        things.add("removed young", 2)
        things.add("removed old", 3)
        things.add("added anew", 4)
        assert things.discard("removed young")
        assert not things.discard("never there")
        await trio.sleep(1.5)
        assert things.discard("removed old")
        things.add("added anew", 5)
        things.add("removed late", 6)
        assert len(things) == 3
        await trio.sleep(1.6)  # after 8.1 s
        assert things.discard("removed late")
        await trio.sleep(5)
        nursery.cancel_scope.cancel()

    assert seen == [
        (7, {"a": 1}),
        (8, {"added anew": 5, "removed late": 6}),
        (8.25, {"added anew": 5}),
    ]
    assert not things
