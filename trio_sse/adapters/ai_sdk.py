"""The UI message stream of Vercel's AI SDK on runs, for `useChat` and its transports, with resume and stop.

::

    chat = UIMessageStream(runs, answer)  # answer(run, body); body["messages"] are UI messages
    server.route("/api/chat", methods=["POST"])(chat.create)
    server.route("/api/chat/{id}/stream")(chat.resume)
    server.route("/api/chat/{id}/stop", methods=["POST"])(chat.stop)

The format is version 1 of the protocol, `UIMessageChunk` in the SDK's sources.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, final

from .._http.exceptions import HTTPException
from .._http.response import Response
from .._runs.items import RunEmitted, RunItem, RunOutcome, RunState, RunText
from .._runs.routes import OwnerOf, owner_of
from .._runs.runs import Runs
from .._runs.status import RunStatus
from .._stream.connection import Connection
from .._stream.whole_body import needs_body
from ._conversations import cancel_all, newest, owner_of_conversation
from ._protocol import (
    Payload,
    RunFunction,
    RunStarter,
    ToolCall,
    body_of,
    facts_of,
    json_object,
    json_or_text,
    show,
)

__all__ = ["UIMessageStream", "text_of"]


@final
class UIMessageStream:
    """Handlers of a chat.

    The function's main text and `run.emit("...", event="reasoning")` become parts of the message. So do
    `event="tool_call"` with `id`, `name` and `arguments`, and `event="tool_result"` with `id` and `result`,
    or `error`. Any other event becomes a data part of its type, and the state the data part `data-state`.
    The result, if it is an object, becomes the message's metadata.

    Args:
        runs: what starts and keeps the runs. A run's owner is who has sent the request, and the chat.
        function: a coroutine function of the run and the request's body.
        owner: returns who has sent a request, by default `Connection.identity`. Others can
            neither see nor stop the chat's runs.
    """

    def __init__(self, runs: Runs, function: RunFunction, *, owner: OwnerOf | None = None) -> None:
        self._runs = runs
        self._starter = RunStarter(runs, function, "UIMessageStream")
        self._owner = owner

    @needs_body
    async def create(self, connection: Connection) -> None:
        """Answer `POST /api/chat`: start a run and stream it."""
        body = body_of(connection.request)
        id = body.get("id")
        if not isinstance(id, str) or not isinstance(body.get("messages"), list):
            raise HTTPException(400, "the body needs an id and messages")
        owner = owner_of_conversation(owner_of(connection, self._owner), id)
        view = await self._starter.start(body, {}, owner=owner)
        _announce(connection)
        await show(view, connection, _Message(view.id))

    async def resume(self, connection: Connection, id: str) -> Response | None:
        """Answer `GET /api/chat/{id}/stream`: its newest run from the start, or 204."""
        view = await newest(self._runs, owner_of_conversation(owner_of(connection, self._owner), id))
        if view is None:
            return Response(status=204)
        _announce(connection)
        await show(view, connection, _Message(view.id))
        return None

    async def stop(self, connection: Connection, id: str) -> Response:
        """Answer `POST /api/chat/{id}/stop`: cancel the runs of the chat that go on."""
        await cancel_all(self._runs, owner_of_conversation(owner_of(connection, self._owner), id))
        return Response(status=204)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a UI message."""
    parts = message.get("parts", ())
    return "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def _announce(connection: Connection) -> None:
    connection.add_header("x-vercel-ai-ui-message-stream", "v1")


@final
class _Message:
    """One run as a message."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._open: tuple[str, str] | None = None  # the kind and id of the part that grows
        self._parts = 0
        self._pending_calls: set[str] = set()

    def translate(self, item: RunItem) -> Iterator[Payload]:
        match item:
            case RunText(text=text):
                yield from self._grow("text", text)
            case RunState():
                yield Payload({"type": "data-state", "id": "state", "data": item.json()}, is_counted=False)
            case RunEmitted():
                yield from self._emitted(item)
            case RunOutcome():
                yield from self._end(item)

    def _emitted(self, item: RunEmitted) -> Iterator[Payload]:
        if facts_of(item) is not None:
            yield Payload({"type": "start", "messageId": f"msg-{self._run_id}"})
            yield Payload({"type": "start-step"})
        elif item.event == "reasoning":
            yield from self._grow("reasoning", item.data)
        elif item.event == "tool_call":
            call = ToolCall.of(item)
            self._pending_calls.add(call.id)
            fields = {"toolCallId": call.id, "toolName": call.name, "input": json_or_text(call.arguments)}
            yield from self._close()
            yield Payload({"type": "tool-input-available", **fields})
        elif item.event == "tool_result":
            yield from self._close()
            yield self._result(json_object(item.data))
        else:
            data = json_or_text(item.data)
            yield Payload({"type": f"data-{item.event or 'message'}", "data": data})

    def _result(self, result: Mapping[str, Any]) -> Payload:
        id = str(result.get("id", ""))
        self._pending_calls.discard(id)
        if "error" in result:
            return Payload({"type": "tool-output-error", "toolCallId": id, "errorText": str(result["error"])})
        return Payload({"type": "tool-output-available", "toolCallId": id, "output": result.get("result")})

    def _grow(self, kind: str, text: str) -> Iterator[Payload]:
        if self._open is None or self._open[0] != kind:
            yield from self._close()
            self._open = (kind, f"{kind}-{self._parts}")
            self._parts += 1
            yield Payload({"type": f"{kind}-start", "id": self._open[1]})
        yield Payload({"type": f"{kind}-delta", "id": self._open[1], "delta": text})

    def _close(self) -> Iterator[Payload]:
        if self._open is not None:
            kind, id = self._open
            self._open = None
            yield Payload({"type": f"{kind}-end", "id": id})

    def _end(self, outcome: RunOutcome) -> Iterator[Payload]:
        yield from self._close()
        reason = outcome.reason or outcome.status.value
        if outcome.status is RunStatus.FINISHED:
            result = json_object(outcome.result)
            finish_reason = result.pop("finish_reason", "tool-calls" if self._pending_calls else "stop")
            metadata = {"messageMetadata": result} if result else {}
            yield Payload({"type": "finish-step"})
            yield Payload({"type": "finish", "finishReason": finish_reason, **metadata})
        elif outcome.status is RunStatus.CANCELLED:
            yield Payload({"type": "abort", "reason": reason})
        else:
            yield Payload({"type": "error", "errorText": reason})
        yield Payload("[DONE]")
