"""What the adapters share: a request that starts a run, and its output in another protocol's events.

An adapter translates the items of a run one after the other, and nothing else: not the time, not what a
node remembers. What it must know of the request is the run's first event. So every viewer of a run, on any
node, receives the same events with the same numbers, and resumes by leaving out those that it has.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.response import Response
from .._runs.items import RunEmitted, RunItem
from .._runs.run import Run
from .._runs.runs import Runs
from .._runs.view import RunView
from .._stream.connection import Connection, stream_of
from .._wire.event import ServerSentEvent
from .._wire.json_text import compact_json
from ._pieces import PieceSplitter

#: A run's function, which takes the request's body as JSON.
RunFunction = Callable[[Run, Mapping[str, Any]], Awaitable[object]]

#: The type of a run's first event: what an adapter must know of the request.
REQUEST_EVENT = "adapter.request"

_TAG_SIZE = 8


class Payload(NamedTuple):
    """One event of a protocol.

    Attributes:
        data: a JSON value, or a text that is sent as it is.
        event: its type.
        is_counted: whether it has a number. What has none is sent to every client, and may be sent twice.
    """

    data: object
    event: str | None = None
    is_counted: bool = True


class Translation(Protocol):
    """A protocol's view of one run. It depends on the run's items alone."""

    def translate(self, item: RunItem) -> Iterator[Payload]:
        """Yield the events that an item becomes."""


class ToolCall(NamedTuple):
    """A call of a tool, as `run.emit({"id": ..., "name": ..., "arguments": ...}, event="tool_call")` says.

    Attributes:
        arguments: as JSON.
        is_executed: whether the run's function executes it, rather than the client.
    """

    id: str
    name: str
    arguments: str
    is_executed: bool

    @classmethod
    def of(cls, item: RunEmitted) -> ToolCall:
        """Return the call of such an event."""
        call = json_object(item.data)
        arguments = call.get("arguments", {})
        text = arguments if isinstance(arguments, str) else compact_json(arguments)
        return cls(str(call.get("id", "")), str(call.get("name", "")), text, bool(call.get("executed")))


async def start_run(
    runs: Runs,
    function: RunFunction,
    body: Mapping[str, Any],
    facts: Mapping[str, Any],
    *,
    owner: str | None,
    key: str | None = None,
) -> RunView:
    """Start a run of a function, whose first event has the facts."""

    async def run_function(run: Run) -> object:
        await run.emit({**facts, "created": int(time.time())}, event=REQUEST_EVENT)
        return await function(run, body)

    return await runs.start(run_function, key=key, owner=owner)


async def show(
    view: RunView, connection: Connection, translation: Translation, *, after: int | None = None
) -> None:
    """Send a run's events in a protocol, after a number or what the client's `Last-Event-ID` says."""
    tag = view.id[:_TAG_SIZE]
    if after is None:
        after = _number_of(connection.last_event_id, tag)
    number = 0
    splitter = PieceSplitter()
    async with view.events() as items:
        async for item in items:
            for piece in splitter.split(item):
                for payload in translation.translate(piece):
                    if not payload.is_counted:
                        await connection.send(ServerSentEvent(payload.data, event=payload.event))
                        continue
                    if number > after:
                        id = f"{tag}.{number}"
                        await connection.send(ServerSentEvent(payload.data, event=payload.event, id=id))
                    number += 1


async def run_through(view: RunView, translation: Translation) -> None:
    """Let a translation see a run until its end, for an answer that is not a stream."""
    splitter = PieceSplitter()
    async with view.events() as items:
        async for item in items:
            for piece in splitter.split(item):
                for _ in translation.translate(piece):
                    pass


def answer_whole(connection: Connection) -> None:
    """Keep a connection free for a whole response, however long it takes.

    A keepalive would begin a stream.
    """
    stream = stream_of(connection)
    stream.options = replace(stream.options, keepalive=math.inf)


def facts_of(item: RunItem) -> dict[str, Any] | None:
    """Return what an adapter has stored of the request, if this item is that."""
    if isinstance(item, RunEmitted) and item.event == REQUEST_EVENT:
        facts: dict[str, Any] = item.json()
        return facts
    return None


def json_object(text: str | bytes | None) -> dict[str, Any]:
    """Return a text as a JSON object; an empty one if it is something else."""
    try:
        value = json.loads(text or b"{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def json_or_text(text: str) -> object:
    """Return the JSON value that a text is; the text itself if it is none."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def body_of(request: Request) -> dict[str, Any]:
    """Return a request's body as a JSON object.

    Raises:
        HTTPException: it is none.
    """
    try:
        body = json.loads(request.body)
    except ValueError:
        raise HTTPException(400, "the body is not JSON") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return body


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON value as a response."""
    return Response(
        compact_json(value), status=status, content_type="application/json", headers=headers or {}
    )


def _number_of(last_event_id: str | None, tag: str) -> int:
    """Return the number of the last event that a client has; -1 for none."""
    before, _, number = (last_event_id or "").partition(".")
    return int(number) if before == tag and number.isascii() and number.isdigit() and len(number) < 16 else -1
