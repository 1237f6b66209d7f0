"""`trio-sse tail`: follow an event stream from a terminal, as `EventSource` would."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass

import httpx
import trio

from .._wire.decoder import EventDecoder
from .._wire.event import ServerSentEvent

_FIRST_RETRY_SECONDS = 3.0  # as browsers do
_LONGEST_RETRY_SECONDS = 60.0

Say = Callable[[str], None]


class TailError(Exception):
    """The stream can't be followed, and trying again wouldn't help."""


@dataclass(kw_only=True)
class Tail:
    """Follows one URL.

    Args:
        say: is told what happens to the connection.
        last_event_id: where to resume from; kept up to date.
        may_reconnect: come back when the stream ends.
    """

    url: str
    say: Say
    headers: Sequence[tuple[str, str]] = ()
    last_event_id: str = ""
    may_reconnect: bool = True
    verify: bool = True
    _retry_seconds: float = _FIRST_RETRY_SECONDS
    _failures: int = 0
    _is_connected: bool = False

    async def events(self) -> AsyncGenerator[ServerSentEvent, None]:
        """Give the events, over as many connections as it takes.

        Raises:
            TailError: the server says that there is no such stream, the request can't be made, or there is no
                stream to begin with and `may_reconnect` is false.
        """
        timeout = httpx.Timeout(10, read=None)
        async with httpx.AsyncClient(timeout=timeout, verify=self.verify, follow_redirects=True) as client:
            while True:
                try:
                    async with aclosing(self._connect(client)) as events:
                        async for event in events:
                            yield event
                    self.say("the stream has ended")
                except (
                    ValueError,
                    httpx.InvalidURL,
                    httpx.UnsupportedProtocol,
                    httpx.LocalProtocolError,
                ) as error:
                    raise TailError(str(error)) from error
                except httpx.HTTPError as error:
                    text = _describe(error)
                    if not (self.may_reconnect or self._is_connected):
                        raise TailError(text) from error
                    self._failures += 1
                    self.say(text)
                if not self.may_reconnect:
                    return
                await self._wait()

    async def _connect(self, client: httpx.AsyncClient) -> AsyncGenerator[ServerSentEvent, None]:
        self._is_connected = False
        names = {name.lower() for name, _ in self.headers}
        own = {"Accept": "text/event-stream", "Cache-Control": "no-store"}
        fields = [(name, value) for name, value in own.items() if name.lower() not in names]
        fields += self.headers
        if self.last_event_id:  # newer than one that was given
            fields = [(name, value) for name, value in fields if name.lower() != "last-event-id"]
            fields.append(("Last-Event-ID", self.last_event_id))
        headers = [(name.encode(), value.encode()) for name, value in fields]  # UTF-8, as WHATWG says
        async with client.stream("GET", self.url, headers=headers) as response:
            self._check(response)
            self._is_connected = True
            self._failures = 0
            resumed = f", resumed after {self.last_event_id}" if self.last_event_id else ""
            self.say(f"connected to {self.url}{resumed}")
            decoder = EventDecoder(last_event_id=self.last_event_id)
            async for piece in response.aiter_bytes():
                events = decoder.feed(piece)
                self.last_event_id = decoder.last_event_id  # also of a block without data, which is no event
                for event in events:
                    yield event
                if decoder.retry is not None:
                    self._retry_seconds = decoder.retry / 1000

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status == 204:
            raise TailError("the server says that there is nothing more to come (204)")
        if status == 429 or status >= 500:
            raise httpx.HTTPStatusError(f"{status}", request=response.request, response=response)
        if status != 200:
            raise TailError(f"the server answers {status} {response.reason_phrase}")
        kind = response.headers.get("Content-Type", "nothing").partition(";")[0]
        if kind != "text/event-stream":
            raise TailError(f"this is no event stream: its Content-Type is {kind}, not text/event-stream")

    async def _wait(self) -> None:
        backoff = min(self._retry_seconds * 2 ** min(self._failures, 6), _LONGEST_RETRY_SECONDS)
        seconds = max(self._retry_seconds, backoff * random.uniform(0.5, 1)) if self._failures else backoff
        self.say(f"reconnecting in {seconds:.1f} s")
        await trio.sleep(seconds)


def _describe(error: httpx.HTTPError) -> str:
    cause: BaseException | None = error
    while cause is not None and not str(cause):  # a refused certificate, say, is told by the cause only
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {cause or ''}"


def format_event(event: ServerSentEvent, *, as_json: bool) -> str:
    """Give an event as its fields, line by line, or as one line of JSON."""
    if as_json:
        named = {"id": event.id, "event": event.event, "data": event.data, "retry": event.retry}
        return json.dumps({name: value for name, value in named.items() if value is not None})
    lines = [f"{name}: {value}" for name, value in (("id", event.id), ("event", event.event)) if value]
    lines += [f"data: {line}" for line in str(event.data).split("\n")]
    return "\n".join([*lines, ""])
