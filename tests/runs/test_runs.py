"""Runs on one node: they go on without their clients, and show each of them everything once."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import (
    Connection,
    HTTPException,
    Hub,
    Request,
    Response,
    Run,
    RunEnded,
    RunFailed,
    RunGone,
    RunLimitReached,
    Runs,
    RunStatus,
    RunTooLarge,
    RunView,
    Server,
)

from ..support.client import Client
from ..support.leaks import MakeHub, MakeServer
from ..support.serving import InMemory, in_memory, running

Start = Callable[..., Awaitable[RunView]]


class Paced:
    """A run's function that goes on when the test says so."""

    def __init__(self) -> None:
        self.sender, self.receiver = trio.open_memory_channel[Callable[[Run], Awaitable[Any]]](100)

    async def __call__(self, run: Run) -> object:
        async for act in self.receiver:
            if (result := await act(run)) is not None:
                return result
        return None

    def append(self, text: str, **options: Any) -> None:
        self.sender.send_nowait(lambda run: run.append(text, **options))

    def emit(self, data: object, **options: Any) -> None:
        self.sender.send_nowait(lambda run: run.emit(data, **options))

    def finish(self) -> None:
        self.sender.close()


def serve_runs(server: Server, runs: Runs) -> None:
    """Add routes that start, show and cancel runs of what `functions` has."""

    @server.route("/runs/{id}")
    async def show(connection: Connection, id: str) -> None:
        await runs.get(id).stream(connection, in_order="in_order" in connection.request.query)

    @server.endpoint("/runs/{id}/cancel", methods=["POST"])
    async def cancel(request: Request, id: str) -> Response:
        await runs.get(id).cancel("the user has cancelled it")
        return Response("")


async def join(serving: InMemory, id: str, cursor: str | None = None) -> Client:
    client = serving.connect()
    head = await client.get(f"/runs/{id}", *([] if cursor is None else [f"Last-Event-ID: {cursor}"]))
    assert head.status == 200
    return client


async def text_of(client: Client) -> str:
    """Return the text that a client has at the end, checking each event."""
    text = ""
    for event in await client.rest():
        if event.event in ("text", "append"):
            text = "" if event.event == "text" else text
            value: Any = event.json()
            text += value["text"]
    assert event.event == "end"
    return text


