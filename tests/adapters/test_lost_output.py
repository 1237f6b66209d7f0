"""What viewers receive when the store has lost what they were shown: an error of their protocol."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from trio_sse import Run, Runs, Server
from trio_sse._runs.beginning import SLACK
from trio_sse._shared_log.run_session import NewRun, RunBounds, RunChanges, RunSession, TextPiece
from trio_sse.adapters.ag_ui import AgUi
from trio_sse.adapters.ai_sdk import UIMessageStream
from trio_sse.adapters.openai_chat import ChatCompletions
from trio_sse.adapters.openai_responses import Responses
from trio_sse.sqlite import SQLiteLog
from trio_sse.testing import Client, Stream

from ..runs.test_lost_stores import restore, rows_of
from ..runs.test_node_failures import LONG
from ..support.logs import PATIENT
from ..support.run_nodes import Node
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


async def test_who_resumes_after_what_is_lost_receives_an_error_and_no_other_text(
    tmp_path: Path,
) -> None:
    path = tmp_path / "log.db"
    node = Node(SQLiteLog(path, **PATIENT))
    go_on = trio.Event()

    @node.runs.resumable(name="answer")
    async def answer(run: Run, body: Mapping[str, Any]) -> None:
        await run.append("three four")
        await go_on.wait()

    server = Server(hub=node.hub, keepalive=math.inf)  # streams begin although they have nothing to say yet
    responses = Responses(node.runs, answer)
    server.route("/responses/{id}")(responses.retrieve)
    new = NewRun("r" * 20, None, None, 1.0, SLACK + LONG, LONG, "answer (Responses)", '[{},"{}"]', 3)
    asked = RunChanges(new.id, 1, 0, 1, 8, [TextPiece(0, "text", b"one ")], [b'["adapter.request","{}",[0]]'])
    more = RunChanges(new.id, 1, 1, 2, 8, [TextPiece(0, "text", b"two 2 two 2 two ")])

    def resume(number: int) -> AbstractAsyncContextManager[Stream]:
        return client.stream(f"/responses/{new.id}?stream=true&starting_after={number}")

    async with Client(server, timeout=SECONDS) as client, SQLiteLog(path, **PATIENT).connect() as session:
        assert isinstance(session, RunSession)
        await session.create_run("dead", LONG, new, RunBounds(None, None))
        await session.commit_runs("dead", LONG, [asked])
        old = rows_of(path)
        await session.commit_runs("dead", LONG, [more])
        async with client.stream(f"/responses/{new.id}?stream=true") as stream:
            shown: list[Any] = [event.json() for event in await stream.events(8)]
        assert [event.get("delta") for event in shown[4:]] == ["one", " two", " 2", " two"]
        restore(path, old)
        await session.hold_runs("dead", 0)
        async with resume(7) as waits, resume(4) as has_all:
            node.take_over_now()
            words: list[Any] = [event.json() for event in await has_all.events(2)]
            assert [word["delta"] for word in words] == [" ", "three"]
            await waits.wait_over()
            error: Any = waits.events_nowait()[-1].json()
            assert (error["type"], error["response"]["error"]["message"]) == ("response.failed", REASON)
            assert error["sequence_number"] > 7
            go_on.set()
            await has_all.wait_over()
            assert has_all.events_nowait()[-1].event == "response.completed"
        async with resume(words[1]["sequence_number"]) as stream:
            following: Any = (await stream.event()).json()
            assert following["delta"] == " four"
        async with resume(9_000_000_000_000_000) as stream:
            await stream.wait_over()
            assert REASON in stream.body.decode()
