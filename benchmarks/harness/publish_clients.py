"""Clients that have a service's workers publish, and a reader that tells whether all of that came through."""

from __future__ import annotations

import itertools
from typing import final

import httpx
import trio

from benchmarks.harness.worker import BenchmarkError
from trio_sse import Hub

TOPIC = "asked"


@final
class Askers:
    """Each asks for one event after the other, each by a request on a connection of its own, and never again:
    what wasn't answered, as its worker was killed, may have been published or not.

    Args:
        port: the service's.
        hub: one at the service's log, by which is read.
        count: how many there are.
    """

    def __init__(self, port: int, hub: Hub, count: int = 4) -> None:
        self.asked = 0
        self._answers: list[set[int]] = [set() for _ in range(count)]
        self._came: list[list[int]] = [[] for _ in range(count)]
        self._url = f"http://127.0.0.1:{port}/{TOPIC}"
        self._hub = hub

    async def run(self, seconds: float) -> None:
        """Ask for so long; raise `BenchmarkError` if what was answered didn't come, once and in order."""
        async with self._hub.subscribe(TOPIC) as events, trio.open_nursery() as nursery:

            async def read() -> None:
                async for event in events:
                    asker, number = map(int, str(event.data).split())
                    self._came[asker].append(number)
                    if number == last:
                        nursery.cancel_scope.cancel()

            last = 0
            nursery.start_soon(read)
            async with trio.open_nursery() as asking:
                for asker in range(len(self._answers)):
                    asking.start_soon(self._ask, asker, trio.current_time() + seconds)
            nursery.cancel_scope.deadline = trio.current_time() + 10
            last = self.asked + 1
            await self._hub.publish(TOPIC, f"0 {last}")  # comes after all
        if self._came[0][-1:] != [last]:
            raise BenchmarkError("the last event that was published didn't come")
        self._came[0].pop()
        for answers, came in zip(self._answers, self._came, strict=True):
            if lost := answers.difference(came):
                raise BenchmarkError(f"{len(lost)} events that workers had answered for were lost")
            if any(number >= after for number, after in itertools.pairwise(came)):
                raise BenchmarkError("events that workers published came twice or out of order")

    async def _ask(self, asker: int, until: float) -> None:
        while trio.current_time() < until:
            number = self.asked = self.asked + 1
            try:
                async with httpx.AsyncClient() as client:
                    response = await client.post(self._url, content=f"{asker} {number}", timeout=30)
            except httpx.TransportError:
                continue  # killed amid it
            if response.status_code == httpx.codes.NO_CONTENT:
                self._answers[asker].add(number)
            await trio.sleep(0.05)

    def report(self) -> dict[str, int]:
        """Give the figures."""
        return {
            "published by workers": sum(map(len, self._came)),
            "asked of them": self.asked,
            "answered": sum(map(len, self._answers)),
        }
