"""A client for tests, in memory: without ports or threads, and without waiting if the clock is a mock clock.

::

    async def test_prices(autojump_clock: trio.testing.MockClock) -> None:
        async with Client(app) as client, client.stream("/prices/ABC") as stream:
            await sse.hub.publish("prices/ABC", "42")
            assert (await stream.event()).data == "42"
            await trio.sleep(61)
            assert stream.keepalives == 4

The client reads its streams continuously, as browsers do, so the server never waits for the test to read. An
endless stream ends with its block. What a test waits for must arrive within `timeout` seconds of Trio's
clock.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from http.cookies import SimpleCookie
from types import TracebackType
from typing import final

import h11
import trio
import trio.testing

from ._asgi.types import ASGIApp
from ._http.request import Headers
from ._server.server import Server
from ._wire.decoder import EventDecoder
from ._wire.event import ServerSentEvent

__all__ = ["Client", "ClientResponse", "Stream"]

_LINE_END = re.compile(b"\r\n|\r|\n")


@final
@dataclass(frozen=True, slots=True)
class ClientResponse:
    """A whole response.

    Attributes:
        is_cut: the server has truncated it, so the body is incomplete.
    """

    status: int
    headers: Headers
    body: bytes
    is_cut: bool = field(default=False, kw_only=True)

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode()

    def json(self) -> object:
        """Parse the body as JSON."""
        return json.loads(self.body)


@final
class Client:
    """A client of a `Server`, or of any ASGI app, for which it creates a server.

    Entering its context starts the server and the app; leaving it cancels them, so all streams end. The
    client stores the cookies that it receives, and sends them with later requests.

    Args:
        app: a `trio_sse.Server` or an ASGI app.
        timeout: seconds within which everything that a test waits for must arrive.
        headers: header fields of all requests.
    """

    __test__ = False

    def __init__(
        self, app: Server | ASGIApp, *, timeout: float = 30.0, headers: Mapping[str, str] | None = None
    ) -> None:
        self.server = app if isinstance(app, Server) else Server(app)
        self.cookies: dict[str, str] = {}
        self._timeout = timeout
        self._headers = dict(headers or {})
        self._nursery_manager = _open_nursery()
        self._nursery: trio.Nursery
        self._connect: Callable[[trio.abc.Stream, str], None]

    async def __aenter__(self) -> Client:
        self._nursery = await self._nursery_manager.__aenter__()
        try:
            self._connect = await self._nursery.start(self.server.serve_in_memory)
        except BaseException as error:
            await self._nursery_manager.__aexit__(type(error), error, error.__traceback__)
            raise
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._nursery_manager.__aexit__(kind, error, traceback)

    async def get(self, path: str, *, headers: Mapping[str, str] | None = None) -> ClientResponse:
        """Request a whole response; see `request`."""
        return await self.request("GET", path, headers=headers)

    async def post(
        self, path: str, *, body: bytes | str = b"", headers: Mapping[str, str] | None = None
    ) -> ClientResponse:
        """Request a whole response; see `request`."""
        return await self.request("POST", path, body=body, headers=headers)

    async def request(
        self,
        method: str,
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
    ) -> ClientResponse:
        """Send a request and return the whole response.

        Raises:
            trio.TooSlowError: it does not end in time; an event stream usually does not.
        """
        async with self.stream(path, method=method, headers=headers, body=body) as stream:
            await stream.wait_over()
            return ClientResponse(stream.status, stream.headers, stream.body, is_cut=stream.is_cut)

    @asynccontextmanager
    async def stream(
        self,
        path: str,
        *,
        method: str = "GET",
        last_event_id: str | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | str = b"",
    ) -> AsyncIterator[Stream]:
        """Open an event stream, or any other response; leaving the context closes the connection.

        Raises:
            trio.TooSlowError: the response's head does not arrive in time.
        """
        data = body.encode() if isinstance(body, str) else body
        fields = {"Host": "test", **self._headers, **(headers or {}), "Connection": "close"}
        if data or method in ("POST", "PUT", "PATCH"):
            fields["Content-Length"] = str(len(data))
        if last_event_id is not None:
            fields["Last-Event-ID"] = last_event_id
        if self.cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        ours, theirs = trio.testing.memory_stream_pair()
        opened = Stream(ours, self._timeout, EventDecoder(last_event_id=last_event_id or ""))
        self._connect(theirs, "test")
        request = h11.Request(method=method, target=path, headers=list(fields.items()))
        async with ours, _open_nursery() as nursery:
            nursery.start_soon(opened._run, request, data)
            await opened._wait_for("the response's head", lambda: opened._has_head or opened.is_over)
            self._keep_cookies(opened.headers)
            yield opened

    def _keep_cookies(self, headers: Headers) -> None:
        for value in headers.get_all("set-cookie"):
            for name, morsel in SimpleCookie(value).items():
                if morsel.value and morsel["max-age"] != "0":
                    self.cookies[name] = morsel.value
                else:
                    self.cookies.pop(name, None)


@final
class Stream:
    """A response that is being received; created by `Client.stream`.

    Attributes:
        status: the response's status; 0 if the server has closed the connection without a response.
        headers: the response's header fields.
        body: the bytes of the body so far.
        comments: the texts of the comments so far; that of a keepalive is empty.
        is_ended: the body is complete.
        is_cut: the connection was closed before the body was complete.
    """

    def __init__(self, stream: trio.abc.Stream, timeout: float, decoder: EventDecoder) -> None:
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

    async def wait_over(self) -> None:
        """Wait until the server has ended or truncated the stream."""
        await self._wait_for("the stream's end", lambda: self.is_over)

    async def _wait_for(self, what: str, has_arrived: Callable[[], bool]) -> None:
        with trio.move_on_after(self._timeout):
            while not has_arrived():
                await self._changed.park()
            return
        raise trio.TooSlowError(f"{what} did not arrive within {self._timeout:g} s")

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
                    connection.receive_data(bytes(await self._stream.receive_some()))
                else:
                    self._take(event)
        except (trio.BrokenResourceError, h11.RemoteProtocolError):
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
async def _open_nursery() -> AsyncIterator[trio.Nursery]:
    """Open a nursery that is cancelled at the end of its block, and raises the block's exception unwrapped.

    So a test's report shows its failed assertion, and `pytest.raises` finds the error outside a group.
    """
    own: Exception | None = None
    try:
        async with trio.open_nursery() as nursery:
            try:
                yield nursery
            except Exception as error:
                own = error  # raised below, outside the nursery
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if own is not None:
            raise BaseExceptionGroup(group.message, [own, *group.exceptions]) from None
        raise
    if own is not None:
        raise own
