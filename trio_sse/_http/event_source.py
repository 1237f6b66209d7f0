"""The clients of streams: which of them are `EventSource`, and how that is refused so that it reconnects.

An `EventSource` gives up for good after any error status (WHATWG HTML, 9.2.3), also after a 503 that says
when to try again. So where the server is only full or shutting down, it gets a stream that consists of a
reconnection time, and ends. Every other client gets the error.
"""

from __future__ import annotations

from .exceptions import HTTPException, TemporaryRefusal
from .request import Headers, mentions
from .response import STREAM_FIELDS, Response, error_response


def takes_blocks(headers: Headers) -> bool:
    """Return whether a client makes no message of a block without data.

    By the WHATWG algorithm (HTML, 9.2.6), such a block sets the last event id, and dispatches nothing. Two
    widely used clients emit an empty message for it: httpx-sse and, in browsers,
    @microsoft/fetch-event-source.

    An `EventSource` sends `Cache-Control: no-cache`, since its cache mode is "no-store" (WHATWG HTML, 9.2.2,
    and Fetch, 4.6). A page's own `fetch` does not, by default; that it is a page's is seen by
    `Sec-Fetch-Mode`. httpx-sse sends `Cache-Control: no-store`.
    """
    if mentions(headers, b"cache-control"):
        caching = (headers.get("cache-control") or "").lower()
        if "no-cache" in caching:
            return True
        if "no-store" in caching:
            return False
    return "sec-fetch-mode" not in headers


def is_event_source(headers: Headers) -> bool:
    """Return whether a request is that of an `EventSource`: it accepts nothing but an event stream.

    Programs that send `Cache-Control` choose another value than a browser does; see `takes_blocks`.
    """
    accept = headers.get_all("accept")  # a list may be on several lines (RFC 9110, 5.3)
    if len(accept) != 1 or accept[0].lower() != "text/event-stream":
        return False
    caching = headers.get_all("cache-control")
    return [value.lower() for value in caching] == ["no-cache"] if caching else takes_blocks(headers)


def refusal_response(error: HTTPException, headers: Headers) -> Response:
    """Return the response that an exception asks for, to a request with these headers."""
    if not isinstance(error, TemporaryRefusal) or not is_event_source(headers):
        return error_response(error)
    return Response(
        f"retry: {error.retry_seconds * 1000:.0f}\n\n",
        content_type=STREAM_FIELDS["Content-Type"],
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no", "Vary": "Accept"},
    )
