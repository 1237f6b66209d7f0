"""Long polling: a stream's events in portions, for clients whose network doesn't let a stream through.

The same handler runs, but what it sends is collected. The answer goes out when something has come, and at the
latest when the client no longer wants to wait. It has the cursor for the next call in it, which is of the
same kind as `Last-Event-ID`: so a client that polls, or that changes between the two ways, is given each
event once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Awaitable, Callable
from typing import final

import trio

from .._http.exceptions import HTTPException
from .._http.request import Request
from .._http.response import Response
from .._hub.hub import engine_of
from .._transport.buffered import BufferedTransport
from .._wire.decoder import EventDecoder
from .._wire.event import ServerSentEvent
from .connection import Connection
from .end_reason import EndReason
from .lifecycle import Handle, run_stream
from .manager import StreamManager
from .scope import ServeScope

_WAIT_SECONDS = 25.0  # most proxies wait for a minute, some for half of it
_MOST_WAIT_SECONDS = 60.0
_AHEAD_SECONDS = 3.0  # a node that reads a shared log looks once a second whether it has more

# What comes right after the first event is taken along.
_GATHER_SECONDS = 0.05

# One answer has about so much; the rest is for the next call.
_MOST_EVENTS = 256
_MOST_BYTES = 64 * 1024


def wants_poll(request: Request) -> bool:
    """Whether a request is for a portion of JSON rather than for a stream."""
    if request.method != "GET":
        return False
    accept = request.headers.get("accept") or ""
    if "json" not in accept.lower():  # as most
        return False
    accepted = [part.partition(";")[0].strip().lower() for part in accept.split(",")]
    return "application/json" in accepted and "text/event-stream" not in accepted


def wait_of(request: Request) -> float:
    """Give the seconds for which a client wants to wait; raises `HTTPException` if that can't be granted."""
    text = request.query.get("wait")
    if text is None:
        return _WAIT_SECONDS
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not 0 <= seconds <= _MOST_WAIT_SECONDS:
        raise HTTPException(400, f"wait must be 0 to {_MOST_WAIT_SECONDS:.0f} seconds")
    return seconds


async def run_poll(
    serving: ServeScope,
    manager: StreamManager,
    request: Request,
    handle: Handle,
    *,
    peer: str,
    discard: Callable[[], Awaitable[bool]],
) -> Exception | Response | None:
    """Run a handler until there is something to answer with.

    Return the answer; or what the handler raised before it sent anything; or nothing, if the client has gone.

    Args:
        discard: reads from the client, to notice when it goes; see `Transport.discard_some`.

    Raises:
        HTTPException: the request is not acceptable.
    """
    wait = wait_of(request)
    own_cursor = request.last_event_id or ""
    newest = manager.hub.last_event_id  # all up to it is either in the answer or of no concern to the client
    if engine_of(manager.hub).is_ahead(own_cursor):  # the log is to come to it, or to be known not to have it
        newest, wait = own_cursor, max(wait, _AHEAD_SECONDS)
    transport = PollTransport(peer, discard, own_cursor)
    connection = Connection(serving, manager, transport, request, b"")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_close_in_time, connection, transport, wait)
        outcome = await run_stream(serving, connection, handle)
        nursery.cancel_scope.cancel()
    if isinstance(outcome, Exception):
        return outcome
    if connection.end_reason is EndReason.CLIENT_DISCONNECTED:
        return None
    return transport.response(newest if connection.has_forwarded else own_cursor)


async def _close_in_time(connection: Connection, transport: PollTransport, wait: float) -> None:
    with trio.move_on_after(wait):
        await transport.wait_arrived()
        with trio.move_on_after(_GATHER_SECONDS):
            await transport.wait_full()
    transport.is_closed = True
    connection.close()


@final
class PollTransport(BufferedTransport):
    """Collects the events of one answer.

    When the answer is full, the next payload stays pending, and the handler waits. Once the answer
    `is_closed`, what is pending is dropped: the client gets it with its next request.
    """

    def __init__(self, peer: str, discard: Callable[[], Awaitable[bool]], last_event_id: str) -> None:
        super().__init__(peer)
        self.is_closed = False
        self._discard = discard
        self._decoder = EventDecoder(last_event_id=last_event_id)
        self._events: list[ServerSentEvent] = []
        self._changed = trio.lowlevel.ParkingLot()

    @property
    def is_direct(self) -> bool:
        return True

    @property
    def _is_full(self) -> bool:
        return len(self._events) >= _MOST_EVENTS or self.bytes_sent >= _MOST_BYTES

    def send_nowait(self, payload: bytes, events: int, now: float) -> bool:
        if self._is_full:
            self.pending = payload
            return False
        self.written_at = now
        self.events_sent += events
        self.bytes_sent += len(payload)
        self._events += self._decoder.feed(payload)
        self._changed.unpark_all()
        return True

    async def flush_some(self) -> None:
        if self.pending is not None and not self.is_closed:
            await trio.sleep_forever()
        self.pending = None

    async def receive_some(self) -> bytes:
        raise NotImplementedError

    async def discard_some(self) -> bool:
        return await self._discard()

    def unread_bytes(self) -> int:
        return 0

    async def linger(self) -> None:
        """Do nothing: there is nobody on the other side."""

    async def aclose(self, *, abort: bool = False) -> None:
        """Do nothing: there is nothing to close."""

    async def wait_arrived(self) -> None:
        """Wait until there is an event."""
        while not self._events:
            await self._changed.park()

    async def wait_full(self) -> None:
        """Wait until there is as much as one answer takes."""
        while not self._is_full:
            await self._changed.park()

    def response(self, cursor: str) -> Response:
        """Give the answer; `cursor` is where the client goes on if none of the events has an id."""
        events = [
            {
                name: value
                for name, value in (("id", event.id), ("event", event.event), ("data", event.data))
                if value is not None
            }
            for event in self._events
        ]
        if any(event.id is not None for event in self._events):
            cursor = self._decoder.last_event_id
        return Response(
            json.dumps({"events": events, "last_event_id": cursor}, ensure_ascii=False),
            content_type="application/json",
            headers={"Cache-Control": "no-store", "Vary": "Accept"},
        )
