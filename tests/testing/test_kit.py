"""The testing kit finds what it is for, and passes what is right."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio
import trio.testing
from quart_trio import QuartTrio
from trio.testing import MockClock

from trio_sse import Connection, EndReason, Hub, Request, Response, Server, ServerSentEvent
from trio_sse.quart import QuartSSE
from trio_sse.testing import (
    Client,
    Interruption,
    Received,
    assert_nothing_lost,
    interrupt_everywhere,
    no_leak,
    read_at_random,
)

from ..support.asgi_apps import Receive, Send
from ..support.cases import each_case
from ..support.leaks import MakeServer
from ..support.shares import seeds


class TestPeers:
    """What a client in memory can do to a stream."""

    @pytest.fixture
    def ends(self) -> list[EndReason | None]:
        return []

    @pytest.fixture
    def server(self, make_server: MakeServer, ends: list[EndReason | None]) -> Server:
        made = make_server(write_timeout=20)

        @made.route("/large")
        async def large(connection: Connection) -> None:
            for _ in range(10):
                await connection.send("x" * 20_000)
            await trio.sleep_forever()

        @made.on_disconnect
        def note(connection: Connection) -> None:
            ends.append(connection.end_reason)

        return made

    async def test_one_that_stalls_is_waited_for_and_then_cut(
        self, server: Server, ends: list[EndReason | None], autojump_clock: MockClock
    ) -> None:
        async with Client(server) as client:
            async with client.stream("/large") as stream:
                stream.stall()
                await trio.sleep(15)
                stream.resume()
                assert len(await stream.events(10)) == 10
                assert not stream.is_over
            async with client.stream("/large") as stream:
                stream.stall()
                await trio.sleep(25)
                stream.resume()
                await stream.wait_over(within=1)
                assert stream.is_cut
        assert ends == [EndReason.CLIENT_DISCONNECTED, EndReason.WRITE_TIMEOUT]

    @pytest.mark.parametrize("how", ["half_close", "reset"])
    async def test_one_that_leaves_has_disconnected(
        self, how: str, server: Server, ends: list[EndReason | None], autojump_clock: MockClock
    ) -> None:
        async with Client(server) as client, client.stream("/large") as stream:
            await stream.events(10)
            if how == "half_close":
                await stream.half_close()
            else:
                stream.reset()
            await stream.wait_over()
            with pytest.raises(EOFError, match="been cut"):
                await stream.event()
            await trio.testing.wait_all_tasks_blocked()
            assert ends == [EndReason.CLIENT_DISCONNECTED]

    async def test_a_stream_that_does_not_end_by_its_deadline(
        self, server: Server, autojump_clock: MockClock
    ) -> None:
        async with Client(server) as client, client.stream("/large") as stream:
            with pytest.raises(trio.TooSlowError, match="within 7 s"):
                await stream.wait_over(within=7)


class Room:
    """A server that notes its streams, and forgets to remove some of them."""

    def __init__(self, *, forgets: bool) -> None:
        self.members: set[int] = set()
        self.server = Server()

        @self.server.route("/room")
        async def room(connection: Connection) -> None:
            self.members.add(connection.id)
            if forgets:
                await connection.send("welcome")
            try:
                if not forgets:
                    await connection.send("welcome")
                await connection.subscribe("room")
            finally:
                self.members.discard(connection.id)


async def visit(client: Client) -> None:
    async with client.stream("/room") as stream:
        assert (await stream.event()).data == "welcome"


async def ask_in_vain(client: Client) -> None:
    assert (await client.get("/")).status == 404


async def ask_for_page(client: Client) -> None:
    assert (await client.get("/")).status == 200


async def answer(request: Request) -> Response:
    return Response("a page")


class TestInterruptions:
    """Everything that can happen, at every step."""

    @staticmethod
    async def interrupt(
        *,
        forgets: bool,
        interruptions: Sequence[Interruption] = tuple(Interruption),
        at: Sequence[int] | None = None,
    ) -> dict[Interruption, int]:
        rooms: dict[Server, Room] = {}

        def make() -> Server:
            made = Room(forgets=forgets)
            rooms[made.server] = made
            return made.server

        def check(server: Server) -> None:
            assert not rooms[server].members, "members are left"

        return await interrupt_everywhere(make, visit, check=check, interruptions=interruptions, at=at)

    @pytest.mark.slow
    async def test_a_careful_handler_passes_at_each_step(self, autojump_clock: MockClock) -> None:
        tried = await self.interrupt(forgets=False)
        assert list(tried) == list(Interruption)
        assert min(tried.values()) > 5

    async def test_a_handler_that_forgets_is_found(self, autojump_clock: MockClock) -> None:
        with pytest.raises(AssertionError, match="members are left") as caught:
            await self.interrupt(forgets=True)
        assert "interrupted by disconnect at step" in caught.value.__notes__[0]

    async def test_some_steps_can_be_tried(self, autojump_clock: MockClock) -> None:
        for at, count in ((1, 1), (3, 1), ([1, 2, 3] * 2, 6), ([1, 9999], 1)):
            tried = await interrupt_everywhere(Server, ask_in_vain, interruptions=[Interruption.RESET], at=at)
            assert tried == {Interruption.RESET: count}

    async def test_a_fault_is_repeated_by_its_step_and_its_neighbours(
        self, autojump_clock: MockClock
    ) -> None:
        with pytest.raises(AssertionError, match="members are left") as caught:
            await self.interrupt(forgets=True)
        [number] = re.findall(r"step (\d+) .*nearby", caught.value.__notes__[0])
        at = range(max(1, int(number) - 1), int(number) + 2)
        with pytest.raises(AssertionError, match="members are left"):
            await self.interrupt(forgets=True, interruptions=[Interruption.DISCONNECT], at=[*at] * 20)

    @pytest.mark.parametrize("at", [0, -1, [], [1, 0], 1.5])
    async def test_a_step_that_cannot_be_is_refused(self, at: Any, autojump_clock: MockClock) -> None:
        with pytest.raises(ValueError, match="at must be a positive integer"):
            await interrupt_everywhere(Server, ask_in_vain, at=at)

    @pytest.mark.parametrize("at", [9999, [9998, 9999]])
    async def test_a_step_that_no_run_reaches_is_an_error(
        self, at: int | list[int], autojump_clock: MockClock
    ) -> None:
        with pytest.raises(ValueError, match=r"nothing was interrupted by end: .* only \d+ steps"):
            await interrupt_everywhere(Server, ask_in_vain, interruptions=[Interruption.END], at=at)

    async def test_an_app_that_cannot_be_served_again_is_found(self, autojump_clock: MockClock) -> None:
        def make() -> Server:
            opened: list[object] = []

            async def app(scope: dict[str, Any], receive: Receive, send: Send) -> None:
                await receive()
                how = "failed" if opened else "complete"
                opened.append(scope)
                await send({"type": f"lifespan.startup.{how}"})
                await receive()
                await send({"type": "lifespan.shutdown.complete"})

            server = Server(app)
            server.endpoint("/")(answer)
            return server

        with pytest.raises(RuntimeError, match="could not start") as caught:
            await interrupt_everywhere(make, ask_for_page, interruptions=[Interruption.SERVER])
        assert "interrupted by server at step 1 " in caught.value.__notes__[0]

    @pytest.mark.parametrize("leak", ["task", "subscription"])
    async def test_what_a_handler_starts_elsewhere_is_found(
        self, leak: str, autojump_clock: MockClock, nursery: trio.Nursery
    ) -> None:
        stack = contextlib.AsyncExitStack()
        hub = Hub()
        await nursery.start(hub.run)

        def make() -> Server:
            server = Server(hub=hub)

            @server.route("/room")
            async def room(connection: Connection) -> None:
                if leak == "task":
                    nursery.start_soon(trio.sleep_forever)
                else:
                    await stack.enter_async_context(server.hub.subscribe("room"))
                await connection.send("welcome")

            return server

        with pytest.raises(AssertionError, match=leak):
            await interrupt_everywhere(make, visit, interruptions=[Interruption.RESET])
        await stack.aclose()

    @pytest.mark.slow
    async def test_an_app_is_interrupted_as_well(self, autojump_clock: MockClock) -> None:
        def make() -> QuartTrio:
            app = QuartTrio("app")
            sse = QuartSSE(app)

            @sse.route("/room")
            async def room(connection: Connection) -> None:
                await connection.send("welcome")
                await connection.subscribe("room")

            return app

        tried = await interrupt_everywhere(
            make, visit, interruptions=[Interruption.RESET, Interruption.DRAIN]
        )
        assert min(tried.values()) > 10

    async def test_a_script_that_is_wrong_or_endless_is_an_error(self, autojump_clock: MockClock) -> None:
        async def wrong(client: Client) -> None:
            assert (await client.get("/nothing")).status == 200

        async def endless(client: Client) -> None:
            while True:
                await client.get("/room")

        with pytest.raises(AssertionError):
            await interrupt_everywhere(Server, wrong, interruptions=[Interruption.END])
        with pytest.raises(AssertionError, match="more than 3 steps"):
            await interrupt_everywhere(Server, endless, interruptions=[Interruption.END], most=3, within=1)


class TestNoLeak:
    """What is left after a block."""

    async def test_tasks_and_streams_that_are_left_are_named(
        self, nursery: trio.Nursery, make_server: MakeServer
    ) -> None:
        async def lonely() -> None:
            await trio.sleep_forever()

        with pytest.raises(AssertionError, match="lonely"):
            async with no_leak():
                nursery.start_soon(lonely)
        server = make_server()

        @server.route("/live")
        async def live(connection: Connection) -> None:
            await connection.subscribe("live")

        async with Client(server) as client:
            async with no_leak(server), client.stream("/live"):
                pass
            async with contextlib.AsyncExitStack() as stack:
                with pytest.raises(AssertionError, match="1 open streams, 1 subscriptions"):
                    async with no_leak(server):
                        await stack.enter_async_context(client.stream("/live"))


class TestAtRandom:
    """A peer that stalls, leaves and reconnects still receives everything."""

    @pytest.mark.parametrize("seed", seeds(8))
    async def test_nothing_is_lost_by_a_right_handler(
        self, seed: int, make_server: MakeServer, nursery: trio.Nursery, autojump_clock: MockClock
    ) -> None:
        server = make_server()
        published = [f"{number}" for number in range(60)]

        @server.route("/prices")
        async def prices(connection: Connection) -> None:
            await connection.subscribe("prices")

        async def publish() -> None:
            for data in published:
                await server.hub.publish("prices", data)
                await trio.sleep(0.5)

        async with Client(server) as client, client.stream("/prices"):
            cursor = server.hub.first_event_id
            nursery.start_soon(publish)
            received = await read_at_random(
                client, f"/prices?last_event_id={cursor}", until=lambda event: event.data == "59", seed=seed
            )
        assert received.seed == seed
        assert_nothing_lost(received, published)

    async def test_a_last_event_that_never_comes_is_an_error_with_the_seed(
        self, make_server: MakeServer, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TRIO_SSE_SEED", "42")
        server = make_server()

        @server.route("/quiet")
        async def quiet(connection: Connection) -> None:
            await connection.subscribe("quiet")

        async with Client(server) as client:
            with pytest.raises(trio.TooSlowError, match="TRIO_SSE_SEED=42"):
                await read_at_random(client, "/quiet", until=lambda _: True, within=50)


def events(*texts: str) -> list[ServerSentEvent]:
    return [ServerSentEvent(text, event="reset" if text == "reset" else None) for text in texts]


@each_case(
    ("received", "resets", "error"),
    [
        ("a b c", False, None),
        ("reset a b c", False, None),
        ("a reset c", True, None),
        ("a reset", True, None),
        ("a reset c", False, "'b' is missing before 'c'"),
        ("a c", True, "'b' is missing before 'c'"),
        ("a b", True, "'c' and what follows is missing"),
        ("a b b c", True, "'b' came twice"),
        ("a c b", True, "missing before 'c'"),
        ("a x", True, "'x' was not published"),
    ],
)
def test_what_counts_as_lost(received: str, resets: bool, error: str | None) -> None:
    check: Callable[[], None] = lambda: assert_nothing_lost(  # noqa: E731
        Received(7, events(*received.split())), ["a", "b", "c"], resets=resets
    )
    if error is None:
        check()
    else:
        with pytest.raises(AssertionError, match=error + r".*TRIO_SSE_SEED=7"):
            check()
