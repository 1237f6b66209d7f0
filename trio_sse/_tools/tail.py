"""`trio-sse tail`: follow an event stream from a terminal, as `EventSource` would."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import trio

from .._backoff import delay
from .._wire.decoder import EventDecoder
from .._wire.event import ServerSentEvent
from .credentials import without_credentials

_FIRST_RETRY_SECONDS = 3.0  # as browsers do
_LONGEST_RETRY_SECONDS = 60.0
_MALFORMED_URL = "the URL must be like http://host:port/path, with a port of 0 to 65535"


class TailError(Exception):
    """The stream cannot be followed, and another attempt would not help."""


@dataclass(kw_only=True)
class Tail:
    """Follows one URL.

    Args:
        report: is called with a line of text on each connect and disconnect.
        last_event_id: where to resume; kept up to date.
        may_reconnect: reconnect when the stream ends.
        verify: verify the server's certificate.
    """

    url: str
    report: Callable[[str], None]
    headers: Sequence[tuple[str, str]] = ()
    last_event_id: str = ""
    may_reconnect: bool = True
    verify: bool = True
    _retry_seconds: float = _FIRST_RETRY_SECONDS
    _failures: int = 0
    _is_connected: bool = False

    async def events(self) -> AsyncGenerator[ServerSentEvent, None]:
        """Yield the events, over as many connections as needed.

        Raises:
            TailError: the server says that there is no such stream, the request cannot be made, or the first
                attempt fails and `may_reconnect` is false.
        """
        timeout = httpx.Timeout(10, read=None)
        async with httpx.AsyncClient(timeout=timeout, verify=self.verify, follow_redirects=True) as client:
            while True:
                try:
                    async with aclosing(self._connect(client)) as events:
                        async for event in events:
                            yield event
                    self.report("the stream has ended")
                except (httpx.InvalidURL, httpx.UnsupportedProtocol):
                    # Not their texts, nor their tracebacks: these quote parts of the URL, and so credentials.
                    raise TailError(_MALFORMED_URL) from None
                except (ValueError, httpx.LocalProtocolError) as error:
                    raise TailError(str(error)) from error
                except httpx.HTTPError as error:
                    text = _describe(error)
                    if not (self.may_reconnect or self._is_connected):
                        raise TailError(text) from error
                    self._failures += 1
                    self.report(text)
                if not self.may_reconnect:
                    return
                await self._wait()

    async def _connect(self, client: httpx.AsyncClient) -> AsyncGenerator[ServerSentEvent, None]:
        self._is_connected = False
        async with client.stream("GET", self.url, headers=self._fields()) as response:
            _check(response)
            self._is_connected = True
            self._failures = 0
            resumed = f", resumed after {self.last_event_id}" if self.last_event_id else ""
            self.report(f"connected to {without_credentials(self.url)}{resumed}")
            decoder = EventDecoder(last_event_id=self.last_event_id)
            async for piece in response.aiter_bytes():
                events = decoder.feed(piece)
                self.last_event_id = decoder.last_event_id  # a block without data sets it, too
                for event in events:
                    yield event
                if decoder.retry is not None:
                    self._retry_seconds = decoder.retry / 1000

    def _fields(self) -> list[tuple[bytes, bytes]]:
        """Return the request's headers. Those of the caller replace ours, but not a newer event id."""
        names = {name.lower() for name, _ in self.headers}
        own = {"Accept": "text/event-stream", "Cache-Control": "no-cache"}
        fields = [(name, value) for name, value in own.items() if name.lower() not in names]
        fields += self.headers
        if self.last_event_id:
            fields = [(name, value) for name, value in fields if name.lower() != "last-event-id"]
            fields.append(("Last-Event-ID", self.last_event_id))
        return [(name.encode(), value.encode()) for name, value in fields]  # UTF-8, as WHATWG says

    async def _wait(self) -> None:
        if self._failures:
            backoff = delay(self._failures, self._retry_seconds, _LONGEST_RETRY_SECONDS)
            seconds = max(self._retry_seconds, backoff)
        else:
            seconds = min(self._retry_seconds, _LONGEST_RETRY_SECONDS)
        self.report(f"reconnecting in {seconds:.1f} s")
        await trio.sleep(seconds)


def _check(response: httpx.Response) -> None:
    """Raise unless a response is an event stream."""
    status = response.status_code
    if status == 204:
        raise TailError("the server answered 204: no more events")
    if status == 429 or status >= 500:
        raise httpx.HTTPStatusError(f"{status}", request=response.request, response=response)
    if status != 200:
        raise TailError(f"the server answered {status} {response.reason_phrase}")
    kind = response.headers.get("Content-Type", "nothing").partition(";")[0]
    if kind != "text/event-stream":
        raise TailError(f"not an event stream: the Content-Type is {kind}, not text/event-stream")


def _describe(error: httpx.HTTPError) -> str:
    cause: BaseException | None = error
    while cause is not None and not str(cause):  # for a refused certificate, only the cause has a text
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {cause or ''}"


def format_event(event: ServerSentEvent, *, as_json: bool) -> str:
    """Return an event as its fields, a line each, or as one line of JSON."""
    if as_json:
        named = {"id": event.id, "event": event.event, "data": event.data, "retry": event.retry}
        return json.dumps({name: value for name, value in named.items() if value is not None})
    lines = [f"{name}: {value}" for name, value in (("id", event.id), ("event", event.event)) if value]
    lines += [f"data: {line}" for line in str(event.data).split("\n")]
    return "\n".join([*lines, ""])
