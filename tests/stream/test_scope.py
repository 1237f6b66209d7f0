"""Calls to serve: who runs the hub, and that cancelling one at any moment leaves nothing behind."""

from __future__ import annotations

import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from trio_sse import Connection, EndReason, Hub

from ..support.client import Client
from ..support.leaks import LeakCheck, MakeServer, living_tasks, open_descriptors
from ..support.serving import on_sockets
from ..support.waiting import until


async def live(connection: Connection) -> None:
    await connection.subscribe("live")


async def test_another_call_runs_the_hub_when_the_one_that_ran_it_is_cancelled(
    make_server: MakeServer,
) -> None:
    server = make_server()
    server.route("/")(live)
    first = trio.CancelScope()

    async def serve_first(*, task_status: trio.TaskStatus[object]) -> None:
        with first:
            await server.serve("127.0.0.1", 0, task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(serve_first)
        async with on_sockets(server) as serving:
            first.cancel()
            await wait_all_tasks_blocked()
            assert server.hub.is_running
            async with await serving.connect() as client:
                await client.get("/")
                await server.hub.publish("live", "still here")
                assert (await client.event()).data == "still here"


async def test_streams_go_on_when_the_call_that_ran_the_hub_ends(make_server: MakeServer) -> None:
    server = make_server()
    server.route("/")(live)
    scopes = [trio.CancelScope() for _ in range(4)]

    async def serve(scope: trio.CancelScope, stream: trio.abc.Stream) -> None:
        with scope:
            await server.serve_stream(stream)

    async with trio.open_nursery() as nursery:
        clients = []
        for scope in scopes:
            ours, theirs = memory_stream_pair()
            nursery.start_soon(serve, scope, theirs)
            clients.append(Client(ours))
            await clients[-1].get("/")
            await wait_all_tasks_blocked()
        for number, scope in enumerate(scopes[:3]):
            scope.cancel()
            await server.hub.publish("live", f"{number} at that moment")
            await wait_all_tasks_blocked()
            server.hub.publish_nowait("live", f"{number} later")
            for client in clients[number + 1 :]:
                assert (await client.event()).data == f"{number} at that moment"
                assert (await client.event()).data == f"{number} later"
        nursery.cancel_scope.cancel()
    assert not server.hub.is_running


async def test_a_run_of_the_hub_passes_to_the_server_that_uses_it(make_server: MakeServer) -> None:
    server = make_server()
    server.route("/")(live)
    running = trio.CancelScope()

    async def run(*, task_status: trio.TaskStatus[None]) -> None:
        with running:
            await server.hub.run(task_status=task_status)

    async with trio.open_nursery() as nursery:
        await nursery.start(run)
        async with on_sockets(server) as serving, await serving.connect() as client:
            await client.get("/")
            for number in range(300):
                await server.hub.publish("live", str(number))
                if number == 150:
                    running.cancel()
            assert [(await client.event()).data for _ in range(300)] == [str(n) for n in range(300)]


async def test_ids_continue_when_another_call_runs_the_hub(make_server: MakeServer) -> None:
    hub = Hub()
    one, other = make_server(hub=hub), make_server(hub=hub)
    other.route("/")(live)

    async with on_sockets(other) as serving:
        async with on_sockets(one):
            await hub.publish("live", "before")
            await wait_all_tasks_blocked()
            cursor = hub.first_event_id
        async with await serving.connect() as client:
            await client.get("/", f"Last-Event-ID: {cursor}")
            assert (await client.event()).data == "before"


async def test_a_hub_that_the_program_runs_is_not_ended_by_a_server(make_server: MakeServer) -> None:
    server = make_server()

    async with trio.open_nursery() as nursery:
        await nursery.start(server.hub.run)
        async with on_sockets(server):
            pass
        assert server.hub.is_running
        nursery.cancel_scope.cancel()


@pytest.mark.slow
@pytest.mark.parametrize("over", ["sockets", "memory"])
async def test_cancelling_at_any_moment_leaves_nothing(
    make_server: MakeServer, over: str, no_leak: LeakCheck
) -> None:
    for steps in range(40):
        server = make_server()
        server.route("/")(live)
        tasks, descriptors = living_tasks(), open_descriptors()
        async with trio.open_nursery() as nursery:
            if over == "memory":
                ours, theirs = memory_stream_pair()
                nursery.start_soon(server.serve_stream, theirs)
                await ours.send_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            else:
                nursery.start_soon(server.serve, "127.0.0.1", 0)
            for _ in range(steps):
                await trio.lowlevel.checkpoint()
            nursery.cancel_scope.cancel()
        no_leak.check_registrations()
        assert living_tasks() == tasks
        assert open_descriptors() == descriptors


@pytest.mark.slow
async def test_cancelling_while_streams_open_and_lag_leaves_nothing(make_server: MakeServer) -> None:
    for steps in range(0, 60, 3):
        server = make_server(hub=Hub(queue=4))
        server.route("/")(live)
        async with on_sockets(server) as serving:
            clients: list[Client] = [await serving.connect() for _ in range(5)]
            for client in clients:
                await client.send(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
            for step in range(steps):
                if server.hub.is_running and step % 7 == 3:
                    server.hub.publish_nowait("live", "y" * 300_000)
                await trio.lowlevel.checkpoint()
            serving.nursery.cancel_scope.cancel()
        for client in clients:
            await trio.aclose_forcefully(client.stream)


async def test_a_cancelled_server_sends_its_reason_and_when_to_reconnect(make_server: MakeServer) -> None:
    server = make_server()
    server.route("/")(live)

    async with trio.open_nursery() as nursery:
        async with on_sockets(server) as serving:
            client = await serving.connect()
            await client.get("/")
            await until(lambda: server.hub.statistics().subscriptions)
        async with client:
            await client.rest()
        nursery.cancel_scope.cancel()
    assert b"retry: " in client.body
    assert client.is_cut
    assert server.statistics().ended == {EndReason.SERVER_SHUTDOWN: 1}
