"""AG-UI, the Agent-User Interaction Protocol, on runs: agents in front ends such as CopilotKit's.

::

    agent = AgUi(runs, answer)  # answer(run, input); input["messages"] and so on, as the protocol names them
    server.route("/agent", methods=["POST"])(agent.run)
    server.route("/agent/{id}/stream")(agent.resume)
    server.route("/agent/{id}/stop", methods=["POST"])(agent.stop)

The format is version 1.0 of the protocol; clients of earlier versions understand it, too.
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
from .._wire.json_text import compact_json
from ._conversations import cancel_all, newest, owner_of_conversation
from ._json_patch import Operation, json_patch
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

__all__ = ["AgUi"]

_LONGEST_ID = 256

# A patch is sent if it is no longer than this, or than the state.
_SHORT_PATCH = 1024


@final
class AgUi:
    """Handlers of an agent.

    The function's main text and `run.emit("...", event="reasoning")` become messages. `event="tool_call"`,
    with `id`, `name` and `arguments`, and `event="tool_result"`, with `id` and `result`, become those of
    the protocol, and any other event becomes a custom one. A client receives the state as a snapshot, and
    then its changes as patches.

    Args:
        runs: what starts and keeps the runs. A run's owner is who has sent the request, and the thread.
        function: a coroutine function of the run and the input of the protocol.
        owner: returns who has sent a request, by default `Connection.identity`. Others can
            neither see nor stop the thread's runs.
    """

    def __init__(self, runs: Runs, function: RunFunction, *, owner: OwnerOf | None = None) -> None:
        self._runs = runs
        self._starter = RunStarter(runs, function, "AgUi")
        self._owner = owner

    @needs_body
    async def run(self, connection: Connection) -> None:
        """Answer a POST of the protocol's input: start the run, or join it if it was sent before."""
        body = body_of(connection.request)
        thread_id, run_id = body.get("threadId"), body.get("runId")
        if not (isinstance(thread_id, str) and isinstance(run_id, str) and 0 < len(run_id) <= _LONGEST_ID):
            raise HTTPException(400, "the input needs a threadId and a runId")
        owner = owner_of_conversation(owner_of(connection, self._owner), thread_id)
        facts = {"threadId": thread_id, "runId": run_id}
        view = await self._starter.start(body, facts, owner=owner, key=run_id)
        await show(view, connection, _AgentRun(view.id))

    async def resume(self, connection: Connection, id: str) -> Response | None:
        """Answer a GET with a thread's id: its newest run from the start, or 204 if none goes on."""
        view = await newest(self._runs, owner_of_conversation(owner_of(connection, self._owner), id))
        if view is None:
            return Response(status=204)
        await show(view, connection, _AgentRun(view.id))
        return None

    async def stop(self, connection: Connection, id: str) -> Response:
        """Answer a POST with a thread's id: cancel its runs that go on."""
        await cancel_all(self._runs, owner_of_conversation(owner_of(connection, self._owner), id))
        return Response(status=204)


@final
class _AgentRun:
    """One run as the protocol's events."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._ids: Mapping[str, Any] = {}  # of the thread and the run, as the client names them
        self._open: tuple[str, str] | None = None  # the kind and id of the message that grows
        self._messages = 0
        self._states: list[object] = []  # what the client has, if it has received one

    def translate(self, item: RunItem) -> Iterator[Payload]:
        match item:
            case RunText(text=text):
                yield from self._grow("TEXT", text)
            case RunState():
                yield from self._change_state(item.json())
            case RunEmitted():
                yield from self._emitted(item)
            case RunOutcome():
                yield from self._end(item)

    def _change_state(self, state: object) -> Iterator[Payload]:
        """Yield the state for a client that has none, and otherwise how it has changed."""
        patch = json_patch(self._states[0], state) if self._states else None
        self._states = [state]
        if patch is None or (patch and _is_too_large(patch, state)):
            yield Payload({"type": "STATE_SNAPSHOT", "snapshot": state}, is_counted=False)
        elif patch:
            yield Payload({"type": "STATE_DELTA", "delta": patch}, is_counted=False)

    def _emitted(self, item: RunEmitted) -> Iterator[Payload]:
        if (facts := facts_of(item)) is not None:
            self._ids = {name: facts.get(name) for name in ("threadId", "runId")}
            yield Payload({"type": "RUN_STARTED", **self._ids})
        elif item.event == "reasoning":
            yield from self._grow("REASONING", item.data)
        elif item.event == "tool_call":
            yield from self._close()
            yield from self._call(ToolCall.of(item))
        elif item.event == "tool_result":
            yield from self._close()
            yield self._result(json_object(item.data))
        else:
            value = json_or_text(item.data)
            yield Payload({"type": "CUSTOM", "name": item.event or "message", "value": value})

    def _call(self, call: ToolCall) -> Iterator[Payload]:
        yield Payload({"type": "TOOL_CALL_START", "toolCallId": call.id, "toolCallName": call.name})
        yield Payload({"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": call.arguments})
        yield Payload({"type": "TOOL_CALL_END", "toolCallId": call.id})

    def _result(self, result: Mapping[str, Any]) -> Payload:
        content = result.get("error", result.get("result"))
        fields = {
            "messageId": self._next_id(),
            "toolCallId": str(result.get("id", "")),
            "content": content if isinstance(content, str) else compact_json(content),
            "role": "tool",
        }
        return Payload({"type": "TOOL_CALL_RESULT", **fields})

    def _grow(self, kind: str, text: str) -> Iterator[Payload]:
        if self._open is None or self._open[0] != kind:
            yield from self._close()
            self._open = (kind, self._next_id())
            id = {"messageId": self._open[1]}
            if kind == "REASONING":
                yield Payload({"type": "REASONING_START", **id})
            role = "assistant" if kind == "TEXT" else "reasoning"
            yield Payload({"type": f"{kind}_MESSAGE_START", **id, "role": role})
        yield Payload({"type": f"{kind}_MESSAGE_CONTENT", "messageId": self._open[1], "delta": text})

    def _close(self) -> Iterator[Payload]:
        if self._open is not None:
            kind, id = self._open
            self._open = None
            yield Payload({"type": f"{kind}_MESSAGE_END", "messageId": id})
            if kind == "REASONING":
                yield Payload({"type": "REASONING_END", "messageId": id})

    def _next_id(self) -> str:
        self._messages += 1
        return f"{self._run_id}-{self._messages}"

    def _end(self, outcome: RunOutcome) -> Iterator[Payload]:
        yield from self._close()
        if outcome.status is RunStatus.FINISHED:
            result = {} if outcome.result is None else {"result": json_or_text(outcome.result)}
            yield Payload({"type": "RUN_FINISHED", **self._ids, **result})
        elif outcome.status is RunStatus.CANCELLED:
            yield Payload({"type": "RUN_FINISHED", **self._ids, "outcome": {"type": "cancelled"}})
        else:
            status = outcome.status.value
            yield Payload({"type": "RUN_ERROR", "message": outcome.reason or status, "code": status})


def _is_too_large(patch: list[Operation], state: object) -> bool:
    """Whether the state itself is shorter than a long patch."""
    size = len(compact_json(patch))
    return size > _SHORT_PATCH and size > len(compact_json(state))
