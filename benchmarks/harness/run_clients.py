"""Clients that start runs through a service's workers, follow them over every failure, and check them."""

from __future__ import annotations

import itertools
import json
import random
from collections import Counter
from contextlib import suppress
from typing import Any, final

import httpx
import trio

from benchmarks.harness.worker import BenchmarkError
from trio_sse import EventDecoder, ServerSentEvent

_PATIENCE = 240.0
_RETRY_SECONDS = 0.1


@final
class Follower:
    """One viewer of one run: what it has received, over all of its connections."""

    def __init__(self, url: str, upto: int) -> None:
        self.connections = 0
        self.numbers = 0
        self.ended_at = 0.0
        self.end: dict[str, Any] | None = None
        self._url = url
        self._upto = upto
        self._events = 0
        self._cursor = ""

    async def run(self, client: httpx.AsyncClient) -> None:
        """Follow the run until its end, and check that nothing follows it."""
        while self.end is None:
            with suppress(httpx.HTTPError, httpx.StreamError):
                await self._connect(client)
            await trio.sleep(_RETRY_SECONDS * random.random())

    async def _connect(self, client: httpx.AsyncClient) -> None:
        self.connections += 1
        headers = {"Last-Event-ID": self._cursor} if self._cursor else {}
        async with client.stream("GET", self._url, headers=headers) as response:
            if response.status_code != 200:
                if response.status_code < 500:
                    raise BenchmarkError(f"a run is answered with {response.status_code}")
                return
            decoder = EventDecoder(last_event_id=self._cursor)
            async for chunk in response.aiter_bytes():
                for event in decoder.feed(chunk):
                    self._read(event)
                    self._cursor = event.id or self._cursor

    def _read(self, event: ServerSentEvent) -> None:
        if self.end is not None:
            raise BenchmarkError("something follows the end")
        match event.event:
            case "run" | "text" if self._cursor and self.numbers:
                raise BenchmarkError("a client that resumes starts anew")
            case "run":
                pass
            case "text" | "append":
                for number in _json(event)["text"].split():
                    if int(number) != self.numbers:
                        raise BenchmarkError(f"{number} follows {self.numbers - 1}")
                    self.numbers += 1
            case "end":
                self.end = _json(event)
                self.ended_at = trio.current_time()
            case _:
                if _json(event) != 10 * self._events + 9:
                    raise BenchmarkError(f"event {event.data} follows {self._events} events")
                self._events += 1


def _json(event: ServerSentEvent) -> Any:
    return event.json()


@final
class RunClients:
    """Clients that start one run after the other.

    Args:
        port: the service's port.
        count: how many runs there are at a time.
        upto: how many numbers each writes.
    """

    def __init__(self, port: int, *, count: int, upto: int) -> None:
        self.ends: Counter[str] = Counter()
        self.connections = 0
        self.resumed = 0
        self.cancelled_after: list[float] = []
        self.is_over = False
        self._base = f"http://127.0.0.1:{port}/runs"
        self._count = count
        self._upto = upto
        self._keys = itertools.count()

    async def run(self) -> None:
        """Start runs until `is_over`, and follow all of them to their ends."""
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with (
            httpx.AsyncClient(timeout=_PATIENCE, limits=limits) as client,
            trio.open_nursery() as nursery,
        ):
            for number in range(self._count):
                nursery.start_soon(self._repeat, client, number)

    async def _repeat(self, client: httpx.AsyncClient, number: int) -> None:
        while not self.is_over:
            kind = "resumable" if number % 2 else "plain"
            await self._follow(client, kind, is_cancelled=random.random() < 0.1)

    async def _follow(self, client: httpx.AsyncClient, kind: str, *, is_cancelled: bool) -> None:
        key = f"k{next(self._keys)}"
        id = await self._ask(client, self._base, f"{key} {kind} {self._upto}")
        if await self._ask(client, self._base, f"{key} {kind} {self._upto}") != id:
            raise BenchmarkError("one key has started two runs")
        url = f"{self._base}/{id}"
        first, second = Follower(f"{url}?in_order", self._upto), Follower(url, self._upto)
        with trio.fail_after(_PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(first.run, client)
                await trio.sleep(random.random())
                nursery.start_soon(second.run, client)
                if is_cancelled:
                    await trio.sleep(random.random())
                    asked_at = trio.current_time()
                    await self._ask(client, f"{url}/cancel", "")
            late = Follower(url, self._upto)
            await late.run(client)
        if is_cancelled and first.end == {"status": "cancelled", "reason": "cancelled by a client"}:
            self.cancelled_after.append(max(first.ended_at, second.ended_at) - asked_at)
        self._check(kind, [first, second, late])

    def _check(self, kind: str, followers: list[Follower]) -> None:
        first = followers[0]
        if any((one.end, one.numbers) != (first.end, first.numbers) for one in followers):
            raise BenchmarkError(f"viewers of one run disagree: {[one.end for one in followers]}")
        assert first.end is not None
        status = first.end["status"]
        if status == "finished" and first.numbers != self._upto:
            raise BenchmarkError(f"a run has finished with {first.numbers} numbers")
        if status == "failed" or (status == "lost" and kind == "resumable"):
            raise BenchmarkError(f"a {kind} run has ended as {first.end}")
        self.ends[f"{kind} {status}"] += 1
        self.connections += sum(one.connections for one in followers)
        self.resumed += status == "finished" and first.end.get("result", 1) > 1

    async def _ask(self, client: httpx.AsyncClient, url: str, content: str) -> Any:
        with trio.fail_after(_PATIENCE):
            while True:
                try:
                    response = await client.post(url, content=content)
                    if response.status_code == 200:
                        return json.loads(response.text) if response.text else None
                    if response.status_code < 500:
                        raise BenchmarkError(f"a request is answered with {response.status_code}")
                except httpx.HTTPError:
                    pass
                await trio.sleep(_RETRY_SECONDS)
