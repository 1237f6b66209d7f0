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
from weakref import WeakValueDictionary

from .._http.exceptions import HTTPException
from .._http.response import Response
from .._runs.items import RunOutcome
from .._runs.routes import OwnerOf
from .._runs.runs import Runs
from .._runs.status import RunStatus
from .._stream.connection import Connection
from .._stream.whole_body import needs_body
from .._wire.json_text import compact_json
from ._conversations import Conversations
from ._message import MessageTranslation, Part
from ._protocol import Payload, RunFunction, ToolCall, body_of, json_or_text, show
from ._state_changes import StateChanges

__all__ = ["AgUi"]

_LONGEST_ID = 256


@final
class AgUi:
    """Handlers of an agent.

    The function's texts and `run.emit("...", event="reasoning")` become messages, and those of a text besides
    the main one have its `name`. `event="tool_call"`,
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
        self._threads = Conversations(runs, function, "AgUi", owner)
        self._changes = WeakValueDictionary[str, StateChanges]()  # of runs that have viewers, by id

    @needs_body
    async def run(self, connection: Connection) -> None:
        """Answer a POST of the protocol's input: start the run, or join it if it was sent before."""
        body = body_of(connection.request)
        thread_id, run_id = body.get("threadId"), body.get("runId")
        if not (isinstance(thread_id, str) and isinstance(run_id, str) and 0 < len(run_id) <= _LONGEST_ID):
            raise HTTPException(400, "the input needs a threadId and a runId")
        facts = {"threadId": thread_id, "runId": run_id}
        view = await self._threads.start(connection, thread_id, body, facts, key=run_id)
        await show(view, connection, self._translation(view.id))

    async def resume(self, connection: Connection, id: str) -> Response | None:
        """Answer a GET with a thread's id: its newest run from the start, or 204 if none goes on."""
        return await self._threads.resume(connection, id, self._translation)

    async def stop(self, connection: Connection, id: str) -> Response:
        """Answer a POST with a thread's id: cancel its runs that go on."""
        return await self._threads.stop(connection, id)

    def _translation(self, run_id: str) -> _AgentRun:
        return _AgentRun(run_id, self._changes.setdefault(run_id, StateChanges()))


@final
class _AgentRun(MessageTranslation):
    """One run as the protocol's events.

    Args:
        changes: those of its state, which all viewers share.
    """

    def __init__(self, run_id: str, changes: StateChanges) -> None:
        super().__init__()
        self._run_id = run_id
        self._ids: Mapping[str, Any] = {}  # of the thread and the run, as the client names them
        self._changes = changes
        self._state: str | None = None  # what the client has, if it has received one

    def begin(self, facts: Mapping[str, Any]) -> Iterator[Payload]:
        self._ids = {name: facts.get(name) for name in ("threadId", "runId")}
        yield Payload({"type": "RUN_STARTED", **self._ids})

    def opened(self, part: Part) -> Iterator[Payload]:
        id = {"messageId": self._id_of(part)}
        if part.kind == "reasoning":
            yield Payload({"type": "REASONING_START", **id})
            yield Payload({"type": "REASONING_MESSAGE_START", **id, "role": "reasoning"})
        else:
            name = {"name": part.name} if part.is_further else {}
            yield Payload({"type": "TEXT_MESSAGE_START", **id, "role": "assistant", **name})

    def grown(self, part: Part, text: str) -> Payload:
        kind = f"{part.kind.upper()}_MESSAGE_CONTENT"
        return Payload({"type": kind, "messageId": self._id_of(part), "delta": text})

    def closed(self, part: Part) -> Iterator[Payload]:
        id = {"messageId": self._id_of(part)}
        yield Payload({"type": f"{part.kind.upper()}_MESSAGE_END", **id})
        if part.kind == "reasoning":
            yield Payload({"type": "REASONING_END", **id})

    def _id_of(self, part: Part) -> str:
        name = f"{part.name}-" if part.is_further else ""
        return f"{self._run_id}-{name}{part.number + 1}"

    def call(self, call: ToolCall) -> Iterator[Payload]:
        yield Payload({"type": "TOOL_CALL_START", "toolCallId": call.id, "toolCallName": call.name})
        yield Payload({"type": "TOOL_CALL_ARGS", "toolCallId": call.id, "delta": call.arguments})
        yield Payload({"type": "TOOL_CALL_END", "toolCallId": call.id})

    def result(self, result: Mapping[str, Any]) -> Payload:
        content = result.get("error", result.get("result"))
        fields = {
            "messageId": f"{self._run_id}-{self.next_number() + 1}",
            "toolCallId": str(result.get("id", "")),
            "content": content if isinstance(content, str) else compact_json(content),
            "role": "tool",
        }
        return Payload({"type": "TOOL_CALL_RESULT", **fields})

    def other(self, event: str, value: object) -> Payload:
        return Payload({"type": "CUSTOM", "name": event, "value": value})

    async def prepare_state(self, state: str) -> None:
        if self._state is not None:
            await self._changes.prepare(self._state, state)

    def state(self, state: str) -> Iterator[Payload]:
        patch = None if self._state is None else self._changes.patch(self._state, state)
        self._state = state
        if patch is None:
            yield Payload(f'{{"type":"STATE_SNAPSHOT","snapshot":{state}}}', is_counted=False)
        elif patch != "[]":
            yield Payload(f'{{"type":"STATE_DELTA","delta":{patch}}}', is_counted=False)

    def end(self, outcome: RunOutcome) -> Iterator[Payload]:
        if outcome.status is RunStatus.FINISHED:
            result = {} if outcome.result is None else {"result": json_or_text(outcome.result)}
            yield Payload({"type": "RUN_FINISHED", **self._ids, **result})
        elif outcome.status is RunStatus.CANCELLED:
            yield Payload({"type": "RUN_FINISHED", **self._ids, "outcome": {"type": "cancelled"}})
        else:
            status = outcome.status.value
            yield Payload({"type": "RUN_ERROR", "message": outcome.reason or status, "code": status})
