"""What the adapters share: a request that starts a run, and its output in another protocol's events.

An adapter translates the items of a run one after the other, and nothing else: not the time, not what a
node remembers. What it must know of the request is the run's first event. So every viewer of a run, on any
node, receives the same events with the same numbers, and resumes by leaving out those that it has.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from itertools import chain
from typing import Any, NamedTuple, Protocol, final

import trio

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.response import Response
from .._runs.errors import RunRestarted
from .._runs.items import RunEmitted, RunItem, RunOutcome, RunState
from .._runs.position import epoch_of
from .._runs.protocol import MAIN_TEXT
from .._runs.run import Run, has_emitted
from .._runs.runs import Runs, functions_of
from .._runs.status import RunStatus
from .._runs.strict_json import parse_json
from .._runs.view import RunView, read_now
from .._stream.connection import Connection, stream_of
from .._wire.event import ServerSentEvent, trusted_event
from .._wire.json_text import compact_json
from ._numbers import EventNumbers, LeftOut, events_had
from ._pieces import PieceSplitter

#: A run's function, which takes the request's body as JSON.
RunFunction = Callable[[Run, Mapping[str, Any]], Awaitable[object]]

#: The type of a run's first event: what an adapter must know of the request.
REQUEST_EVENT = "adapter.request"

#: Ends a viewer whose protocol has no event for beginning anew. The run may go on.
OUTPUT_LOST = RunOutcome(RunStatus.LOST, "a part of the answer was lost: read it again", None, "")

# What an adapter keeps of a request, such as the model's name and the metadata, has at most so many bytes.
_LARGEST_FACTS = 64 * 1024
_LONGEST_KEY = 256

# How a run ends whose node has died.
_STORED_BY_OTHERS = (RunStatus.LOST, RunStatus.CANCELLED)

# After so many pieces of a text, other tasks run.
_PIECES_PER_CHECKPOINT = 500


class Payload(NamedTuple):
    """One event of a protocol.

    Attributes:
        data: a JSON value, or a text that is sent as it is.
        event: its type.
        is_counted: whether it has a number. What has none is sent to every client, and may be sent twice.
        text: which text it belongs to; the main one for all that is no text.
    """

    data: object
    event: str | None = None
    is_counted: bool = True
    text: str = MAIN_TEXT


class Translation(Protocol):
    """A protocol's view of one run. It depends on the run's items alone."""

    shows_further_texts: bool
    """Whether it shows texts besides the main one."""

    async def prepare_state(self, state: str) -> None:
        """Compute what is needed to translate a state, which is JSON, if that takes long; other tasks run."""
        return  # most need nothing

    def translate(self, item: RunItem | LeftOut) -> Iterator[Payload]:
        """Yield the events that an item becomes; none for numbers that are left out."""
        raise NotImplementedError


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


@final
class RunStarter:
    """Starts runs of a function, whose first event has what an adapter must know of the request.

    If the function is one of `Runs.resumable`, so are these runs.

    Args:
        name: that of the adapter, by which other nodes know its resumable runs.
    """

    def __init__(self, runs: Runs, function: RunFunction, name: str) -> None:
        self._runs = runs
        self._function = function
        functions_of(runs).add_wrapper(function, self._act, name)

    async def start(
        self, body: Mapping[str, Any], facts: Mapping[str, Any], *, owner: str | None, key: str | None = None
    ) -> RunView:
        """Start a run with a request's body and the facts; return it, or the one that has the key.

        Raises:
            HTTPException: 400 if the facts are too large, or the key is too long.
        """
        stored = compact_json({**facts, "created": int(time.time())})
        if len(stored) > _LARGEST_FACTS:
            raise HTTPException(400, f"what is stored of the request has more than {_LARGEST_FACTS} bytes")
        if key is not None and len(key) > _LONGEST_KEY:
            raise HTTPException(400, f"a key of a request has at most {_LONGEST_KEY} characters")
        if key is not None:
            check_whole("the key of the request", key)
        return await self._runs.start(self._act, body, stored, owner=owner, key=key or None)

    async def _act(self, run: Run, body: Mapping[str, Any], facts: str) -> object:
        if not has_emitted(run):  # otherwise it was resumed
            await run.emit(facts, event=REQUEST_EVENT)
        return await self._function(run, body)


async def show(
    view: RunView, connection: Connection, translation: Translation, *, after: int | None = None
) -> None:
    """Send a run's events in a protocol, after a number or what the client's `Last-Event-ID` says.

    If what the client has is void, it receives the protocol's error.
    """
    splitter = PieceSplitter(further=translation.shows_further_texts)
    had = events_had(view.id, connection.last_event_id) if after is None else (after + 1,)
    numbers = EventNumbers(view.id, splitter.further_texts, had)
    async with view.events() as items, aclosing(_pieces_of(items, splitter)) as pieces:
        await connection.start()  # a client that has everything may wait long for more
        async for piece in pieces:
            if piece is OUTPUT_LOST or (isinstance(piece, LeftOut) and numbers.leave_out(piece.count)):
                break
            if isinstance(piece, RunState):
                await translation.prepare_state(piece.data)
            for payload in translation.translate(piece):
                id = numbers.next(payload.text) if payload.is_counted else None
                if id is not None or not payload.is_counted:
                    await connection.send(_event_of(payload, id))
        else:
            if not numbers.missing:
                return
    for said in (LeftOut(numbers.missing), OUTPUT_LOST):  # some clients skip what has no higher number
        for payload in translation.translate(said):
            await connection.send(_event_of(payload, None))


async def run_through(view: RunView, translation: Translation) -> None:
    """Let a translation see a run until its end, for an answer that is not a stream."""
    async with view.events() as items:
        await _translate_all(items, translation)


async def translate_now(view: RunView, translation: Translation) -> None:
    """Let a translation see what a run has put out so far."""
    async with aclosing(_each(await read_now(view))) as items:
        await _translate_all(items, translation)


async def _translate_all(items: AsyncIterator[RunItem], translation: Translation) -> None:
    splitter = PieceSplitter(further=translation.shows_further_texts)
    async with aclosing(_pieces_of(items, splitter)) as pieces:
        async for piece in pieces:
            for _ in translation.translate(piece):
                pass


async def _each(items: Sequence[RunItem]) -> AsyncGenerator[RunItem, None]:
    for item in items:
        yield item


async def _pieces_of(
    items: AsyncIterator[RunItem], splitter: PieceSplitter
) -> AsyncGenerator[RunItem | LeftOut, None]:
    """Yield the pieces of a run's items, and where numbers are left out.

    `OUTPUT_LOST` is the last one if what was read became void.
    """
    number, epoch = 0, ""
    try:
        async for item in items:
            left_out, epoch = left_out_before(item, epoch)
            for piece in chain.from_iterable(map(splitter.split, (*left_out, item))):
                yield piece
                number += 1
                if number % _PIECES_PER_CHECKPOINT == 0:
                    await trio.lowlevel.checkpoint()
    except RunRestarted:
        yield OUTPUT_LOST


def left_out_before(item: RunItem, epoch: str) -> tuple[list[LeftOut], str]:
    """Return which numbers are left out before an item, and its attempt; `epoch` is the attempt before."""
    if isinstance(item, RunState):  # it has no place among the others
        return [], epoch
    own = epoch_of(item.cursor)
    found = [] if own == epoch else [LeftOut.before_attempt(own)]
    if isinstance(item, RunOutcome) and item.status in _STORED_BY_OTHERS:
        found.append(LeftOut.before_end())
    return found, own


def _event_of(payload: Payload, id: str | None) -> ServerSentEvent:
    """Return a payload as an event.

    It may be larger than others: the last event of a response has all its text. What bounds it is the run.
    """
    data = payload.data if isinstance(payload.data, str) else compact_json(payload.data)
    return trusted_event(data, payload.event, id, None)


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
        body = parse_json(request.body)
    except (ValueError, RecursionError):
        raise HTTPException(400, "the body is not JSON, or is too deep") from None
    if not isinstance(body, dict):
        raise HTTPException(400, "the body is not a JSON object")
    return body


def check_whole(name: str, text: str) -> None:
    """Raise `HTTPException` if a text has half of a character, which JSON allows."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise HTTPException(400, f"{name} has half of a character") from None


def json_response(value: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON value as a response."""
    return Response(
        compact_json(value), status=status, content_type="application/json", headers=headers or {}
    )
