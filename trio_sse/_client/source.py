"""`EventSource` for Python: follows a URL over as many connections as needed."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Self, TypeVar, final

import httpx
import trio

from .._validate import check_bounds, check_seconds
from .._wire.cursor import HEARTBEAT_EVENT
from .._wire.decoder import EventDecoder
from .._wire.event import MAX_DATA_SIZE, ServerSentEvent
from .answers import TryAgain, check_response, describe, end_iteration
from .errors import StreamRefused, StreamUnavailable
from .idle_limit import IdleLimit
from .reconnecting import DEFAULT_SECONDS, ReconnectPolicy
from .status import STREAM_ENDED, OnStatus, SourceStatus

_MALFORMED_URL = "the URL must be like http://host:port/path, with a port of 0 to 65535"
E = TypeVar("E", bound=Exception)


@final
class EventSource:
    """Follows an event stream, and reconnects with its cursor: `async with`, and in it `async for`.

    ::

        async with EventSource("https://example.org/updates") as source:
            async for event in source:
                print(event.event, event.data)

    It reconnects when a stream ends or breaks, when nothing has arrived for too long, and when the server is
    away. Each attempt sends `Last-Event-ID`, so a server that can replay loses nothing; one that cannot says
    so by an event `reset`, which is returned like any other. The iteration ends when the server answers 204.

    One task iterates. If that is cancelled, no event is lost: the next iteration reconnects, at most once per
    delay, and continues after the last event that was returned. Without `reconnect`, the request is not sent
    again, so the next iteration returns what had arrived, and then raises `StreamUnavailable`. Leaving the
    context closes the connection.

    Args:
        url: http or https.
        method, content: of the request. Anything but GET is sent once, unless `reconnect` is true.
        headers: further header fields; they replace ours of the same name.
        last_event_id: where to begin.
        reconnect: whether to reconnect. `False` raises what the first failure was, and ends the iteration
            with the stream. By default, it is whether the method is GET.
        first_delay, longest_delay: seconds between attempts, as long as the server says nothing else.
        idle_timeout: how many seconds may pass without a byte until the connection is taken for dead;
            `None` for any number. It is doubled for servers that are quiet and send no keepalives.
        connect_timeout: how many seconds the server has for the response's head.
        max_event_size: how many bytes an event may have.
        verify: whether to verify the server's certificate.
        client: a client of your own, which stays open; its timeouts of reading do not count.
        on_status: called when the status changes.

    Raises:
        TypeError, ValueError: an option is not acceptable.
    """

    def __init__(
        self,
        url: str,
        *,
        method: str = "GET",
        content: str | bytes | None = None,
        headers: Mapping[str, str] | Iterable[tuple[str, str]] = (),
        last_event_id: str = "",
        reconnect: bool | None = None,
        first_delay: float = DEFAULT_SECONDS,
        longest_delay: float = 60.0,
        idle_timeout: float | None = 20.0,
        connect_timeout: float = 10.0,
        max_event_size: int = 4 * MAX_DATA_SIZE,
        verify: bool = True,
        client: httpx.AsyncClient | None = None,
        on_status: OnStatus | None = None,
    ) -> None:
        check_seconds(first_delay=first_delay, longest_delay=longest_delay, connect_timeout=connect_timeout)
        if idle_timeout is not None:
            check_seconds(idle_timeout=idle_timeout)
        check_bounds(1, max_event_size=max_event_size)
        self._url = url
        self._method = method
        self._content = content
        self._headers = list(headers.items() if isinstance(headers, Mapping) else headers)
        self._may_reconnect = method == "GET" if reconnect is None else reconnect
        self._policy = ReconnectPolicy(first_delay, longest_delay)
        self._idle = IdleLimit(math.inf if idle_timeout is None else idle_timeout)
        self._connect_timeout = connect_timeout
        self._max_event_size = max_event_size
        self._verify = verify
        self._own_client = client is None
        self._client = client
        self._on_status = on_status
        self._status = SourceStatus.WAITING
        self._decoder = EventDecoder(last_event_id=last_event_id, max_size=max_event_size)
        self._events: deque[tuple[ServerSentEvent, str]] = deque()  # with the cursor after each
        self._cursor = last_event_id
        self._response: httpx.Response | None = None
        self._chunks: AsyncIterator[bytes] | None = None
        self._opened_at = 0.0
        self._not_before = -math.inf  # when the next attempt may be made
        self._has_events = False  # in this response
        self._was_tried = False  # so what is wrong is not the request
        self._is_iterating = False
        self._is_entered = False
        self._is_over = False  # there is nothing more to come

    def __repr__(self) -> str:
        return f"<EventSource {self._status.value}>"  # not the URL, which may have credentials

    @property
    def status(self) -> SourceStatus:
        """What it does at this moment."""
        return self._status

    @property
    def last_event_id(self) -> str:
        """The cursor: the id of the last event that was returned, or what the server has sent since."""
        return self._cursor if self._events else self._decoder.last_event_id

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise RuntimeError("this EventSource has been entered already: make another one")
        self._is_entered = True
        if self._client is None:
            self._client = httpx.AsyncClient(verify=self._verify, follow_redirects=True)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        try:
            self._become(SourceStatus.CLOSED, "it was left")
        finally:  # `on_status` may have raised
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await self._close_response()
                if self._own_client and client is not None:
                    await client.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> ServerSentEvent:
        """Wait for the next event and return it.

        Raises:
            StopAsyncIteration: the server has no more events; or, without reconnecting, the stream has ended.
            StreamRefused: the server refuses the stream, and another attempt would not help.
            StreamUnavailable: without reconnecting, an attempt has failed or was cancelled.
            ValueError: an event is larger than `max_event_size`.
            trio.ClosedResourceError: its context was not entered, or was left.
            trio.BusyResourceError: another task iterates.
        """
        if not self._is_entered or self._client is None:
            raise trio.ClosedResourceError("use an EventSource inside its own `async with`")
        if self._is_iterating:
            raise trio.BusyResourceError("another task iterates over this EventSource")
        self._is_iterating = True
        try:
            await trio.lowlevel.checkpoint()
            while not self._events:
                if self._is_over:
                    raise StopAsyncIteration
                if self._chunks is None:
                    await self._connect(self._client)
                else:
                    await self._receive(self._chunks)
        finally:
            self._is_iterating = False
        event, self._cursor = self._events.popleft()
        return event

    # Connecting

    async def _connect(self, client: httpx.AsyncClient) -> None:
        """Wait until an attempt may be made, and make it."""
        if self._was_tried and not self._may_reconnect:  # otherwise its end is known
            reason = "the iteration was cancelled, and the request is sent only once"
            raise self._refused(StreamUnavailable(reason))
        self._become(SourceStatus.WAITING, "the iteration was cancelled")  # it waits already after a failure
        await trio.sleep_until(self._not_before)
        self._not_before = trio.current_time() + self._policy.next_delay()  # should it be cancelled
        self._become(SourceStatus.CONNECTING, "")
        try:
            request = self._request(client)
            with trio.fail_after(self._connect_timeout), self._library_errors():
                await self._close_response()
                self._response = await client.send(request, stream=True, follow_redirects=True)
            has_events = check_response(self._response)
        except (httpx.InvalidURL, httpx.UnsupportedProtocol):
            # Not their texts, nor their tracebacks: these quote parts of the URL, and so credentials.
            raise self._refused(ValueError(_MALFORMED_URL)) from None
        except (ValueError, httpx.LocalProtocolError) as error:
            raise self._refused(ValueError(str(error))) from error
        except StreamRefused as error:
            raise self._refused(error)  # noqa: B904  # it is the same one
        except TryAgain as error:
            await self._fail(str(error), error.seconds)
        except trio.TooSlowError:
            await self._fail(f"the server did not answer within {self._connect_timeout:g} s")
        except httpx.HTTPError as error:
            await self._fail(describe(error))
        else:
            if has_events:
                self._begin(self._response)
            else:
                self._is_over = True
                await self._close_response()
                self._become(SourceStatus.CLOSED, "the server answered 204: no more events")

    @contextmanager
    def _library_errors(self) -> Iterator[None]:
        """Take other errors for errors of the network, once a stream was open or an attempt was cancelled.

        The HTTP/2 of httpx may raise any error after a cancellation.
        """
        try:
            yield
        except trio.Cancelled:
            self._was_tried = True
            raise
        except (httpx.UnsupportedProtocol, trio.TooSlowError):
            raise
        except Exception as error:
            if not self._was_tried:
                raise
            raise httpx.TransportError(describe(error)) from error

    def _request(self, client: httpx.AsyncClient) -> httpx.Request:
        return client.build_request(
            self._method,
            self._url,
            headers=self._fields(),
            content=self._content,
            timeout=httpx.Timeout(self._connect_timeout, read=None),
        )

    def _fields(self) -> list[tuple[bytes, bytes]]:
        """Return the request's header fields. Those of the caller replace ours, but not a newer cursor."""
        names = {name.lower() for name, _ in self._headers}
        own = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        fields = [(name, value) for name, value in own.items() if name.lower() not in names]
        fields += self._headers
        # Spaces at the ends of a field's value are no part of it (RFC 9110, 5.5), and are refused.
        if cursor := self._decoder.last_event_id.strip(" \t"):
            fields = [(name, value) for name, value in fields if name.lower() != "last-event-id"]
            if "\v" in cursor or "\f" in cursor:
                raise ValueError("the stream's last id has characters that no header field can have")
            fields.append(("Last-Event-ID", cursor))
        return [(name.encode(), value.encode()) for name, value in fields]  # UTF-8, as WHATWG says

    def _begin(self, response: httpx.Response) -> None:
        cursor = self._decoder.last_event_id
        self._decoder = EventDecoder(last_event_id=cursor, max_size=self._max_event_size)
        self._chunks = response.aiter_bytes()
        self._opened_at = trio.current_time()
        self._has_events = False
        self._was_tried = True
        self._idle.note_open()
        self._become(SourceStatus.OPEN, f"resumed after {cursor}" if cursor else "")

    # Receiving

    async def _receive(self, chunks: AsyncIterator[bytes]) -> None:
        """Receive some bytes, or note when the next attempt may be made."""
        self._take(b"")  # raises what is wrong after the last events
        try:
            with trio.fail_after(self._idle.seconds), self._library_errors():
                data = await anext(chunks, None)
        except trio.TooSlowError:
            seconds = self._idle.seconds
            self._idle.note_silence()
            await self._lose(f"nothing has arrived for {seconds:g} s")
        except httpx.HTTPError as error:
            await self._lose(describe(error))
        except BaseException:  # it was cancelled, and httpx has closed the response
            self._chunks = None
            self._policy.note_end(math.inf, has_events=self._has_events)  # which is not the server's failure
            self._not_before = self._opened_at + self._policy.next_delay()
            raise
        else:
            if data is None:
                await self._lose(None)
            else:
                self._idle.note_bytes()
                self._take(data)

    def _take(self, data: bytes) -> None:
        cursor = self._decoder.last_event_id
        try:
            events = self._decoder.feed(data)
        except ValueError:
            self._is_over = True
            self._become(SourceStatus.CLOSED, "an event is too large")
            raise
        self._policy.set_retry(self._decoder.retry)
        for event in events:
            cursor = cursor if event.id is None else event.id
            if event.event != HEARTBEAT_EVENT:
                self._events.append((event, cursor))
                self._has_events = True

    # Ends

    async def _fail(self, reason: str, asked: float = 0.0) -> None:
        """End an attempt that was not answered by a stream."""
        await self._close_response()
        if not self._may_reconnect:
            raise self._refused(StreamUnavailable(reason))
        self._policy.note_failure()
        self._wait(reason, asked)

    async def _lose(self, reason: str | None) -> None:
        """End a stream, which has ended by itself if there is no reason."""
        await self._close_response()
        if not self._may_reconnect:
            if reason is not None:
                raise self._refused(StreamUnavailable(reason))
            self._is_over = True
            self._become(SourceStatus.CLOSED, STREAM_ENDED)
            return
        self._policy.note_end(trio.current_time() - self._opened_at, has_events=self._has_events)
        self._wait(reason or STREAM_ENDED)

    def _wait(self, reason: str, asked: float = 0.0) -> None:
        seconds = self._policy.next_delay(asked)
        self._not_before = trio.current_time() + seconds
        self._become(SourceStatus.WAITING, f"{reason}; reconnecting in {seconds:.1f} s")

    def _refused(self, error: E) -> E:
        self._is_over = True
        self._become(SourceStatus.CLOSED, str(error))
        return error

    async def _close_response(self) -> None:
        response, self._response = self._response, None
        chunks, self._chunks = self._chunks, None
        if chunks is not None:
            await end_iteration(chunks)
        if response is not None:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 1):
                await response.aclose()

    def _become(self, status: SourceStatus, detail: str) -> None:
        is_new, self._status = self._status is not status, status
        if is_new and self._on_status is not None:
            self._on_status(status, detail)
