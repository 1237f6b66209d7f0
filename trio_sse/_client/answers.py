"""What a client makes of a response's head, and how it leaves the body."""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import AsyncIterator
from email.utils import parsedate_to_datetime

import httpx
import trio

from .errors import StreamRefused

# Among the errors of the client's, those after which another attempt makes sense.
_TEMPORARY = (408, 425, 429)


class TryAgain(Exception):
    """The response is no stream for now; `seconds` says how long the server asks to wait, or 0."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(reason)
        self.seconds = seconds


def check_response(response: httpx.Response) -> bool:
    """Return whether a response is an event stream; `False` if the server says that there is nothing more.

    Raises:
        TryAgain: not now.
        StreamRefused: never.
    """
    status = response.status_code
    if status == 204:
        return False
    if status >= 500 or status in _TEMPORARY:
        raise TryAgain(f"the server answered {status}", _retry_after(response))
    if status != 200:
        raise StreamRefused(status, f"the server answered {status} {response.reason_phrase}".rstrip())
    kind = response.headers.get("Content-Type", "nothing").partition(";")[0].strip().lower()
    if kind != "text/event-stream":
        text = f"not an event stream: the Content-Type is {kind[:80]}, not text/event-stream"
        raise StreamRefused(status, text)
    return True


def _retry_after(response: httpx.Response) -> float:
    """Return the seconds of a `Retry-After` (RFC 9110, 10.2.3); 0 if there is none, or it makes no sense."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit() and len(text) < 10:
        return float(text)
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except (ValueError, TypeError, OverflowError):
        return 0.0
    return seconds if 0 < seconds < math.inf else 0.0


def describe(error: BaseException) -> str:
    """Return an error of the network for people to read."""
    cause: BaseException | None = error
    while cause is not None and not str(cause):  # for a refused certificate, only the cause has a text
        cause = cause.__cause__ or cause.__context__
    return f"{type(error).__name__}: {cause or ''}"


async def end_iteration(chunks: AsyncIterator[bytes]) -> None:
    """End an iteration over a response's body.

    It is a chain of generators, of which only the first could be closed. A cancellation, which is raised in
    the last one, ends them all.
    """
    with trio.CancelScope(shield=True) as scope, contextlib.suppress(httpx.HTTPError, StopAsyncIteration):
        scope.cancel()
        while True:
            await anext(chunks)
