"""Padding before a stream's first event, for browsers that hold back the first bytes of a response."""

from __future__ import annotations

from .._http.request import Request
from .._wire.event import encode_comment
from .._wire.message import Framing, frame

_PADDING = encode_comment(" " * 2047)


def padding(request: Request, framing: Framing) -> bytes:
    """Return what precedes the first event if the client asks for padding, as polyfills of EventSource do."""
    if "padding=" in request.target and request.query.get("padding") == "true":
        return frame(_PADDING, framing)
    return b""
