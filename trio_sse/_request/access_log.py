"""The access log's lines about requests that are not answered by an event stream.

Streams and WebSockets have lines of their own, when they open and when they close: see
`_stream/lifecycle.py`.
"""

from __future__ import annotations

from typing import NamedTuple

import trio

from .._http.request import Request
from .._logger import get_logger
from .._transport.base import Transport

logger = get_logger("trio_sse.access")


class RequestMark(NamedTuple):
    """When a request's head had arrived, and how many bytes its connection had sent by then."""

    at: float
    bytes_sent: int


def mark_request(transport: Transport) -> RequestMark:
    """Return what `log_request` needs to know of the beginning."""
    return RequestMark(trio.current_time(), transport.bytes_sent)


def log_request(
    mark: RequestMark | None,
    transport: Transport,
    request: Request,
    status: int | None,
    *,
    is_cut: bool = False,
) -> None:
    """Log a request whose answer has been sent, if the access log is on.

    Args:
        mark: of the request; `None` if the access log is off.
        status: `None` if the client has disconnected before its answer began.
        is_cut: the answer is not complete.
    """
    if mark is None:
        return
    peer, path = transport.peer, request.target.partition("?")[0]
    duration, size = trio.current_time() - mark.at, transport.bytes_sent - mark.bytes_sent
    logger.info(
        "request peer=%s method=%s path=%.200s status=%s duration=%.3f bytes=%d%s",
        peer,
        request.method,
        path,
        "-" if status is None else status,
        duration,
        size,
        " cut" if is_cut else "",
        fields={
            "event": "request",
            "peer": peer,
            "method": request.method,
            "path": path,
            "status": status,
            "duration": round(duration, 3),
            "bytes": size,
            "is_cut": is_cut,
        },
    )
