"""Clients that publish through a service's workers, and a reader that checks that nothing is lost."""

from __future__ import annotations

import itertools
from typing import final

import httpx
import trio

from benchmarks.harness.worker import BenchmarkError
from trio_sse import Hub

TOPIC = "asked"


@final
class PublishClients:
    """Clients that publish by POST, each one event after the other, on a new connection each time.

    They never repeat a request. If a worker is killed before it answers, its event may be published or not.

    Args:
        port: the service's port.
        hub: a hub on the service's log, to read from.
        count: how many clients there are.
    """

    def __init__(self, port: int, hub: Hub, count: int = 4) -> None:
        self.requests = 0
        self._answered: list[set[int]] = [set() for _ in range(count)]
        self._received: list[list[int]] = [[] for _ in range(count)]
        self._url = f"http://127.0.0.1:{port}/{TOPIC}"
        self._hub = hub

    async def run(self, seconds: float) -> None:
        """Publish for `seconds`, then check what was received.

        Raises:
            BenchmarkError: an event whose request was answered is missing, repeated or out of order.
        """
        async with self._hub.subscribe(TOPIC) as events, trio.open_nursery() as nursery:

            async def read() -> None:
                async for event in events:
                    client, number = map(int, str(event.data).split())
                    self._received[client].append(number)
                    if number == last:
                        nursery.cancel_scope.cancel()

            last = 0
            nursery.start_soon(read)
            async with trio.open_nursery() as publishing:
                for client in range(len(self._answered)):
                    publishing.start_soon(self._publish, client, trio.current_time() + seconds)
            nursery.cancel_scope.deadline = trio.current_time() + 10
            last = self.requests + 1
            await self._hub.publish(TOPIC, f"0 {last}")  # after all others
        if self._received[0][-1:] != [last]:
            raise BenchmarkError("the last event was not received")
        self._received[0].pop()
        for answered, received in zip(self._answered, self._received, strict=True):
            if lost := answered.difference(received):
                raise BenchmarkError(f"{len(lost)} events were lost although their requests were answered")
            if any(number >= after for number, after in itertools.pairwise(received)):
                raise BenchmarkError("events that workers published were repeated or out of order")

    async def _publish(self, client: int, until: float) -> None:
        while trio.current_time() < until:
            number = self.requests = self.requests + 1
            try:
                async with httpx.AsyncClient() as http:
                    response = await http.post(self._url, content=f"{client} {number}", timeout=30)
            except httpx.TransportError:
                continue  # the worker was killed
            if response.status_code == httpx.codes.NO_CONTENT:
                self._answered[client].add(number)
            await trio.sleep(0.05)

    def report(self) -> dict[str, int]:
        """Return the counters."""
        return {
            "published by workers": sum(map(len, self._received)),
            "publish requests": self.requests,
            "answered": sum(map(len, self._answered)),
        }
