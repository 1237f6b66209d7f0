"""Adapters on several nodes: a run is resumed, found and stopped on another node, and outlives its own."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from trio_sse import Run, Server, ServerSentEvent
from trio_sse.adapters.ai_sdk import UIMessageStream
from trio_sse.adapters.openai_responses import Responses
from trio_sse.sqlite import SQLiteLog
from trio_sse.testing import Client

from ..support.run_nodes import Node
from ..support.waiting import SECONDS


def serve(node: Node) -> Server:
    """Return a node's server, with routes of two adapters."""

    @node.runs.resumable(name="answer")
    async def answer(run: Run, body: Mapping[str, Any]) -> object:
        await run.append(f"Try {run.attempt}. ")
        if run.attempt == 1:
            await run.flush()
            await trio.sleep_forever()
        return {"usage": {"input_tokens": 1, "output_tokens": 2}}

    server = Server(hub=node.hub)
    responses, chat = Responses(node.runs, answer), UIMessageStream(node.runs, answer)
    server.route("/v1/responses", methods=["POST"])(responses.create)
    server.route("/v1/responses/{id}")(responses.retrieve)
    server.route("/api/chat", methods=["POST"])(chat.create)
    server.route("/api/chat/{id}/stream")(chat.resume)
    server.route("/api/chat/{id}/stop", methods=["POST"])(chat.stop)
    return server


def number_of(event: ServerSentEvent) -> int:
    value: Any = event.json()
    return int(value["sequence_number"])


async def test_another_node_resumes_stops_and_goes_on(tmp_path: Path) -> None:
    first, second = (Node(SQLiteLog(tmp_path / "log.db")) for _ in range(2))
    with trio.fail_after(SECONDS * 2):
        async with trio.open_nursery() as nursery:
            there = await nursery.start(run_client, second, trio.Event())
            is_over = trio.Event()
            here = await nursery.start(run_client, first, is_over)
            chat = json.dumps({"id": "c", "messages": []})
            async with here.stream("/api/chat", method="POST", body=chat) as shown:
                begun = [event.json()["type"] for event in await shown.events(3)]
                assert begun == ["start", "start-step", "text-start"]
                async with there.stream("/api/chat/c/stream") as joined:
                    assert joined.headers.get("x-vercel-ai-ui-message-stream") == "v1"
                    assert (await there.post("/api/chat/c/stop")).status == 204
                    for stream in (shown, joined):
                        await stream.wait_over()
                        assert '{"type":"abort","reason":"cancelled"}' in stream.body.decode()
            assert (await there.get("/api/chat/c/stream")).status == 204

            asked = json.dumps({"input": "?", "stream": True})
            async with here.stream("/v1/responses", method="POST", body=asked) as shown:
                events = await shown.events(5)  # the last one is the first word
            id = events[0].json()["response"]["id"]
            async with there.stream(f"/v1/responses/{id}?stream=true&starting_after=3") as resumed:
                assert await resumed.event() == events[4]
                is_over.set()
                await first.has_ended.wait()
                second.take_over_now()
                await resumed.wait_over()
                events += resumed.events_nowait()
            numbers = [number_of(event) for event in events]
            assert numbers[:6] == [0, 1, 2, 3, 4, 5]
            assert numbers == sorted(set(numbers))  # those of another attempt leave some out
            response = events[-1].json()["response"]
            assert (response["status"], response["id"]) == ("completed", id)
            assert response["output"][0]["content"][0]["text"] == "Try 1. Try 2. "
            nursery.cancel_scope.cancel()


async def run_client(
    node: Node, is_over: trio.Event, task_status: trio.TaskStatus[Client] = trio.TASK_STATUS_IGNORED
) -> None:
    """Run a node's server with a client until it is over."""
    async with Client(serve(node), timeout=SECONDS) as client:
        task_status.started(client)
        await is_over.wait()
    node.has_ended.set()
