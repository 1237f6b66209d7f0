"""Runs as their viewers see them on a WebSocket, and before they go on."""

from __future__ import annotations

import pytest
import trio

from trio_sse import Run, Runs, RunStatus
from trio_sse._runs.beginning import SLACK
from trio_sse._shared_log.run_session import NewRun, RunSession
from trio_sse.websocket import WebSocketConnection

from ..support.leaks import MakeServer
from ..support.logs import MakeLog
from ..support.run_nodes import Node, Reading, Steps, nodes, reading
from ..support.serving import in_memory
from ..support.waiting import SECONDS
from ..support.websocket_client import PING, opened
from .test_node_failures import LONG, LOST, begin
from .test_runs import join, serve_runs


async def test_a_websocket_shows_a_run_and_resumes_it(make_server: MakeServer) -> None:
    server = make_server()
    runs, steps = Runs(server.hub), Steps()

    @server.websocket("/runs/{id}")
    async def show(websocket: WebSocketConnection, id: str) -> None:
        await runs.get(id).stream(websocket)

    with trio.fail_after(SECONDS):
        async with in_memory(server) as memory:
            view = await runs.start(steps)
            steps.write("one ")
            async with opened(memory, f"/runs/{view.id}") as websocket:
                messages = [await websocket.json() for _ in range(2)]
                assert [message["event"] for message in messages] == ["run", "text"]
                steps.do(lambda run: run.emit({"n": 1}, event="tool"))
                tool = await websocket.json()
                assert (tool["event"], tool["data"]) == ("tool", '{"n":1}')
            steps.write("two")
            steps.finish()
            assert (await view.wait()).status is RunStatus.FINISHED
            async with opened(memory, f"/runs/{view.id}?last_event_id={tool['id']}") as websocket:
                messages = [await websocket.json() for _ in range(2)]
                assert [message["event"] for message in messages] == ["append", "end"]
                assert await websocket.close_code() == (1000, "finished")
            async with opened(memory, f"/runs/{view.id}?last_event_id={messages[1]['id']}") as websocket:
                frame = await websocket.frame()
                assert frame is not None
                assert frame.opcode == PING  # nothing is left to show
                assert await websocket.close_code() == (1000, "finished")


async def test_a_run_waits_for_a_node_that_has_its_function(make_shared: MakeLog) -> None:
    first, second = Node(make_shared()), Node(make_shared())
    async with make_shared().connect() as session, nodes(first, second):
        assert isinstance(session, RunSession)
        new = NewRun("nobodys-run", "u", None, 1.0, SLACK + LONG, LONG, "unknown", "[]", 3)
        await begin(session, "dead", new, "so far")
        await session.hold_runs("dead", 0)
        await session.take_over_runs("other", LONG, [], LOST, 10)
        view, there = first.runs.get(new.id), second.runs.get(new.id)
        for info in (await view.info(), await there.info(), *await second.runs.list(owner="u")):
            assert (info.status, info.reason, info.ended_at) == (RunStatus.PENDING, None, None)
        async with reading(view, there) as readers:
            for reader in readers:
                await reader.has("so far")
            await there.cancel("nobody can go on with it")
        assert [reader.ends[0].status for reader in readers] == [RunStatus.CANCELLED] * 2
        again = Reading(view)
        await again.run()
        assert again.ends[0].reason == "nobody can go on with it"


@pytest.mark.parametrize(
    "data", ["a \ud83d", "\ude00\ud83d\r\nid: 9", {"half": "\ud83d"}], ids=["half", "halves", "JSON"]
)
async def test_half_of_a_character_is_kept_wherever_it_can_be(
    make_shared: MakeLog, make_server: MakeServer, data: object
) -> None:
    node, other = Node(make_shared()), Node(make_shared())
    server = make_server(hub=other.hub)
    kept = data.replace("\r", "") if isinstance(data, str) else '{"half":"\\ud83d"}'

    @server.websocket("/sockets/{id}")
    async def show(websocket: WebSocketConnection, id: str) -> None:
        await other.runs.get(id).stream(websocket)

    serve_runs(server, other.runs)

    async def think(run: Run) -> None:
        await run.emit(data, event="reasoning")

    async with nodes(node), in_memory(server) as memory:
        view = await node.runs.start(think)
        await view.wait()
        async with reading(other.runs.get(view.id)) as (reader,):
            pass
        assert reader.events == [kept]
        async with opened(memory, f"/sockets/{view.id}") as websocket:
            assert [(await websocket.json())["data"] for _ in range(2)][1] == kept
        client = await join(memory, view.id)
        sent = kept.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        assert [await client.event() for _ in range(2)][1].data == sent
