"""A response as it arrives: the client reads it, and can stall, leave or break the connection."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import final

import h11
import trio

from .._http.request import Headers
from .._wire.decoder import EventDecoder
from .._wire.event import ServerSentEvent
from ._nursery import open_nursery
from ._pipe import PipeEnd

_LINE_END = re.compile(b"\r\n|\r|\n")


@final
class Stream:
    """A response that is being received; returned by `Client.stream`.

    Attributes:
        status: the response's status; 0 if the server has closed the connection without a response.
        headers: the response's header fields.
        body: the bytes of the body so far.
        comments: the texts of the comments so far; that of a keepalive is empty.
        is_ended: the body is complete.
        is_cut: the connection was closed before the body was complete.
    """

    def __init__(self, stream: PipeEnd, timeout: float, decoder: EventDecoder) -> None:
        self.status = 0
        self.headers = Headers([])
        self.body = b""
        self.comments: list[str] = []
        self.is_ended = False
        self.is_cut = False
        self._stream = stream
        self._timeout = timeout
        self._decoder = decoder
        self._has_head = False
        self._events: deque[ServerSentEvent] = deque()
        self._line = b""  # the incomplete last one
        self._changed = trio.lowlevel.ParkingLot()
        self._may_read = trio.Event()
        self._may_read.set()

    @property
    def is_over(self) -> bool:
        """Whether nothing more will arrive."""
        return self.is_ended or self.is_cut

    @property
    def keepalives(self) -> int:
        """How many keepalives have arrived."""
        return self.comments.count("")

    @property
    def last_event_id(self) -> str:
        """What an `EventSource` would send as its `Last-Event-ID` now."""
        return self._decoder.last_event_id

    @property
    def retry(self) -> int | None:
        """The latest reconnection time that the server has sent, in milliseconds."""
        return self._decoder.retry

    async def event(self) -> ServerSentEvent:
        """Wait for the next event and return it.

        Raises:
            EOFError: the stream is over.
            trio.TooSlowError: it does not arrive in time.
        """
        await self._wait_for("an event", lambda: bool(self._events) or self.is_over)
        if not self._events:
            end = "ended" if self.is_ended else "been cut"
            raise EOFError(f"the stream has {end}: there are no more events")
        return self._events.popleft()

    async def events(self, count: int) -> list[ServerSentEvent]:
        """Wait for `count` events, each within the timeout, and return them."""
        return [await self.event() for _ in range(count)]

    def events_nowait(self) -> list[ServerSentEvent]:
        """Return the events that have arrived and were not returned before."""
        events = list(self._events)
        self._events.clear()
        return events

    async def wait_keepalives(self, count: int) -> None:
        """Wait until `count` keepalives have arrived in all, each within the timeout."""
        while self.keepalives < count:
            more = self.keepalives + 1
            await self._wait_for("a keepalive", partial(self._has_keepalives, more))
            if self.keepalives < more:
                raise EOFError("the stream is over: there are no more keepalives")

    def _has_keepalives(self, count: int) -> bool:
        return self.keepalives >= count or self.is_over

    async def wait_over(self, *, within: float | None = None) -> None:
        """Wait until the server has ended or truncated the stream.

        Args:
            within: seconds of Trio's clock; by default the client's timeout.

        Raises:
            trio.TooSlowError: it has not ended in time.
        """
        await self._wait_for("the stream's end", lambda: self.is_over, within)

    def stall(self) -> None:
        """Read nothing more until `resume`: the server fills a buffer of 64 KiB, and then has to wait."""
        if self._may_read.is_set():
            self._may_read = trio.Event()

    def resume(self) -> None:
        """Read again."""
        self._may_read.set()

    async def half_close(self) -> None:
        """End our side of the connection and read on. The server takes it for a disconnect."""
        await self._stream.send_eof()

    def reset(self) -> None:
        """Break the connection, as a client that crashes: what was on its way is lost."""
        self._stream.reset()

    async def _wait_for(
        self, what: str, has_arrived: Callable[[], bool], within: float | None = None
    ) -> None:
        seconds = self._timeout if within is None else within
        with trio.move_on_after(seconds):
            while not has_arrived():
                await self._changed.park()
            return
        raise trio.TooSlowError(f"{what} did not arrive within {seconds:g} s")

    async def _run(self, request: h11.Request, body: bytes) -> None:
        """Send the request, and read until the connection is closed."""
        connection = h11.Connection(h11.CLIENT)
        payload = connection.send(request) or b""
        payload += (connection.send(h11.Data(data=body)) or b"") if body else b""
        payload += connection.send(h11.EndOfMessage()) or b""
        try:
            await self._stream.send_all(payload)
            while not self.is_over:
                event = connection.next_event()
                if event is h11.NEED_DATA:
                    await self._may_read.wait()
                    connection.receive_data(await self._stream.receive_some())
                else:
                    self._take(event)
        except (trio.BrokenResourceError, trio.ClosedResourceError, h11.RemoteProtocolError):
            self.is_cut = True
        finally:
            self._changed.unpark_all()

    def _take(self, event: object) -> None:
        if isinstance(event, h11.Response):
            self.status = event.status_code
            self.headers = Headers([(name.lower(), value) for name, value in event.headers])
            self._has_head = True
        elif isinstance(event, h11.Data):
            data = bytes(event.data)
            self.body += data
            if (self.headers.get("content-type") or "").startswith("text/event-stream"):
                self._events += self._decoder.feed(data)
                self._count_comments(data)
        elif isinstance(event, h11.EndOfMessage):
            self.is_ended = True
        elif isinstance(event, h11.ConnectionClosed):
            self.is_cut = True
        self._changed.unpark_all()

    def _count_comments(self, data: bytes) -> None:
        *lines, self._line = _LINE_END.split(self._line + data)
        self.comments += [line[1:].decode().strip() for line in lines if line.startswith(b":")]


@asynccontextmanager
async def open_stream(
    connection: PipeEnd, request: h11.Request, body: bytes, decoder: EventDecoder, within: float
) -> AsyncIterator[Stream]:
    """Send a request, wait for the response's head, and read on in a task of its own; at the end, disconnect.

    Raises:
        trio.TooSlowError: the response's head does not arrive in time.
    """
    opened = Stream(connection, within, decoder)
    async with connection, open_nursery() as nursery:
        nursery.start_soon(opened._run, request, body)
        await opened._wait_for("the response's head", lambda: opened._has_head or opened.is_over)
        yield opened
