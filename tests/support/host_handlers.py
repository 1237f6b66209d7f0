"""The handlers that each host of `hosts.py` has, and what becomes of their streams."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import trio

from trio_sse import Connection, EndReason, HTTPException, Hub, Overflow, Response, Run, Runs

from .left_generators import LeftGenerators
from .raised import Panic

Handler = Callable[..., Awaitable[Response | None]]

# Two of one name, and another.
COOKIES = [("Set-Cookie", "a=1"), ("Set-Cookie", "b=2"), ("X-Why", "because")]


@dataclass
class Life:
    """What became of the streams, in order."""

    ends: list[EndReason] = field(default_factory=list)
    opened: int = 0
    last: Connection | None = None  # that was entered
    paths: list[str] = field(default_factory=list)  # of those that were entered
    changed: trio.lowlevel.ParkingLot = field(default_factory=trio.lowlevel.ParkingLot)
    is_silent: trio.Event = field(default_factory=trio.Event)
    steps: trio.Semaphore = field(default_factory=lambda: trio.Semaphore(0))
    runs: Runs | None = None
    place: str = ""  # where the code of `/raises` and `/generated` raises an exception
    make_error: Callable[[], BaseException] = RuntimeError
    kept: list[AsyncIterator[int]] = field(default_factory=list)  # generators that are left open
    left: LeftGenerators = field(default_factory=LeftGenerators)

    def visit(self, place: str) -> None:
        """Raise the exception if this is the place."""
        if place == self.place:
            raise self.make_error()

    async def leave_a_nursery_open(self, send: Callable[[str], Awaitable[None]]) -> None:
        """Send two numbers, and leave the generator: dropped, kept by somebody, or by an exception."""
        numbers = self.left.numbers()
        if self.place == "kept":
            self.kept.append(numbers)
        async for number in numbers:
            await send(f"{number}")
            if number and self.place == "by an exception":
                raise ValueError("why")
            if number:
                break

    async def step(self) -> None:
        """Wait, in a handler, until the test lets it go on."""
        await self.steps.acquire()

    def note_end(self, connection: Connection) -> None:
        assert connection.end_reason is not None
        self.ends.append(connection.end_reason)
        self.changed.unpark_all()

    def note_start(self, connection: Connection) -> None:
        """Enter a stream. Its query may say whose it is, and in how many seconds that expires."""
        connection.identity = connection.request.query.get("user")
        if (left := connection.request.query.get("left")) is not None:
            connection.expires_at = time.time() + float(left)
        self.opened += 1
        self.last = connection
        self.paths.append(connection.request.path)
        self.changed.unpark_all()

    async def wait_ends(self, count: int) -> list[EndReason]:
        """Wait until this many streams have ended."""
        while len(self.ends) < count:
            await self.changed.park()
        return self.ends

    async def wait_opened(self, count: int) -> None:
        """Wait until this many handlers have been entered."""
        while self.opened < count:
            await self.changed.park()


def handlers(hub: Hub, life: Life) -> Mapping[str, Handler]:
    """Return the handlers by path; they answer GET and POST."""

    async def live(connection: Connection) -> None:
        await connection.subscribe("live")

    async def iterated(connection: Connection) -> None:
        await connection.start()
        async with hub.subscribe("live", last_event_id=connection.last_event_id) as events:
            async for event in events:
                await connection.send(event)

    async def topics(connection: Connection) -> None:
        await connection.subscribe("live", "other", include_topic=True)

    async def lagging(connection: Connection) -> None:
        await connection.subscribe("live", overflow=Overflow.DISCONNECT, queue=4)

    async def three(connection: Connection) -> None:
        for number in range(3):
            await connection.send({"n": number}, event="tick", id=f"{number}")

    async def flood(connection: Connection) -> None:
        while True:
            await connection.send("x" * 50_000)

    async def large(connection: Connection) -> None:
        for _ in range(2):  # more than a window of HTTP/2
            await connection.send("x" * 50_000)

    async def quiet(connection: Connection) -> None:
        await connection.start()
        await trio.sleep_forever()

    async def slow(connection: Connection) -> None:
        for number in range(4):
            await connection.send(f"{number}")
            await trio.sleep(20)

    async def fails_before(connection: Connection) -> None:
        raise ValueError("secret")

    async def fails_after(connection: Connection) -> None:
        await connection.send("one")
        raise ValueError("secret")

    async def fails_in_nursery(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(fails_after, connection)
            await trio.sleep_forever()

    async def refuses(connection: Connection) -> None:
        raise HTTPException(403, "not you", {"X-Why": "because"})

    async def answers(connection: Connection) -> Response:
        connection.add_header("X-Of-A-Stream", "1")
        return Response('{"made":1}', status=201, content_type="application/json", headers=COOKIES)

    async def answers_by_raising(connection: Connection) -> None:
        async with trio.open_nursery():
            raise HTTPException(
                Response('{"error":1}', status=400, content_type="application/json", headers=COOKIES)
            )

    async def answers_late(connection: Connection) -> Response:
        await connection.send("one")
        return Response("too late")

    async def answers_nonsense(connection: Connection) -> Any:
        return object()

    async def refuses_in_json(connection: Connection) -> None:
        raise HTTPException(409, '{"error":2}', {"content-type": "application/problem+json"})

    async def adds_headers(connection: Connection) -> None:
        for name, value in (*COOKIES, ("Cache-Control", "private, no-cache"), ("Vary", "Cookie")):
            connection.add_header(name, value)
        await connection.send("one", id="1")
        try:
            connection.add_header("X-Late", "1")
        except RuntimeError as error:
            await connection.send(str(error), id="2")

    async def refuses_late(connection: Connection) -> None:
        life.is_silent.set()
        await life.step()
        raise HTTPException(403, "not you")

    async def closes_first(connection: Connection) -> None:
        connection.close(reconnect=True)
        await trio.sleep_forever()

    async def closes_and_refuses(connection: Connection) -> None:
        connection.close()
        raise HTTPException(403, "not you")

    async def closes_and_answers(connection: Connection) -> Response:
        connection.close(reconnect=True)
        return Response("not you\n", status=403)

    async def closes_and_fails(connection: Connection) -> None:
        connection.close(reconnect="reconnect" in connection.request.query)
        raise ValueError("secret")

    async def leaves_a_scope_open(connection: Connection) -> None:
        trio.CancelScope().__enter__()  # as an async generator does that is not closed

    async def leaves_a_nursery_open(connection: Connection) -> None:
        await life.leave_a_nursery_open(connection.send)

    async def upgrades(connection: Connection) -> None:
        raise HTTPException(426, "not here", {"Upgrade": "h2c"})

    async def no_topic(connection: Connection) -> None:
        await connection.subscribe("x" * 300)

    async def returns(connection: Connection) -> None:
        pass

    async def scoped(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            with trio.move_on_after(60):
                await connection.send("in scopes")
            nursery.cancel_scope.cancel()
        await connection.send("out of them")

    async def silent(connection: Connection) -> None:
        life.is_silent.set()
        try:
            await trio.sleep_forever()
        finally:
            life.is_silent = trio.Event()

    async def both(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.send, "one")
            nursery.start_soon(connection.send, "two")

    async def pair(connection: Connection) -> None:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(connection.subscribe, "live")
            nursery.start_soon(partial(connection.subscribe, "paced", batch=0.2))

    async def stepwise(connection: Connection) -> None:
        for number in range(5):
            await connection.send(f"{number}")
            await life.step()

    async def raises(connection: Connection) -> None:
        life.visit("before the head")
        try:
            await connection.start()
            life.visit("after the head")
            await connection.send("one")
            life.visit("in mid-stream")
        finally:
            life.visit("in finally")

    runs = life.runs = life.runs or Runs(hub, drain_timeout=0.2)

    async def run(connection: Connection) -> None:
        id = connection.request.query.get("id")
        view = await runs.start(_count, life) if id is None else runs.get(id)
        await view.stream(connection)

    async def panics_before(connection: Connection) -> None:
        raise Panic("secret")

    async def panics_after(connection: Connection) -> None:
        await connection.send("one")
        raise Panic("secret")

    return {name: function for name, function in locals().items() if name not in ("hub", "life", "runs")}


async def _count(run: Run, life: Life) -> dict[str, int]:
    """Count in the run's text, with an event after each third number, as fast as the test lets it."""
    for number in range(1, 7):
        await run.append(f"{number} ")
        if number % 3 == 0:
            await run.emit(number, event="third")
        await life.step()
    return {"counted": 6}


async def echo(connection: Connection) -> None:
    """Send back what a POST has brought."""
    await connection.send(connection.request.body.decode())
