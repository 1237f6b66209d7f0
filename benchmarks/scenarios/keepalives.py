"""Why one task writes all keepalives: how long do other tasks wait when all of them are due at once?

After a broadcast they are. It compares a cancel scope for each connection, renewed when it expires, with the
scheduler of trio_sse. Nothing is sent: the cost is in waking the tasks. `python -m benchmarks.keepalives`.
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


async def _one_task(due: float) -> None:
    scheduler = KeepaliveScheduler()
    for _ in range(CONNECTIONS):
        scheduler.add(_Connection(), due)
    await scheduler.run()


async def _longest_wait(strategy: Callable[[float], Awaitable[None]]) -> float:
    """Return the longest time that a task waited while it was ready to run, in milliseconds."""
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
    for name, strategy in (("a scope each", _one_scope_each), ("one task", _one_task)):
        waits = sorted(trio.run(_longest_wait, strategy) for _ in range(ROUNDS))
        print(f"  {name:<14} {waits[ROUNDS // 2]:8.1f} ms   ({waits[0]:.1f} to {waits[-1]:.1f})")


if __name__ == "__main__":
    main()
