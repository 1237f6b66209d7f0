"""Many connections of one attack: `python -m benchmarks.hostile.attacker NAME HOST PORT`.

Each connection that ends is replaced, until the time is over, which is said on stdout. Then those that are
left are held, until the server closes them. With `--leave`, they are reset instead. A line on stdin, or its
end, ends everything; the answer has the counts.
"""

from __future__ import annotations

import argparse
import json
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import final

import trio

from benchmarks.harness.control import STDIN, answer
from benchmarks.hostile.attacks import bodies, floods, frames, heads, readers
from benchmarks.hostile.peer import Peer, connected

#: What one connection does until it ends.
Attack = Callable[[Peer], Awaitable[None]]

ATTACKS: Mapping[str, Attack] = {
    **heads.ATTACKS,
    **bodies.ATTACKS,
    **readers.ATTACKS,
    **floods.ATTACKS,
    **frames.ATTACKS,
}

#: The kernel of these takes little, so that the server's side fills soon.
_SMALL_RECEIVE_BUFFER = 4096

_FAILURES = (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, ssl.SSLError)


@final
@dataclass(slots=True)
class Attackers:
    """All connections of an attack."""

    attack: Attack
    host: str
    port: int
    receive_buffer: int
    counts: Counter[str]
    is_over: bool = False

    async def run(self, connections: int, seconds: float, *, leave: bool) -> None:
        """Attack for so long; then hold what is left, or leave."""
        with trio.CancelScope() as scope:
            async with trio.open_nursery() as nursery:
                for number in range(connections):
                    nursery.start_soon(self._repeat)
                    if number % 50 == 49:
                        await trio.sleep(0.02)
                await trio.sleep(seconds)
                self.is_over = True
                answer("over")
                if leave:
                    scope.cancel()

    async def _repeat(self) -> None:
        while not self.is_over:
            try:
                async with connected(
                    self.host, self.port, self.counts, receive_buffer=self.receive_buffer
                ) as peer:
                    try:
                        await self.attack(peer)
                    finally:
                        if self.is_over:
                            peer.reset()
                self.counts["closed"] += 1
            except* _FAILURES:
                self.counts["broken"] += 1
            await trio.sleep(random.uniform(0, 0.02))


async def run(arguments: argparse.Namespace) -> Counter[str]:
    """Attack as the command line says, and return the counts."""
    is_reader = arguments.name in readers.ATTACKS or arguments.name in frames.ATTACKS
    attackers = Attackers(
        ATTACKS[arguments.name],
        arguments.host,
        arguments.port,
        _SMALL_RECEIVE_BUFFER if is_reader else 0,
        Counter(),
    )
    async with trio.open_nursery() as nursery:

        async def stop_when_told() -> None:
            await trio.lowlevel.wait_readable(STDIN)
            nursery.cancel_scope.cancel()

        nursery.start_soon(stop_when_told)
        await attackers.run(arguments.connections, arguments.seconds, leave=arguments.leave)
    return attackers.counts


def main() -> None:
    """Run as the command line says."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name", choices=ATTACKS)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--connections", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--leave", action="store_true")
    counts = trio.run(run, parser.parse_args())
    print(json.dumps({"reply": "attacked", **counts}), flush=True)


if __name__ == "__main__":
    main()
