"""Why one task writes the keepalives: how long do others wait when those of all connections fall due at once?

After a broadcast they do. Compared are a cancel scope for each connection, re-armed when it runs out, and the
scheduler that trio_sse has. Nothing is sent: it is the waking that costs. `python -m benchmarks.keepalives`.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable

import trio
import trio.lowlevel

from trio_sse._stream.keepalive import KeepaliveScheduler

CONNECTIONS = 10_000
ROUNDS = 3
_LATER = 1000.0


class _Connection:
    def keep_alive(self, now: float) -> float:
        return now + _LATER


async def _one_scope_each(due: float) -> None:
    async def keep_alive() -> None:
        deadline = due
        while True:
            with trio.move_on_at(deadline):
                await trio.sleep_forever()
            deadline = _Connection().keep_alive(deadline)

    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            nursery.start_soon(keep_alive)


async def _one_keeper(due: float) -> None:
    scheduler = KeepaliveScheduler()
    for _ in range(CONNECTIONS):
        scheduler.add(_Connection(), due)
    await scheduler.run()


async def _longest_wait(strategy: Callable[[float], Awaitable[None]]) -> float:
    """Give the longest time, in milliseconds, that a task which was ready to run had to wait."""
    longest = 0.0
    async with trio.open_nursery() as nursery:
        due = trio.current_time() + 4
        nursery.start_soon(strategy, due)
        await trio.sleep_until(due - 0.2)
        while trio.current_time() < due + 0.8:
            before = time.perf_counter()
            await trio.lowlevel.checkpoint()
            longest = max(longest, time.perf_counter() - before)
            await trio.sleep(0.001)
        nursery.cancel_scope.cancel()
    return longest * 1000


def main() -> None:
    print(f"longest wait of another task, {CONNECTIONS} keepalives due at once, {ROUNDS} rounds:")
    for name, strategy in (("a scope each", _one_scope_each), ("the scheduler", _one_keeper)):
        waits = sorted(trio.run(_longest_wait, strategy) for _ in range(ROUNDS))
        print(f"  {name:<14} {waits[ROUNDS // 2]:8.1f} ms   ({waits[0]:.1f} to {waits[-1]:.1f})")


if __name__ == "__main__":
    main()
