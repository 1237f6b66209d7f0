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
from .._runs.items import RunOutcome
from .._runs.routes import OwnerOf
from .._runs.runs import Runs
from .._runs.status import RunStatus
from .._stream.connection import Connection
from .._stream.whole_body import needs_body
from ._conversations import Conversations
from ._message import MessageTranslation, Part
from ._protocol import Payload, RunFunction, ToolCall, body_of, json_object, json_or_text, show

__all__ = ["UIMessageStream", "text_of"]


@final
class UIMessageStream:
    """Handlers of a chat.

    The function's texts and `run.emit("...", event="reasoning")` become parts of the message. That of a text
    besides the main one has `{"trio_sse": {"name": ...}}` as its `providerMetadata`. Parts are, too,
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
        self._chats = Conversations(runs, function, "UIMessageStream", owner)

    @needs_body
    async def create(self, connection: Connection) -> None:
        """Answer `POST /api/chat`: start a run and stream it."""
        body = body_of(connection.request)
        id = body.get("id")
        if not isinstance(id, str) or not isinstance(body.get("messages"), list):
            raise HTTPException(400, "the body needs an id and messages")
        view = await self._chats.start(connection, id, body, {})
        _announce(connection)
        await show(view, connection, _Message(view.id))

    async def resume(self, connection: Connection, id: str) -> Response | None:
        """Answer `GET /api/chat/{id}/stream`: its newest run from the start, or 204."""
        _announce(connection)
        return await self._chats.resume(connection, id, _Message)

    async def stop(self, connection: Connection, id: str) -> Response:
        """Answer `POST /api/chat/{id}/stop`: cancel the runs of the chat that go on."""
        return await self._chats.stop(connection, id)


def text_of(message: Mapping[str, Any]) -> str:
    """Return the text of a UI message."""
    parts = message.get("parts", ())
    return "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")


def _announce(connection: Connection) -> None:
    connection.add_header("x-vercel-ai-ui-message-stream", "v1")


@final
class _Message(MessageTranslation):
    """One run as a message."""

    def __init__(self, run_id: str) -> None:
        super().__init__()
        self._run_id = run_id
        self._pending_calls: set[str] = set()

    def begin(self, facts: Mapping[str, Any]) -> Iterator[Payload]:
        yield Payload({"type": "start", "messageId": f"msg-{self._run_id}"})
        yield Payload({"type": "start-step"})

    def opened(self, part: Part) -> Iterator[Payload]:
        metadata = {"providerMetadata": {"trio_sse": {"name": part.name}}} if part.is_further else {}
        yield Payload({"type": f"{part.kind}-start", "id": _id_of(part), **metadata})

    def grown(self, part: Part, text: str) -> Payload:
        return Payload({"type": f"{part.kind}-delta", "id": _id_of(part), "delta": text})

    def closed(self, part: Part) -> Iterator[Payload]:
        yield Payload({"type": f"{part.kind}-end", "id": _id_of(part)})

    def call(self, call: ToolCall) -> Iterator[Payload]:
        self._pending_calls.add(call.id)
        fields = {"toolCallId": call.id, "toolName": call.name, "input": json_or_text(call.arguments)}
        yield Payload({"type": "tool-input-available", **fields})

    def result(self, result: Mapping[str, Any]) -> Payload:
        id = str(result.get("id", ""))
        self._pending_calls.discard(id)
        if "error" in result:
            return Payload({"type": "tool-output-error", "toolCallId": id, "errorText": str(result["error"])})
        return Payload({"type": "tool-output-available", "toolCallId": id, "output": result.get("result")})

    def other(self, event: str, value: object) -> Payload:
        return Payload({"type": f"data-{event}", "data": value})

    def state(self, state: str) -> Iterator[Payload]:
        yield Payload(f'{{"type":"data-state","id":"state","data":{state}}}', is_counted=False)

    def end(self, outcome: RunOutcome) -> Iterator[Payload]:
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


def _id_of(part: Part) -> str:
    return f"{part.name if part.is_further else part.kind}-{part.number}"