async def test_a_run_goes_on_without_its_client_and_is_joined_again(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server()
    runs, paced = Runs(server.hub, ttl=60), Paced()
    serve_runs(server, runs)
    async with in_memory(server) as serving:
        view = await runs.start(paced, owner="u")
        paced.append("one ")
        client = await join(serving, view.id)
        assert [(await client.event()).event for _ in range(2)] == ["run", "text"]
        cursor = client.last_event_id
        await trio.aclose_forcefully(client.stream)
        paced.append("two ")
        paced.append("three ")
        paced.emit({"n": 1}, event="tool")
        await trio.sleep(1)
        resumed, late = await join(serving, view.id, cursor), await join(serving, view.id)
        assert [(await resumed.event()).event for _ in range(2)] == ["append", "tool"]
        events = await late.events(3)
        assert [event.event for event in events] == ["run", "text", "tool"]
        assert events[1].json() == {"text": "one two three "}
        paced.append("four")
        paced.finish()
        assert await text_of(resumed) == "four"
        assert resumed.is_ended
        assert await text_of(late) == "four"
        cursor = late.last_event_id
        assert await text_of(await join(serving, view.id)) == "one two three four"
        gone = serving.connect()
        assert (await gone.get(f"/runs/{view.id}", f"Last-Event-ID: {cursor}")).status == 204
        await trio.sleep(61)
        assert (await gone.get(f"/runs/{view.id}")).status == 410
        assert await runs.list() == []


async def test_cancelling_ends_it_for_all_viewers(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    runs, paced = Runs(server.hub), Paced()
    serve_runs(server, runs)
    async with in_memory(server) as serving:
        view = await runs.start(paced)
        clients = [await join(serving, view.id) for _ in range(3)]
        other = serving.connect()
        assert (await other.get(f"/runs/{view.id}/cancel", method="POST")).status == 200
        for client in clients:
            *_, end = await client.rest()
            assert end.json() == {"status": "cancelled", "reason": "the user has cancelled it"}
        assert (await view.wait()).status is RunStatus.CANCELLED
        await view.cancel("again")


async def test_a_cancellation_takes_no_time(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    runs, seen = Runs(server.hub), dict[str, float]()
    serve_runs(server, runs)

    async def work(run: Run) -> None:
        try:
            while True:
                await run.append("word ")
                await trio.sleep(0.05)
        finally:
            seen["run"] = trio.current_time()

    async with in_memory(server) as serving:
        view = await runs.start(work)
        client = await join(serving, view.id)
        await trio.sleep(10.01)
        cancelled_at = trio.current_time()
        await view.cancel()
        await view.wait()
        seen["waiter"] = trio.current_time()
        await client.rest()
        seen["viewer"] = trio.current_time()
    assert seen == dict.fromkeys(["run", "waiter", "viewer"], cancelled_at)


async def failing(run: Run) -> None:
    raise ValueError("a secret")


async def failing_on_purpose(run: Run) -> None:
    raise RunFailed("the model is overloaded")


async def endless(run: Run) -> None:
    await trio.sleep_forever()


async def too_large(run: Run) -> None:
    while True:
        await run.append("x" * 1000)


async def stubborn(run: Run) -> object:
    raise SystemExit(3)


async def returning_nonsense(run: Run) -> object:
    return {1, 2}


@pytest.mark.parametrize(
    ("function", "status", "reason", "is_logged"),
    [
        (failing, RunStatus.FAILED, "an internal error", True),
        (failing_on_purpose, RunStatus.FAILED, "the model is overloaded", False),
        (endless, RunStatus.FAILED, "it took too long", False),
        (too_large, RunStatus.FAILED, "a run has at most 5000 bytes", True),
        (stubborn, RunStatus.FAILED, "an internal error", True),
        (returning_nonsense, RunStatus.FAILED, "an internal error", True),
    ],
)
async def test_whatever_a_function_does_its_run_ends_once(
    function: Callable[[Run], Awaitable[object]],
    status: RunStatus,
    reason: str,
    is_logged: bool,
    make_server: MakeServer,
    autojump_clock: MockClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    server = make_server()
    runs = Runs(server.hub, max_bytes=5000, max_duration=5)
    serve_runs(server, runs)
    async with in_memory(server) as serving:
        view, bystander = await runs.start(function), await runs.start(endless)
        client = await join(serving, view.id)
        events = await client.rest()
        assert [event.event for event in events].count("end") == 1
        assert events[-1].json() == {"status": "failed", "reason": reason}
        info = await view.info()
        assert (info.status, info.reason) == (status, reason)
        assert (await bystander.info()).status in (RunStatus.RUNNING, RunStatus.FAILED)
    assert ("the run" in caplog.text) is is_logged


async def test_nobody_watches(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    runs = Runs(server.hub, cancel_when_unwatched=10)
    serve_runs(server, runs)
    async with in_memory(server) as serving:
        watched, unwatched = await runs.start(endless), await runs.start(endless)
        client = await join(serving, watched.id)
        await trio.sleep(11)
        assert (await unwatched.info()).reason == "nobody watched it"
        assert (await watched.info()).status is RunStatus.RUNNING
        await trio.aclose_forcefully(client.stream)
        await trio.sleep(11)
        assert (await watched.info()).reason == "nobody watched it"


async def test_runs_of_a_hub_that_runs_already_start_at_once(
    make_hub: MakeHub, nursery: trio.Nursery
) -> None:
    hub = make_hub()
    await nursery.start(hub.run)

    async def generate(run: Run) -> None:
        await run.append("done")

    view = await Runs(hub).start(generate)
    assert (await view.wait()).status is RunStatus.FINISHED


async def test_bounds(make_server: MakeServer, autojump_clock: MockClock) -> None:
    server = make_server()
    runs = Runs(server.hub, max_runs=3, max_runs_per_owner=2, max_viewers=1)
    serve_runs(server, runs)
    with pytest.raises(RuntimeError, match="does not run"):
        await runs.start(endless)
    async with in_memory(server) as serving:
        first = await runs.start(endless, key="k", owner="u")
        assert (await runs.start(endless, key="k", owner="u")).id == first.id
        assert (await runs.start(endless, key="k", owner="v")).id != first.id
        await runs.start(endless, owner="u")
        with pytest.raises(RunLimitReached) as excinfo:
            await runs.start(endless)
        assert excinfo.value.status == 503
        await first.cancel()
        await first.wait()
        await runs.start(endless, owner="u")
        with pytest.raises(RunLimitReached):
            await runs.start(endless, owner="u")
        assert len(await runs.list()) == 4
        assert len(await runs.list(owner="v")) == 1
        view = runs.get((await runs.list(owner="v"))[0].id)
        await join(serving, view.id)
        assert (await serving.connect().get(f"/runs/{view.id}")).status == 503
        with pytest.raises(RunGone):
            await runs.get("nonsense").info()
        for options in [{"key": ""}, {"owner": "x" * 257}]:
            with pytest.raises(ValueError, match="characters"):
                await runs.start(endless, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("large", ["text", "result", "reason"])
async def test_the_oldest_are_forgotten_when_too_many_bytes_are_kept(
    large: str, autojump_clock: MockClock
) -> None:
    async def write(run: Run) -> None:
        await run.append("x" * 600)

    async def give_result(run: Run) -> str:
        return "x" * 598  # and the quotes of JSON

    async def give_reason(run: Run) -> None:
        raise RunFailed("é" * 300)

    hub = Hub()
    runs = Runs(hub, max_kept_bytes=5500)  # each counts as 2,600
    function = {"text": write, "result": give_result, "reason": give_reason}[large]
    async with running(hub):
        views = [await runs.start(function) for _ in range(4)]
        for view in views[2:]:
            await view.wait()
        await wait_all_tasks_blocked()
        assert [info.id for info in await runs.list()] == [view.id for view in views[2:]]


async def test_small_things_are_bounded_too(autojump_clock: MockClock) -> None:
    """Empty events, and runs that put out nothing, take memory; a state that is replaced takes none."""

    async def empty(run: Run) -> None:
        while True:
            await run.emit("")

    async def replace(run: Run) -> None:
        for _ in range(3):
            await run.set_state("é" * 300)

    async def nothing(run: Run) -> None:
        pass

    hub = Hub()
    runs = Runs(hub, max_bytes=1000, max_kept_bytes=10_000)
    async with running(hub):
        info = await (await runs.start(empty)).wait()
        assert (info.status, info.size) == (RunStatus.FAILED, 1000)
        info = await (await runs.start(replace)).wait()
        assert (info.status, info.size) == (RunStatus.FINISHED, 602)
        for _ in range(10):
            await (await runs.start(nothing)).wait()
        await wait_all_tasks_blocked()
        assert len(await runs.list()) == 5


@pytest.mark.parametrize("turns", range(8))
async def test_a_run_is_started_or_refused_while_its_hub_ends(turns: int) -> None:
    hub = Hub()
    runs = Runs(hub)
    refused = 0
    async with trio.open_nursery() as nursery:
        await nursery.start(hub.run)
        await runs.start(endless)
        nursery.cancel_scope.cancel()
        with trio.CancelScope(shield=True):
            for number in range(turns + 4):
                try:
                    await runs.start(endless, key=str(number), owner="u")
                except RuntimeError as error:
                    assert "does not run" in str(error)  # noqa: PT017
                    refused += 1
    assert [info.status.is_end for info in await runs.list()] == [True] * (turns + 5 - refused)
    async with running(hub):
        assert (await runs.start(endless, key="0", owner="u")).id


@pytest.mark.slow
async def test_all_viewers_receive_an_end_with_which_the_hub_ends(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    """There are so many that they are written to in several turns."""
    server = make_server()
    runs = Runs(server.hub)
    serve_runs(server, runs)
    go_on = trio.Event()

    async def work(run: Run) -> None:
        await run.append("a")
        await go_on.wait()
        await run.append("b")

    async with trio.open_nursery() as nursery, trio.open_nursery() as hub_nursery:
        await hub_nursery.start(server.hub.run)
        serving = InMemory(server, nursery)
        view = await runs.start(work)
        clients = [await join(serving, view.id) for _ in range(120)]
        await wait_all_tasks_blocked()
        go_on.set()
        while (await runs.list())[0].status is not RunStatus.FINISHED:
            await trio.lowlevel.checkpoint()
        hub_nursery.cancel_scope.cancel()
        assert {await text_of(client) for client in clients} == {"ab"}
        nursery.cancel_scope.cancel()


async def test_what_a_run_refuses(autojump_clock: MockClock) -> None:
    kept: list[Run] = []

    async def check(run: Run) -> object:
        kept.append(run)
        with pytest.raises(ValueError, match="type of the run protocol"):
            await run.emit(1, event="end")
        with pytest.raises(TypeError):
            await run.append(b"x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="at most 64 characters"):
            await run.append("x", name="n" * 65)
        for number in range(16):
            await run.append("x", name=f"t{number}")
        with pytest.raises(ValueError, match="at most 16 texts"):
            await run.append("x", name="another")
        with pytest.raises(TypeError):
            await run.set_state({1})
        await run.append("half \ud83d", name="t0")
        await run.flush()
        assert run.text(name="t0") == "xhalf \ud83d"
        return None

    hub = Hub()
    runs = Runs(hub)
    async with running(hub):
        view = await runs.start(check)
        info = await view.wait()
        assert (info.status, info.reason) == (RunStatus.FINISHED, None)
        for add in (kept[0].emit, kept[0].set_state):
            with pytest.raises(RunEnded):
                await add("x")


async def test_a_run_has_at_most_its_bytes_whether_they_are_visible_or_not(
    autojump_clock: MockClock,
) -> None:
    async def fill(run: Run) -> None:
        await run.append("x" * 60)
        for is_visible in (False, True):
            if is_visible:
                await run.flush()
            with pytest.raises(RunTooLarge):
                await run.append("x" * 41)
            await run.append("x" * 20)
        with pytest.raises(RunTooLarge):
            await run.append("x")

    hub = Hub()
    runs = Runs(hub, max_bytes=100)
    async with running(hub):
        view = await runs.start(fill)
        assert (await view.wait()).status is RunStatus.FINISHED


async def test_a_graceful_shutdown_lets_runs_end_and_cancels_the_rest(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async def slow(run: Run) -> None:
        await trio.sleep(5)
        await run.append("in time")

    server = make_server()
    runs = Runs(server.hub, drain_timeout=8)
    async with trio.open_nursery() as nursery:
        await nursery.start(server.serve, "127.0.0.1", 0)
        views = [await runs.start(slow), await runs.start(endless)]
        started_at = trio.current_time()
        await server.drain()
    assert 5 <= trio.current_time() - started_at <= 9
    found = [info.status for info in await runs.list()]
    assert found == [RunStatus.FINISHED, RunStatus.CANCELLED]
    assert (await runs.list())[1].reason == "the server was shut down"
    assert [info.id for info in await runs.list()] == [view.id for view in views]


@pytest.mark.parametrize(
    ("runs_seconds", "server_seconds", "seconds"), [(1, 4, 1), (4, 4, 3), (10, 10, 7.5), (3, 1, 3)]
)
async def test_viewers_that_a_drain_lets_go_on_receive_the_end(
    runs_seconds: float,
    server_seconds: float,
    seconds: float,
    make_server: MakeServer,
    autojump_clock: MockClock,
) -> None:
    """The connection of the GET runs the hub, and ends first; that of the POST could take over."""
    server = make_server(drain_timeout=server_seconds)
    runs = Runs(server.hub, drain_timeout=runs_seconds)
    ended: list[float] = []

    async def work(run: Run) -> None:
        try:
            await trio.sleep_forever()
        finally:
            ended.append(trio.current_time())

    @server.route("/run", methods=["GET", "POST"])
    async def show(connection: Connection) -> None:
        await (await runs.start(work, key="k")).stream(connection)

    async with trio.open_nursery() as nursery:
        serving = InMemory(server, nursery)
        clients = [serving.connect(), serving.connect()]
        for client, method in zip(clients, ("GET", "POST"), strict=True):
            assert (await client.get("/run", method=method)).status == 200
            assert (await client.event()).event == "run"
        began = trio.current_time()
        nursery.start_soon(server.drain)
        got, posted = clients
        assert [event.event for event in await got.rest()] == []
        assert trio.current_time() - began < 0.5
        events = await posted.rest()
        if seconds < server_seconds:
            assert [event.event for event in events] == ["end"]
            assert events[0].json() == {"status": "cancelled", "reason": "the server was shut down"}
            assert posted.is_ended
        else:
            assert events == []
    assert [time - began for time in ended] == [pytest.approx(seconds, abs=0.1)]
    assert trio.current_time() - began == pytest.approx(seconds, abs=0.2)
    assert [info.viewers for info in await runs.list()] == [0]
    with pytest.raises(RuntimeError, match="does not run"):
        await runs.start(endless)


async def test_a_run_that_begins_late_in_a_drain_ends_while_its_client_can_see_it(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(drain_timeout=4)
    runs = Runs(server.hub, drain_timeout=1)
    views: list[RunView] = []

    async def late(run: Run) -> None:
        await run.append("begun")
        await trio.sleep_forever()

    @server.route("/run", methods=["POST"])
    async def show(connection: Connection) -> None:
        await trio.sleep(2)
        views.append(await runs.start(late, key="k", owner="o"))
        await views[0].stream(connection)

    async with trio.open_nursery() as nursery:
        client = InMemory(server, nursery).connect()
        await client.send(b"POST /run HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n")
        await wait_all_tasks_blocked()
        nursery.start_soon(server.drain)
        assert (await client.head()).status == 200
        events = await client.rest()
        assert [event.event for event in events] == ["run", "end"]
        assert events[1].json() == {"status": "cancelled", "reason": "the server was shut down"}
        assert client.is_ended


async def test_a_drain_leaves_the_runs_of_a_hub_that_others_use(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    server = make_server(drain_timeout=4)
    runs = Runs(server.hub, drain_timeout=1)

    @server.route("/run", methods=["POST"])
    async def show(connection: Connection) -> None:
        await (await runs.start(endless)).stream(connection)

    async with in_memory(server) as serving:
        client = serving.connect()
        assert (await client.get("/run", method="POST")).status == 200
        assert (await client.event()).event == "run"
        await server.drain()
        assert await client.rest() == []
        assert [info.status for info in await runs.list()] == [RunStatus.RUNNING]
    assert [info.status for info in await runs.list()] == [RunStatus.CANCELLED]


async def test_a_burst_of_tokens_becomes_few_events(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    async def burst(run: Run) -> None:
        for number in range(1000):
            await run.append(f"{number} ")
            if number % 10 == 9:
                await trio.sleep(0.001)

    server = make_server()
    runs = Runs(server.hub, flush_interval=0.05)
    serve_runs(server, runs)
    async with in_memory(server) as serving:
        view = await runs.start(burst)
        client = await join(serving, view.id)
        events = await client.rest()
        assert len(events) < 20
        text = "".join(json.loads(str(e.data))["text"] for e in events if e.event in ("text", "append"))
        assert text == "".join(f"{number} " for number in range(1000))


def test_a_refusal_is_an_answer() -> None:
    assert issubclass(RunGone, HTTPException)
    assert RunGone().status == 410


async def test_checkpoints_and_results_count(autojump_clock: MockClock) -> None:
    async def remember(run: Run) -> None:
        for _ in range(3):
            await run.checkpoint("x" * 58)  # only the newest one counts
        await run.append("x" * 40)
        with pytest.raises(RunTooLarge):
            await run.checkpoint("x" * 59)
        with pytest.raises(RunTooLarge):
            await run.append("x")
        await run.checkpoint(None)
        await run.set_state("x" * 54)

    async def replace(run: Run) -> str:
        await run.set_state("x" * 38)
        await run.set_state("y" * 38)
        return "x" * 58

    async def give_too_much(run: Run) -> str:
        await run.append("x" * 41)
        return "x" * 58

    hub = Hub()
    runs = Runs(hub, max_bytes=100)
    async with running(hub):
        infos = [await (await runs.start(act)).wait() for act in (remember, replace, give_too_much)]
    assert [(info.status, info.reason, info.size) for info in infos] == [
        (RunStatus.FINISHED, None, 96),
        (RunStatus.FINISHED, None, 40),
        (RunStatus.FAILED, "a run has at most 100 bytes", 41),
    ]
