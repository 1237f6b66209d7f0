"""Requests and runs that are odd or large, and whose conversation is whose."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from trio_sse import Request, Run, Runs, Server
from trio_sse.adapters.ag_ui import AgUi
from trio_sse.adapters.ai_sdk import UIMessageStream
from trio_sse.adapters.openai_chat import ChatCompletions
from trio_sse.adapters.openai_responses import Responses

from ..support.client import Client
from ..support.leaks import MakeServer
from ..support.serving import InMemory, in_memory

BODIES: dict[str, dict[str, Any]] = {
    "/chat": {"messages": []},
    "/responses": {"input": "x"},
    "/ui": {"id": "c", "messages": []},
    "/agent": {"threadId": "c", "runId": "r"},
}


def serve(server: Server, text: str) -> None:
    runs = Runs(server.hub, max_bytes=4 * 1024 * 1024)

    async def answer(run: Run, body: Mapping[str, Any]) -> object:
        await run.append(text)
        if body.get("slow"):
            await trio.sleep_forever()
        return None

    def owner(request: Request) -> str | None:
        return request.headers.get("x-user")

    responses = Responses(runs, answer, owner=owner)
    ui, agent = UIMessageStream(runs, answer, owner=owner), AgUi(runs, answer, owner=owner)
    server.route("/chat", methods=["POST"])(ChatCompletions(runs, answer, owner=owner).create)
    server.route("/responses", methods=["POST"])(responses.create)
    server.route("/responses/{id}")(responses.retrieve)
    server.route("/ui", methods=["POST"])(ui.create)
    server.route("/ui/{id}/stream")(ui.resume)
    server.route("/agent", methods=["POST"])(agent.run)
    server.route("/agent/{id}/stream")(agent.resume)


async def post(serving: InMemory, path: str, body: bytes, *lines: str) -> tuple[Client, int]:
    client = serving.connect()
    fields = ["Content-Type: application/json", f"Content-Length: {len(body)}", *lines]
    head = "\r\n".join([f"POST {path} HTTP/1.1", "Host: a", *fields, "", ""])
    await client.send(head.encode() + body)
    return client, (await client.head()).status


def with_member(path: str, member: str) -> bytes:
    return f"{json.dumps(BODIES[path])[:-1]}, {member}}}".encode()


@pytest.mark.parametrize("path", BODIES)
async def test_what_cannot_be_stored_or_read_is_the_clients_error(
    make_server: MakeServer, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    server = make_server(max_body_size=1_000_000)
    serve(server, "x")
    bodies = [b"[" * 100_000, with_member(path, '"n": NaN'), with_member(path, '"n": 1e999')]
    for name in {"/ui": ("id",), "/agent": ("threadId", "runId")}.get(path, ()):
        bodies.append(json.dumps({**BODIES[path], name: "\ud83d"}).encode())
    if path in ("/chat", "/responses"):
        bodies.append(with_member(path, f'"model": "{"x" * 70_000}"'))
    async with in_memory(server) as serving:
        for body in bodies:
            assert (await post(serving, path, body))[1] == 400
        if path in ("/chat", "/responses"):
            sent = json.dumps(BODIES[path]).encode()
            for key, status in {"k" * 257: 400, "": 200}.items():
                fields = (f"Idempotency-Key: {key}", "X-User: u")
                assert (await post(serving, path, sent, *fields))[1] == status
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.slow
async def test_a_text_that_json_doubles_has_an_end_and_blocks_nobody(
    make_server: MakeServer, autojump_clock: MockClock
) -> None:
    """The last event has all of the text, and is larger than events of a hub may be."""
    server = make_server()
    serve(server, '"' * 600_000)
    async with in_memory(server) as serving:
        client, _ = await post(serving, "/responses", with_member("/responses", '"background": true'))
        id = json.loads(await client.whole())["id"]
        client = serving.connect()
        await client.get(f"/responses/{id}?stream=true&starting_after=25006")  # each piece has 24 characters
        (last,) = await client.rest()
        assert last.event == "response.completed"
        response: Any = json.loads(str(last.data))["response"]
        assert response["output"][0]["content"][0]["text"] == '"' * 600_000
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                await trio.lowlevel.checkpoint()
                turns += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(count_turns)
            client = serving.connect()
            assert (await client.get(f"/responses/{id}")).status == 200
            nursery.cancel_scope.cancel()
        assert turns > 50


@pytest.mark.parametrize("path", ["/ui", "/agent"])
async def test_a_conversation_has_one_owner_whatever_its_name(make_server: MakeServer, path: str) -> None:
    server = make_server()
    serve(server, "x")
    async with in_memory(server) as serving:
        body = with_member(path, '"slow": true').replace(b'"c"', b'"c/d"')
        await post(serving, path, body, "X-User: a/b")
        found = {}
        for user, id in [("a/b", "c%2Fd"), ("a", "b%2Fc%2Fd"), ("a%2Fb", "c%2Fd"), ("a/b/c", "d")]:
            found[user] = (await serving.connect().get(f"{path}/{id}/stream", f"X-User: {user}")).status
        assert found == {"a/b": 200, "a": 204, "a%2Fb": 204, "a/b/c": 204}
        assert (await serving.connect().get(f"{path}/a%2Fb%2Fc%2Fd/stream")).status == 204
