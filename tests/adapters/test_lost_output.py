"""What viewers receive when the store has lost what they were shown: an error of their protocol."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse import Run, Runs, Server
from trio_sse.adapters.ag_ui import AgUi
from trio_sse.adapters.ai_sdk import UIMessageStream
from trio_sse.adapters.openai_chat import ChatCompletions
from trio_sse.adapters.openai_responses import Responses
from trio_sse.testing import Client

from ..support.waiting import SECONDS, until

REASON = "a part of the answer was lost: read it again"

REQUESTS = {
    "/chat": '{"messages": [], "stream": true}',
    "/responses": '{"input": "x", "stream": true}',
    "/ui": '{"id": "c", "messages": []}',
    "/agent": '{"threadId": "c", "runId": "r"}',
}


@pytest.mark.parametrize("path", ["/chat", "/responses"])
async def test_who_waits_for_a_whole_answer_receives_the_error_too(path: str) -> None:
    server = Server()
    runs = Runs(server.hub)

    async def answer(run: Run, body: Mapping[str, Any]) -> None:
        await run.append("one ")
        await run.flush()
        await trio.testing.wait_all_tasks_blocked()  # it is read
        run._record.clear()
        await trio.sleep_forever()

    server.route("/chat", methods=["POST"])(ChatCompletions(runs, answer).create)
    server.route("/responses", methods=["POST"])(Responses(runs, answer).create)
    async with Client(server, timeout=SECONDS) as client:
        response = await client.post(path, body=REQUESTS[path].replace("true", "false"))
        assert REASON in response.body.decode()


@pytest.mark.parametrize("path", REQUESTS)
async def test_a_viewer_of_what_is_lost_receives_its_protocol_s_error(
    path: str, caplog: pytest.LogCaptureFixture
) -> None:
    server, started = Server(), trio.Event()
    runs = Runs(server.hub)
    found: list[Run] = []

    async def answer(run: Run, body: Mapping[str, Any]) -> None:
        await run.append("one two ")
        found.append(run)
        started.set()
        await trio.sleep_forever()

    chat, responses = ChatCompletions(runs, answer), Responses(runs, answer)
    for route, handler in (
        ("/chat", chat.create),
        ("/responses", responses.create),
        ("/ui", UIMessageStream(runs, answer).create),
        ("/agent", AgUi(runs, answer).run),
    ):
        server.route(route, methods=["POST"])(handler)
    async with Client(server, timeout=SECONDS) as client:
        async with client.stream(path, method="POST", body=REQUESTS[path]) as stream:
            await started.wait()
            await until(lambda: b"one" in stream.body)
            found[0]._record.clear()
            await stream.wait_over()
            (error,) = [event for event in stream.events_nowait() if REASON in str(event.data)]
        assert error.id is None  # nobody resumes after it
    assert not caplog.records
