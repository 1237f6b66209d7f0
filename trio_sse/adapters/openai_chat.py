"""OpenAI's chat completions on runs: `POST /v1/chat/completions`, as a stream and whole.

::

    async def answer(run: Run, request: Mapping[str, Any]) -> object:
        async for token in model(request["messages"]):
            await run.append(token)
        return {"usage": {"input_tokens": 12, "output_tokens": 34}}

    chat = ChatCompletions(runs, answer)
    server.route("/v1/chat/completions", methods=["POST"])(chat.create)
    server.route("/v1/chat/completions/{id}")(chat.join)

The format is that of OpenAI's reference, `ChatCompletionChunk` and `ChatCompletion`.
"""

from __future__ import annotations

from collections.abc import Iterator
from io import StringIO
from typing import Any, final

from .._http.response import Response
from .._runs.items import RunEmitted, RunItem, RunOutcome, RunText
from .._runs.routes import OwnerOf
from .._runs.runs import Runs
from .._runs.status import RunStatus
from .._runs.view import RunView
from .._stream.connection import Connection
from .._stream.whole_body import needs_body
from ._numbers import LeftOut
from ._openai import (
    RequestedRuns,
    client_tool_call,
    error_object,
    error_response,
    token_counts,
    with_openai_errors,
)
from ._protocol import (
    Payload,
    RunFunction,
    Translation,
    answer_whole,
    body_of,
    facts_of,
    json_object,
    json_response,
    run_through,
    show,
)

__all__ = ["ChatCompletions"]

_PREFIX = "chatcmpl-"


@final
class ChatCompletions:
    """Handlers of chat completions.

    The function's main text is the answer. `run.emit({"id": ..., "name": ..., "arguments": ...},
    event="tool_call")` asks the client to call a tool; with `"executed": True` it is not shown. The result
    may have `usage`, with `input_tokens` and `output_tokens`, and a `finish_reason`.

    A run goes on when its client disconnects; `Runs(cancel_when_unwatched=...)` changes that.

    Args:
        runs: what starts and keeps the runs.
        function: a coroutine function of the run and the request's body.
        owner: returns who has sent a request, by default `Connection.identity`. Others cannot
            join the run. With an owner, requests of one `Idempotency-Key` share a run.
    """

    def __init__(self, runs: Runs, function: RunFunction, *, owner: OwnerOf | None = None) -> None:
        self._runs = RequestedRuns(runs, function, "ChatCompletions", owner, _PREFIX)

    @needs_body
    @with_openai_errors
    async def create(self, connection: Connection) -> Response | None:
        """Answer `POST /v1/chat/completions`, as a stream if the body has `"stream": true`."""
        body = body_of(connection.request)
        if not isinstance(body.get("messages"), list):
            return error_response(400, "messages must be an array")
        options = body.get("stream_options")
        includes_usage = isinstance(options, dict) and options.get("include_usage") is True
        view = await self._runs.start(connection, body, {"include_usage": includes_usage})
        return await _answer(connection, view, is_stream=body.get("stream") is True)

    @with_openai_errors
    async def join(self, connection: Connection, id: str) -> Response | None:
        """Answer `GET /v1/chat/completions/{id}`: whole, or with `?stream=true` as a stream.

        The stream begins after the event whose id is in `Last-Event-ID`, or at the start.
        """
        view = await self._runs.find(connection, id)
        return await _answer(connection, view, is_stream=connection.request.query.get("stream") == "true")


async def _answer(connection: Connection, view: RunView, *, is_stream: bool) -> Response | None:
    completion = _Completion(view.id)
    if is_stream:
        await show(view, connection, completion)
        return None
    answer_whole(connection)
    await run_through(view, completion)
    if completion.error is not None:
        return json_response({"error": completion.error}, 500, {"X-Should-Retry": "false"})
    return json_response(completion.whole())


@final
class _Completion(Translation):
    """One run as a chat completion."""

    shows_further_texts = False

    def __init__(self, run_id: str) -> None:
        self._id = _PREFIX + run_id
        self._facts: dict[str, Any] = {}
        self._text = StringIO()  # a list of pieces takes ten times as much
        self._calls: list[dict[str, Any]] = []
        self._finish_reason = "stop"
        self._usage: dict[str, int] | None = None
        self.error: dict[str, object] | None = None

    def translate(self, item: RunItem | LeftOut) -> Iterator[Payload]:
        match item:
            case RunText(text=text):
                self._text.write(text)
                yield self._chunk({"content": text})
            case RunEmitted():
                if (facts := facts_of(item)) is not None:
                    self._facts = facts
                    yield self._chunk({"role": "assistant", "content": ""})
                elif (call := client_tool_call(item)) is not None:
                    function = {"name": call.name, "arguments": call.arguments}
                    made = {"id": call.id, "type": "function", "function": function}
                    self._calls.append(made)
                    yield self._chunk({"tool_calls": [{"index": len(self._calls) - 1, **made}]})
            case RunOutcome():
                yield from self._end(item)

    def _end(self, outcome: RunOutcome) -> Iterator[Payload]:
        if outcome.status is not RunStatus.FINISHED:
            kind = "cancelled" if outcome.status is RunStatus.CANCELLED else "server_error"
            self.error = error_object(outcome.reason or outcome.status.value, kind, outcome.status.value)
            yield Payload({"error": self.error})
            return
        result = json_object(outcome.result)
        self._finish_reason = str(result.get("finish_reason", "tool_calls" if self._calls else "stop"))
        if (counts := token_counts(result)) is not None:
            names = ("prompt_tokens", "completion_tokens", "total_tokens")
            self._usage = dict(zip(names, (*counts, sum(counts)), strict=True))
        yield self._chunk({}, self._finish_reason)
        if self._facts.get("include_usage"):
            yield Payload({**self._head("chat.completion.chunk"), "choices": [], "usage": self._usage})
        yield Payload("[DONE]")

    def _chunk(self, delta: dict[str, Any], finish_reason: str | None = None) -> Payload:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
        return Payload({**self._head("chat.completion.chunk"), "choices": [choice]})

    def _head(self, kind: str) -> dict[str, object]:
        facts = self._facts
        return {"id": self._id, "object": kind, "created": facts.get("created"), "model": facts.get("model")}

    def whole(self) -> dict[str, object]:
        """Return the completion of a run that has finished."""
        text = self._text.getvalue()
        message: dict[str, object] = {
            "role": "assistant",
            "content": text if text or not self._calls else None,
            "refusal": None,
        }
        if self._calls:
            message["tool_calls"] = self._calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": self._finish_reason}
        usage = {} if self._usage is None else {"usage": self._usage}
        return {**self._head("chat.completion"), "choices": [choice], **usage}
