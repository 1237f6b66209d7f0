"""Long polling: a stream's events in batches, for clients behind networks that block streams.

The same handler runs, but what it sends is collected. The response is sent when there are events, and at the
latest after the time that the client wants to wait. It contains the cursor for the next request, which is of
the same kind as `Last-Event-ID`. So a client that polls, or that switches between polling and streaming,
receives each event exactly once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import final

import trio

from .._http.exceptions import HTTPException
from .._http.fields import merge_fields
from .._http.offset import seconds_of
from .._http.request import Request, mentions
from .._http.response import Response
from .._hub.hub import engine_of
from .._wire.cursor import CursorForm
from .._wire.decoder import EventDecoder
from .._wire.event import ServerSentEvent
from .connection import Connection
from .end_reason import EndReason
from .lifecycle import Handle, Refused, run_stream
from .live_stream import LiveStream
from .manager import StreamManager
from .scope import ServeScope
from .stream_kind import in_route
from .unconnected import UnconnectedTransport, WatchDisconnect

_WAIT_SECONDS = 25.0  # most proxies wait for a minute, some for half of it
_MOST_WAIT_SECONDS = 60.0
_AHEAD_SECONDS = 3.0  # a node polls a shared log once a second

# A handler that has neither written nor refused may still refuse, and until it subscribes there is no cursor.
# So a shorter poll waits for it all the same.
_DECISION_SECONDS = 3.0

# Events that follow the first one within this time are in the same response.
_BATCH_SECONDS = 0.05

# One response has about this much; the rest is for the next request.
_MOST_EVENTS = 256
_MOST_BYTES = 64 * 1024


# A weight of zero, which means "not acceptable" (RFC 9110, 12.4.2).
_REFUSED = re.compile(r";[ \t]*q[ \t]*=[ \t]*0(?:\.0{0,3})?[ \t]*(?:;|$)")


def wants_poll(request: Request) -> bool:
    """Whether a request asks for a batch of events as JSON rather than for a stream."""
    if request.method not in ("GET", "HEAD"):
        return False
    if not mentions(request.headers, b"json"):  # as in most requests
        return False
    accept = ",".join(request.headers.get_all("accept")).lower()
    accepted = [
        part.partition(";")[0].strip(" \t") for part in accept.split(",") if not _REFUSED.search(part)
    ]
    if "application/json" not in accepted or "text/event-stream" in accepted:
        return False
    return request.query.get("stream") != "true"  # as OpenAI's clients ask for a stream, whatever they accept


def wait_of(request: Request) -> float:
    """Return how long a client wants to wait, in seconds; raises `HTTPException` if that is not allowed."""
    text = request.query.get("wait")
    if request.method == "HEAD" and text is None:
        return 0.0
    if text is None:
        return _WAIT_SECONDS
    seconds = seconds_of(text)
    if not 0 <= seconds <= _MOST_WAIT_SECONDS:
        raise HTTPException(400, f"wait must be 0 to {_MOST_WAIT_SECONDS:.0f} seconds")
    return seconds


async def run_poll(
    manager: StreamManager,
    serving: ServeScope,
    request: Request,
    handle: Handle,
    *,
    peer: str,
    discard: Callable[[], Awaitable[bool]],
    is_disconnected: Callable[[], bool] = lambda: False,
    watch_disconnect: WatchDisconnect | None = None,
    route: str | None = None,
    is_secure: bool = False,
    identity: str | None = None,
) -> Response | Refused | None:
    """Run a handler until there is something to respond with.

    Return the response; or `Refused`, if the handler raised before it sent anything; or `None`, if the client
    has disconnected.

    Args:
        discard: reads from the client, to notice a disconnect; see `Transport.discard_some`.
        is_disconnected: whether the client has disconnected, for hosts that then cancel this call.
        watch_disconnect: has a function called at a disconnect, which middleware may keep from the app.
        route, is_secure: what statistics count it as; see `StreamKind`.
        identity: whose it is; see `Connection.identity`.

    Raises:
        HTTPException: the request is not acceptable.
    """
    wait = wait_of(request)
    own_cursor = request.last_event_id or ""
    if engine_of(manager.hub).is_ahead(own_cursor):  # wait until the log has the id, or never will
        wait = max(wait, _AHEAD_SECONDS)
    transport = PollTransport(peer, discard, own_cursor)
    stream = manager.new_stream(serving, transport, request, b"")
    stream.kind = in_route(stream.kind, route, is_secure=is_secure)
    stream.set_identity(identity)
    stream.cursor_form = CursorForm.BLOCK  # for the decoder in the transport
    if watch_disconnect is not None:
        watch_disconnect(stream.on_disconnect)

    async def handle_until_cancelled(connection: Connection) -> object:
        try:
            return await handle(connection)
        finally:
            if is_disconnected():
                stream.on_disconnect()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(_close_in_time, stream, transport, wait)
        outcome = await run_stream(manager, serving, stream, handle_until_cancelled)
        nursery.cancel_scope.cancel()
    if isinstance(outcome, Refused) and stream.end_reason in _ANSWERED_OTHERWISE and not transport.is_closed:
        return outcome
    # Otherwise it is a batch, maybe an empty one, whatever has ended the stream.
    if stream.end_reason is EndReason.CLIENT_DISCONNECTED:
        return None
    return transport.response(stream.added_fields or ())


_ANSWERED_OTHERWISE = (EndReason.REFUSED, EndReason.ANSWERED, EndReason.HANDLER_ERROR)


async def _close_in_time(stream: LiveStream, transport: PollTransport, wait: float) -> None:
    with trio.move_on_after(wait):
        await transport.wait_arrived()
        with trio.move_on_after(_BATCH_SECONDS):
            await transport.wait_full()
    if wait < _DECISION_SECONDS and not stream.has_started:
        with trio.move_on_after(_DECISION_SECONDS - wait):
            while not stream.has_started:
                await transport.wait_change()
    if wait < _AHEAD_SECONDS and stream.is_behind and not transport.events_sent:
        # It waits for the first page of a shared log, which another node's log may be slow to return.
        for feed in stream.forwarded:
            feed.on_live = transport.note_change
        with trio.move_on_after(_AHEAD_SECONDS - wait):
            while stream.is_behind and not transport.events_sent:
                await transport.wait_change()
    transport.is_closed = True
    stream.end(EndReason.FINISHED)


@final
class PollTransport(UnconnectedTransport):
    """Collects the events of one response.

    When the response is full, the next payload stays pending, and the handler waits. Once the response
    `is_closed`, what is pending is dropped: the client gets it with its next request.
    """

    def __init__(self, peer: str, discard: Callable[[], Awaitable[bool]], last_event_id: str) -> None:
        super().__init__(peer, discard)
        self.is_closed = False
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
        self.note_change()
        return True

    async def flush_some(self) -> None:
        if self.pending is not None and not self.is_closed:
            await trio.sleep_forever()
        self.pending = None

    async def receive_some(self) -> bytes:
        raise NotImplementedError

    def note_change(self) -> None:
        """Wake who waits for a change: events have arrived, or there are none that were missed."""
        self._changed.unpark_all()

    async def wait_change(self) -> None:
        """Wait until something has changed."""
        await self._changed.park()

    async def wait_arrived(self) -> None:
        """Wait until there is an event."""
        while not self._events:
            await self._changed.park()

    async def wait_full(self) -> None:
        """Wait until there is as much as one response takes."""
        while not self._is_full:
            await self._changed.park()

    def response(self, fields: Iterable[tuple[str, str]]) -> Response:
        """Return the response, with further header fields; its cursor is the last one that was written."""
        events = [
            {
                name: value
                for name, value in (
                    ("topic", event.topic),
                    ("id", event.id),
                    ("event", event.event),
                    ("data", event.data),
                )
                if value is not None
            }
            for event in self._events
        ]
        return Response(
            json.dumps({"events": events, "last_event_id": self._decoder.last_event_id}, ensure_ascii=False),
            content_type="application/json",
            headers=merge_fields([("Cache-Control", "no-store"), ("Vary", "Accept")], fields),
        )
