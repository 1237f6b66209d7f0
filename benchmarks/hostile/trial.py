"""One scenario from its beginning to its end."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import final

import trio

from benchmarks.harness.certificates import certificate_files
from benchmarks.harness.worker import BenchmarkError, Reply, Worker, started
from benchmarks.hostile.launch import attacking, module
from benchmarks.hostile.results import Result
from benchmarks.hostile.scenario import Far, Scenario, Settings, Surroundings

#: What must be as before when the attack is over.
_COUNTS = ("tasks", "descriptors", "streams", "subscriptions")

#: How much longer than the deadline is waited, to say how long it took.
_MORE_SECONDS = 20.0

_FAR_CLIENTS = 50
_SETTLING_SECONDS = 1.0
_AFTER_SECONDS = 3.0


async def run(scenario: Scenario, settings: Settings) -> Result:
    """Run a scenario and return what was measured."""
    if scenario.within is not None:
        settings = replace(settings, within=scenario.within)
    async with AsyncExitStack() as stack:
        surroundings = await stack.enter_async_context(scenario.surround(settings))
        options = [*scenario.options, *surroundings.options]
        if scenario.tls:
            options += ["--tls", *stack.enter_context(certificate_files())]
        if scenario.bulk:
            options += ["--bulk", f"{scenario.bulk}"]
        command = [*surroundings.prefix, *module("server"), *options]
        server = await stack.enter_async_context(started("server", command, None))
        listening = await server.reply()
        port = int(listening["port"])
        near = Far([], "127.0.0.1", settings.within, 60.0)
        populations = []
        for place in (near, surroundings.far):
            if place is not None:
                populations.append(
                    await stack.enter_async_context(_population(place, port, is_secure=scenario.tls))
                )
        await populations[0].ask(f"connect {settings.healthy}")
        for population in populations[1:]:
            await population.ask(f"connect {_FAR_CLIENTS}")
        await trio.sleep(_SETTLING_SECONDS)
        return await _Trial(scenario, settings, server, populations, surroundings, listening).run()


@asynccontextmanager
async def _population(place: Far, port: int, *, is_secure: bool) -> AsyncIterator[Worker]:
    options = ["--within", f"{place.within}", "--silence", f"{place.silence}"]
    command = [*place.prefix, *module("population", place.host, f"{port}", *options)]
    async with started("population", [*command, *(["--tls"] if is_secure else [])], None) as worker:
        yield worker


@final
class _Trial:
    def __init__(
        self,
        scenario: Scenario,
        settings: Settings,
        server: Worker,
        populations: list[Worker],
        surroundings: Surroundings,
        listening: Reply,
    ) -> None:
        self._scenario = scenario
        self._settings = settings
        self._server = server
        self._populations = populations
        self._surroundings = surroundings
        self._port = int(listening["port"])
        self._memory = _Memory(int(listening["pid"]))

    async def run(self) -> Result:
        before = await self._server.ask("statistics")
        near = self._populations[0]
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._memory.watch)
            if self._scenario.admits:
                await near.ask("newcomers on")
            async with attacking(self._scenario, self._settings, self._port) as attackers:
                async with trio.open_nursery() as disturbing:
                    disturbing.start_soon(self._surroundings.disturb)
                    await attackers.wait()
                if self._scenario.admits:
                    await near.ask("newcomers off")
                gone_after, left = await self._wait_until_gone(before)
                attacked = await attackers.stop()
            if not self._scenario.admits:
                await near.ask("newcomers on")
                await trio.sleep(_AFTER_SECONDS)
                await near.ask("newcomers off")
            nursery.cancel_scope.cancel()
        healthy, far = await self._finish()
        growth = self._memory.growth / 1024 / 1024
        return Result(self._scenario, self._settings, healthy, far, growth, gone_after, left, attacked)

    async def _wait_until_gone(self, before: Reply) -> tuple[float | None, Mapping[str, float]]:
        """Return after how many seconds the server's counts are as before, or what is left."""
        began_at = trio.current_time()
        while True:
            now = await self._server.ask("statistics")
            took = trio.current_time() - began_at
            more = {name: now[name] - before[name] for name in _COUNTS}
            more["descriptors"] -= self._scenario.spare
            left = {name: count for name, count in more.items() if count > 0}
            if not left:
                return took, {}
            if took > self._scenario.deadline + _MORE_SECONDS:
                return None, left
            await trio.sleep(0.25)

    async def _finish(self) -> tuple[Reply, Reply | None]:
        last = int((await self._server.ask("finish"))["last"])
        numbers = [int(number) for number in (await self._server.ask("refused")).values()]
        replies = [await each.ask(f"finish {last} {json.dumps(numbers)}") for each in self._populations]
        return replies[0], replies[1] if len(replies) > 1 else None


@final
class _Memory:
    """The anonymous memory of a process: what it has grown by, at most."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._first = self._now()
        self.growth = 0

    async def watch(self) -> None:
        """Look at it until cancelled."""
        while True:
            self.growth = max(self.growth, self._now() - self._first)
            await trio.sleep(0.1)

    def _now(self) -> int:
        try:
            with open(f"/proc/{self._pid}/status") as status:
                return next(int(line.split()[1]) for line in status if line.startswith("RssAnon:")) * 1024
        except (OSError, StopIteration):
            raise BenchmarkError("the server has died") from None
